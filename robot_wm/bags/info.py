"""What `robot-wm bags info` says of a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.bags.align import Options, align_with_report
from robot_wm.bags.reader import open_bag
from robot_wm.bags.series import Policy
from robot_wm.contract import Contract
from robot_wm.timebase import NS_PER_S


def describe_bag(path: Path, contract: Contract | None = None, policy: Policy | None = None) -> dict[str, Any]:
    """Figures of one bag, plain data; with a contract also what alignment makes of it. Raises BagError."""
    bag = open_bag(path)
    arrivals = bag.arrivals()
    recorded = bag.contract
    figures: dict[str, Any] = {
        "bag": str(path),
        "hash": bag.hash,
        "seconds": bag.seconds,
        "messages": sum(len(stamps) for stamps in arrivals.values()),
        "topics": {t.name: {"type": t.type, **_flow(arrivals[t.name])} for t in bag.topics.values()},
        "events": [f"{(e.stamp - bag.start) / NS_PER_S:.3f} s {e.kind} {e.note}".rstrip() for e in bag.events()],
        "contract": None if recorded is None else f"{recorded.name} {recorded.hash}",
    }
    if contract is not None:
        episodes, report = align_with_report(bag, contract, Options(policy=policy or Policy()))
        figures["episode_rows"] = [len(episode) for episode in episodes]
        figures["aligned"] = report.to_dict()
    return figures


def _flow(stamps: NDArray[np.int64]) -> dict[str, float | int]:
    """Count, median rate and longest silence, by arrival."""
    periods = np.diff(stamps) / NS_PER_S
    median = float(np.median(periods)) if len(periods) else 0.0
    return {
        "count": len(stamps),
        "rate_hz": round(1.0 / median, 2) if median > 0.0 else 0.0,
        "longest_gap_s": float(periods.max()) if len(periods) else 0.0,
    }
