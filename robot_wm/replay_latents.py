"""Replay of recorded latents: what the bag holds, fed to the latent filter as it arrived, must give the same latents again.

Exact in lockstep without an injected perception delay, of which such a bag knows nothing. On a robot the recorder may have heard
two messages in another order than posterior_node, which changes a latent that falls between them and those soon after it; it
hears `latent` a little before everything else; and of the images it does not tell which posterior_node skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.backend import Model
from robot_wm.bags.arrivals import Arrival, arrivals, recorded_latents
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.latent_filter import Correction, LatentFilter
from robot_wm.messages import Applied, Latent, Measurement
from robot_wm.timebase import Grid

TOLERANCE = 1e-5  # of a latent's component, which lies in 0..1; beyond it a latent does not count as reproduced
UNKNOWN = "its measurements were not recorded"


def replay_latents(bags: Sequence[Path | str], models: Mapping[str, Model]) -> dict[str, Any]:
    """Make every recorded latent again; `models` by bundle id.

    Returns `{"latents", "reproduced", "identical", "median_difference", "max_difference", "not_reproduced": {reason: latents}}`;
    the differences are over all that could be made again, reproduced or not.

    Raises:
        BagError: a bag cannot be read.
        ContractError: a bag was recorded under another contract than a bundle's.
    """
    differences: list[float] = []
    reasons: Counter[str] = Counter()
    for path in bags:
        bag = open_bag(path)
        recorded = recorded_latents(bag)
        for bundle_id in {latent.bundle_id for _, latent in recorded}:
            own = [item for item in recorded if item[1].bundle_id == bundle_id]
            if bundle_id not in models:
                reasons[f"bundle {bundle_id} was not given"] += len(own)
                continue
            found = _differences(bag, own, models[bundle_id])
            differences += [difference for difference in found if difference is not None]
            reasons[UNKNOWN] += found.count(None)
    missing, far = reasons.total(), sum(difference > TOLERANCE for difference in differences)
    reasons[f"differs by more than {TOLERANCE:g}"] = far
    return {
        "latents": len(differences) + missing,
        "reproduced": len(differences) - far,
        "identical": differences.count(0.0),
        "median_difference": float(np.median(differences)) if differences else None,
        "max_difference": max(differences, default=None),
        "not_reproduced": {reason: count for reason, count in reasons.items() if count},
    }


def _differences(bag: Bag, recorded: Sequence[tuple[int, Latent]], model: Model) -> list[float | None]:
    """The largest difference of any component of each latent; None where the filter's newest instant is another."""
    contract = model.bundle.contract
    if bag.contract is not None:
        contract.require_data_of(bag.contract, f"{bag.path}")
    grid = Grid(contract.model_hz)
    phase = phase_of(recorded, grid)
    waiting = iter(arrivals(bag, contract))
    coming = next(waiting, None)
    filter_ = LatentFilter(contract, model, start=recorded[0][1].stamp - phase)
    result: list[float | None] = []
    for received, latent in recorded:
        while coming is not None and coming[0] <= received:
            hear(filter_, coming, phase)
            coming = next(waiting, None)
        again = filter_.latent()
        same = grid.nearest(again.stamp) == grid.nearest(latent.stamp - phase)
        result.append(float(np.abs(again.values - latent.values).max()) if same else None)
    return result


def phase_of(recorded: Sequence[tuple[int, Latent]], grid: Grid) -> int:
    """What to subtract from a bag's stamps [ns] so that its instants are those of `grid`: the robot's was one of monotonic time."""
    return recorded[0][1].stamp % grid.step if recorded else 0


def hear(filter_: LatentFilter, arrival: Arrival, phase: int) -> Correction | None:
    """Tell the filter what arrived, on its own grid; what became of it if it is a measurement."""
    heard = replace(arrival[1], stamp=arrival[1].stamp - phase)
    if isinstance(heard, Measurement):
        return filter_.observe(heard)
    if isinstance(heard, Applied):
        filter_.applied(heard)
    elif heard.kind == "start":
        filter_.reset(heard.stamp)
    return None
