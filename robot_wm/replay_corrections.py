"""What each late observation changed: a bag through the latent filter in the order of arrival, as posterior_node heard it.

Compared is the latent of the present: predicted through what was applied to the last instant before the observation arrived, once
without it and once with it. The difference is told in units of the latents' own spread, so that 1 is as much as one latent of
these bags usually differs from their mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.backend import Model
from robot_wm.bags.arrivals import arrivals, recorded_latents
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import FloatArray, Measurement
from robot_wm.replay_latents import hear, phase_of
from robot_wm.timebase import NS_PER_S, Grid


@dataclass(frozen=True)
class Change:
    """What one late observation did."""

    bag: str  # its path
    observation: str
    time_s: float  # of its arrival, since the bag's beginning
    steps_late: int  # from its instant to the last one before its arrival
    rms: float  # over the components of the latent of the present, after - before


@dataclass
class Corrections:
    """What the observations of some bags did to the latent."""

    changes: list[Change] = field(default_factory=list)  # in the order of arrival
    innovation: dict[str, list[tuple[float, float]]] = field(
        default_factory=dict
    )  # by bag: (time [s], rms) per instant
    outcomes: Counter[str] = field(default_factory=Counter)  # of all observations, late or not
    latents: int = 0
    _sum: FloatArray | float = 0.0
    _squares: FloatArray | float = 0.0

    @property
    def spread(self) -> float:
        """Root mean square distance of the latents from their mean, over instants and components; NaN without any."""
        if not self.latents:
            return float("nan")
        variance = np.asarray(self._squares) / self.latents - (np.asarray(self._sum) / self.latents) ** 2
        return float(np.sqrt(np.maximum(variance, 0.0).mean()))

    def see(self, latent: FloatArray) -> None:
        """One more latent (L,) for the spread."""
        values = latent.astype(np.float64)
        self._sum, self._squares = self._sum + values, self._squares + values**2
        self.latents += 1

    def relative(self, change: Change) -> float:
        """A change in units of the spread; NaN where the latents do not differ."""
        spread = self.spread
        return change.rms / spread if spread > 0.0 else float("nan")

    def figures(self) -> dict[str, Any]:
        """Late observations and how much they changed, in units of the spread, by name and by steps late.

        `{"spread", "outcomes", "observations": {name: {"count", "change_p50", "change_p95", "by_steps_late": {"<steps>": {"count",
        "change_p50", "change_p95"}}}}}`.
        """
        observations: dict[str, Any] = {}
        for name in sorted({change.observation for change in self.changes}):
            own = [change for change in self.changes if change.observation == name]
            steps = sorted({change.steps_late for change in own})
            table = {f"{late}": self._quantiles([c for c in own if c.steps_late == late]) for late in steps}
            observations[name] = self._quantiles(own) | {"by_steps_late": table}
        return {"spread": self.spread, "outcomes": dict(self.outcomes), "observations": observations}

    def _quantiles(self, changes: Sequence[Change]) -> dict[str, Any]:
        values = [self.relative(change) for change in changes]
        p50, p95 = np.percentile(values, [50, 95]).tolist()
        return {"count": len(values), "change_p50": p50, "change_p95": p95}


def replay_corrections(bags: Sequence[Path | str], model: Model) -> Corrections:
    """Let `model` filter what each bag holds, as it arrived.

    Raises:
        BagError: a bag cannot be read.
        ContractError: a bag was recorded under another contract than the bundle's.
    """
    found = Corrections()
    for path in bags:
        _walk(open_bag(path), model, found)
    return found


def _walk(bag: Bag, model: Model, found: Corrections) -> None:
    contract = model.bundle.contract
    if bag.contract is not None:
        contract.require_data_of(bag.contract, f"{bag.path}")
    heard = arrivals(bag, contract)
    first = next((what.stamp for _, what in heard if isinstance(what, Measurement)), None)
    if first is None:
        return
    recorded, grid = recorded_latents(bag), Grid(contract.model_hz)
    phase = phase_of(recorded, grid)
    filter_ = LatentFilter(contract, model, start=(recorded[0][1].stamp if recorded else first) - phase)
    innovation = found.innovation.setdefault(f"{bag.path}", [])
    present, newest = grid.floor(heard[0][0] - phase), -1
    for received, what in heard:
        now, time_s = grid.floor(received - phase), (received - bag.start) / NS_PER_S
        if now > present:  # all that came within one model step is in
            latent = filter_.latent()
            if latent.stamp != newest:
                found.see(latent.values)
                innovation.append((time_s, filter_.innovation()))
            present, newest = now, latent.stamp
        late = now - grid.nearest(what.stamp - phase) if isinstance(what, Measurement) else 0
        before = filter_.predict(grid.stamp(now)).values if late > 0 else None
        correction = hear(filter_, (received, what), phase)
        if before is not None and correction is not None and correction.outcome == "accepted":
            moved = filter_.predict(grid.stamp(now)).values - before
            rms = float(np.sqrt(np.mean(moved**2)))
            found.changes.append(Change(f"{bag.path}", correction.name, time_s, late, rms))
    found.outcomes += filter_.outcomes
