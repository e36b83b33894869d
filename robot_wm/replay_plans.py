"""Replay of recorded plans: the same latent, warm start and refinement count must give the same plan again.

Every plan is made anew from what the bag says it was made from: the recorded latent, rolled through the actions in `plan_info`,
and, as its warm start, the recorded plan before it. So one plan that cannot be reproduced does not spoil those after it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.actions import normalise
from robot_wm.backend import Model
from robot_wm.bags.arrivals import recorded_latents
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.contract import Contract
from robot_wm.info import CorrectionInfo, PlanInfo
from robot_wm.messages import FloatArray, Latent, Plan
from robot_wm.planner import Carry, Planner
from robot_wm.search import SEARCHES, search_named
from robot_wm.timebase import NS_PER_S, Grid

TOLERANCE = 1e-5  # normalised action units; beyond it a plan does not count as reproduced


@dataclass(frozen=True)
class RecordedPlan:
    """One plan with all that it was made from; stamps are ROS time [ns]."""

    plan: Plan
    info: PlanInfo
    latents: tuple[Latent, ...]  # those it may have been made from, the likeliest first
    before: Plan | None  # the plan before it, where that was recorded


@dataclass(frozen=True)
class Outcome:
    """What became of one plan: the largest difference of any action, or why there is none."""

    difference: float = 0.0  # SI units
    normalised: float = 0.0  # the same in units of [-1, 1]
    reason: str = ""


def replay_plans(bags: Sequence[Path | str], models: Mapping[str, Model]) -> dict[str, Any]:
    """Make every recorded plan again; `models` by bundle id.

    Returns `{"plans", "reproduced", "identical", "max_difference" [SI], "max_difference_normalised", "unit",
    "not_reproduced": {reason: plans}}`; the differences are over all plans that could be made again, reproduced or not.

    Raises:
        BagError: a bag cannot be read.
        ContractError: a bag was recorded under another contract than a bundle's.
    """
    outcomes: list[Outcome] = []
    units: dict[str, None] = {}
    for path in bags:
        bag = open_bag(path)
        contract = _contract(bag, models)
        units |= dict.fromkeys(unit for unit in contract.action.unit if unit)
        plans, incomplete = recorded_plans(bag, contract)
        outcomes += [Outcome(reason=reason) for reason in incomplete]
        outcomes += [reproduce(recorded, contract, models) for recorded in plans]
    made = [outcome for outcome in outcomes if not outcome.reason]
    far = sum(outcome.normalised > TOLERANCE for outcome in made)
    reasons = Counter(outcome.reason for outcome in outcomes if outcome.reason)
    if far:
        reasons[f"differs by more than {TOLERANCE:g} of half the action range"] = far
    return {
        "plans": len(outcomes),
        "reproduced": len(made) - far,
        "identical": sum(outcome.difference == 0.0 for outcome in made),
        "max_difference": max((outcome.difference for outcome in made), default=None),
        "max_difference_normalised": max((outcome.normalised for outcome in made), default=None),
        "unit": ", ".join(units),
        "not_reproduced": dict(reasons),
    }


def recorded_plans(bag: Bag, contract: Contract) -> tuple[list[RecordedPlan], list[str]]:
    """Every plan that has its `plan_info`, in the order of the bag, and a reason for each that has not."""
    if bag.find("plan") is None and bag.find("plan_info") is None:
        return [], []
    plans = bag.plans(contract) if bag.find("plan") is not None else []
    infos = bag.infos("plan_info", PlanInfo) if bag.find("plan_info") is not None else []
    half = Grid(contract.model_hz).step // 2
    waiting: dict[tuple[int, str], list[tuple[int, PlanInfo]]] = defaultdict(list)
    for stamp, info in infos:
        waiting[info.index, info.bundle_id].append((stamp, info))
    latents: dict[str, list[tuple[int, Latent]]] = defaultdict(list)
    for received, latent in recorded_latents(bag):
        latents[latent.bundle_id].append((received, latent))
    result, incomplete = [], []
    last: Plan | None = None
    for received, plan in plans:
        before = last if last is not None and last.index == plan.index - 1 else None
        last = plan
        found = [item for item in waiting[plan.index, plan.bundle_id] if abs(item[0] - plan.start) < half]
        if not found:
            incomplete.append("its plan_info was not recorded")
            continue
        waiting[plan.index, plan.bundle_id].remove(found[0])
        info = found[0][1]
        instant = plan.start - round(info.latent_age_s * NS_PER_S)
        near = [item for item in latents[plan.bundle_id] if abs(item[1].stamp - instant) < half]
        near.sort(key=lambda item: (item[0] > received, -item[0]))
        result.append(RecordedPlan(plan, info, tuple(latent for _, latent in near), before))
    incomplete += ["only its plan_info was recorded"] * sum(map(len, waiting.values()))
    return result, incomplete


def reproduce(recorded: RecordedPlan, contract: Contract, models: Mapping[str, Model]) -> Outcome:
    """Make one plan again, from the likeliest latent or, of several at its instant, the one that fits best."""
    info, plan = recorded.info, recorded.plan
    model = models.get(info.bundle_id)
    if model is None:
        return Outcome(reason=f"bundle {info.bundle_id} was not given")
    if not recorded.latents:
        return Outcome(reason="its latent was not recorded")
    if info.previous is not None and np.ndim(info.previous) != 2:
        return Outcome(reason="its plan_info tells one action before the start, not two")
    carry = Carry(index=info.index)
    if not info.reset:
        if recorded.before is None:
            return Outcome(reason="the plan before it, its warm start, was not recorded")
        mean = normalise(contract, recorded.before.actions).astype(np.float32)
        carry = Carry(index=info.index, start=recorded.before.start, mean=mean)
    rule = search_named(info.source) if info.source in SEARCHES else None
    planner = Planner(contract, model.with_samples(info.samples), info.seed, search=rule)
    best: Outcome | None = None
    for latent in recorded.latents:
        again = _plan_again(planner, carry, latent, recorded)
        outcome = Outcome(
            difference=float(np.abs(again - plan.actions).max()),
            normalised=float(np.abs(normalise(contract, again) - normalise(contract, plan.actions)).max()),
        )
        if best is None or outcome.normalised < best.normalised:
            best = outcome
        if best.normalised <= TOLERANCE:
            break
    assert best is not None
    return best


def innovation_over_time(bags: Sequence[Path | str], bin_s: float = 1.0) -> list[dict[str, Any]]:
    """What the robot recorded of its corrections, one entry per bag that has them.

    Root mean square of the innovation over each `bin_s` from the bag's beginning; None where nothing was corrected.
    """
    result = []
    for path in bags:
        bag = open_bag(path)
        if bag.find("correction_info") is None:
            continue
        rows = bag.infos("correction_info", CorrectionInfo)
        values = np.array([info.innovation for _, info in rows])
        places = np.array([int((stamp - bag.start) / NS_PER_S / bin_s) for stamp, _ in rows], np.int64)
        bins = range(int(places.max()) + 1) if len(places) else range(0)
        means = [_rms(values[places == number]) for number in bins]
        result.append({
            "bag": bag.path.name,
            "bin_s": bin_s,
            "innovation": means,
            "innovation_p99": float(np.percentile(values, 99)) if len(values) else None,
            "late_steps": sum(info.late_steps for _, info in rows),
        })  # fmt: skip
    return result


def _plan_again(planner: Planner, carry: Carry, latent: Latent, recorded: RecordedPlan) -> FloatArray:
    """The actions (H, A) in SI units that planner_node would answer with."""
    info, start = recorded.info, recorded.plan.start
    values = latent.values.astype(np.float32)
    for row in info.actions:
        values = planner.model.prior(values[None], np.asarray(row, np.float32)[None])[0]
    previous = None if info.previous is None else np.asarray(info.previous)
    predicted = Latent(start, values, latent.bundle_id)
    searched = None if info.searched < 0 else info.searched
    _, plan = planner.plan(
        carry, predicted, start, previous, refinements=info.refinements, searched=searched, doubt=info.doubt
    )
    return plan.actions


def _contract(bag: Bag, models: Mapping[str, Model]) -> Contract:
    """The contract with the limits that held on the robot: the bag's own, or else the first bundle's."""
    own = bag.contract
    for model in models.values():
        if own is None:
            return model.bundle.contract
        own.require_same(model.bundle.contract, f"bundle {model.bundle_id}")
    assert own is not None
    return own


def _rms(values: FloatArray) -> float | None:
    return float(np.sqrt(np.mean(values**2))) if len(values) else None
