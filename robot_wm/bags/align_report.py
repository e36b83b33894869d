"""What alignment found in a bag: rates, gaps, delays, and what it had to leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from robot_wm.bags.series import Series
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S


class Aligned(Protocol):
    """What is asked of an episode here."""

    @property
    def mask(self) -> FloatArray: ...

    @property
    def step(self) -> int: ...


@dataclass(frozen=True)
class StreamReport:
    """One stream; times in seconds or milliseconds as named."""

    topic: str
    count: int
    rate_hz: float  # 1 / median period
    period_ms_p99: float
    longest_gap_s: float
    delay_ms_p50: float  # log stamp minus header stamp: what recording saw, two clocks' difference included
    delay_ms_p99: float
    left_out: dict[str, int]


@dataclass(frozen=True)
class AlignReport:
    """One bag."""

    bag: str
    streams: dict[str, StreamReport]
    episodes: int
    rows: int
    seconds: float
    masked: dict[str, float]  # fraction of instants without a measurement, by observation
    beyond_range: float  # fraction of action numbers outside low..high
    skipped: dict[str, int]  # stretches of time that made no episode, by reason

    def reasons(self) -> str:
        return ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def describe_stream(series: Series) -> StreamReport:
    """Rates, gaps and delays of one series."""
    periods = np.diff(series.stamps) / NS_PER_S
    delays = (series.receive - series.stamps) / 1e6
    median = float(np.median(periods)) if len(periods) else 0.0
    return StreamReport(
        topic=series.topic,
        count=len(series),
        rate_hz=1.0 / median if median else 0.0,
        period_ms_p99=1e3 * float(np.percentile(periods, 99)) if len(periods) else 0.0,
        longest_gap_s=float(periods.max()) if len(periods) else 0.0,
        delay_ms_p50=float(np.percentile(delays, 50)) if len(delays) else 0.0,
        delay_ms_p99=float(np.percentile(delays, 99)) if len(delays) else 0.0,
        left_out=dict(series.report),
    )


def describe(
    bag: str,
    observations: Mapping[str, Series],
    action: Series,
    reward: Series | None,
    episodes: Sequence[Aligned],
    skipped: dict[str, int],
) -> AlignReport:
    """Sum up one bag."""
    streams = {**observations, "action": action, **({"reward": reward} if reward is not None else {})}
    rows = sum(len(e.mask) for e in episodes)
    masks = np.concatenate([e.mask for e in episodes]) if episodes else np.ones((1, len(observations)))
    return AlignReport(
        bag=bag,
        streams={name: describe_stream(series) for name, series in streams.items()},
        episodes=len(episodes),
        rows=rows,
        seconds=sum((len(e.mask) - 1) * e.step for e in episodes) / NS_PER_S,
        masked={name: float(1.0 - masks[:, i].mean()) for i, name in enumerate(observations)},
        beyond_range=float((np.abs(action.values) > 1.0 + 1e-6).mean()) if len(action) else 0.0,
        skipped=skipped,
    )
