"""How soon trust notices a fault, and how often it is alarmed by nothing: random trials in lockstep, the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from robot_wm.backend import Model
from robot_wm.bundle import load_bundle
from robot_wm.errors import BundleError
from robot_wm.search import search_named
from robot_wm.timebase import NS_PER_S
from robot_wm.trust_file import TrustSpec, load_trust
from sim.agents import WorldModelAgent
from sim.disturbance import Disturbance
from sim.faults import Fault, FaultyTask, faults_for
from sim.jobs import side_by_side
from sim.lockstep import run_episode
from sim.tasks import Task, make_task

EARLIEST_S = 0.5  # of a fault: what came before has settled
NONE = "none"  # healthy running


@dataclass(frozen=True)
class Trial:
    """One episode: a fault at a random moment, or a healthy one."""

    fault: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What trust made of a trial."""

    trial: Trial
    seconds: float  # of healthy running in it
    false_alarms: int  # in those
    after_s: float | None = None  # from the fault to the first alarm; None: none came in time
    source: str = ""  # what raised it


@dataclass(frozen=True)
class Setting:
    """What all trials share."""

    bundle: Path
    within_s: float = 1.0
    planner: str = "mppi"
    disturbance: Disturbance = field(default_factory=Disturbance)


def trials_for(task: Task, trials: int, healthy_s: float, faults: Sequence[str] = (), seed: int = 0) -> list[Trial]:
    """So many trials of each fault (default: all that the task can have), and healthy episodes that last `healthy_s` together."""
    episode_s = task.length * task.control_dt
    found = [Trial(NONE, seed + i) for i in range(math.ceil(healthy_s / episode_s))]
    return found + [Trial(name, seed + i) for name in (faults or faults_for(task)) for i in range(trials)]


def measure(
    setting: Setting, trials: Iterable[Trial], jobs: int = 1, report: Callable[[Outcome], None] = lambda outcome: None
) -> list[Outcome]:
    """Run the trials, `jobs` at a time. Raises BundleError where the bundle has no trust.yaml."""
    _spec(setting.bundle)
    outcomes = side_by_side(partial(run_trial, setting), trials, jobs, report)
    return sorted(outcomes, key=lambda outcome: (outcome.trial.fault, outcome.trial.seed))


def run_trial(setting: Setting, trial: Trial) -> Outcome:
    """One episode, ended `within_s` after the fault. Of faults of one joint, which one is drawn as the moment is."""
    bundle = load_bundle(setting.bundle)
    task = make_task(bundle.contract.name)
    model = Model(bundle, "cpu")
    spec = _spec(setting.bundle)
    agent = WorldModelAgent(task.contract, model, search=search_named(setting.planner), trust=spec)
    assert agent.trust is not None
    if trial.fault == NONE:
        result = run_episode(task, agent, trial.seed, setting.disturbance)
        return Outcome(trial, len(result.rewards) * task.control_dt, agent.trust.figures.alarms)
    fault = draw_fault(task, trial, setting.within_s)
    faulty = FaultyTask(task, fault, ends_s=fault.at_s + setting.within_s)
    begin = run_episode(cast(Task, faulty), agent, trial.seed, setting.disturbance).start
    onset = begin + round(fault.at_s * NS_PER_S)
    alarms = agent.trust.figures.alarms_at
    before = [stamp for stamp, _ in alarms if stamp < onset]
    after = [((stamp - onset) / NS_PER_S, source) for stamp, source in alarms if stamp >= onset]
    return Outcome(trial, fault.at_s, len(before), *(after[0] if after else (None, "")))


def draw_fault(task: Task, trial: Trial, within_s: float) -> Fault:
    """When and where, from the trial's seed."""
    rng = np.random.default_rng([trial.seed, 4])
    latest = task.length * task.control_dt - within_s
    sizes = {item.name: item.size for item in task.contract.observations}
    at_s, joint = rng.uniform(EARLIEST_S, latest), int(rng.integers(sizes.get("position", 1)))
    return Fault(trial.fault, float(at_s), joint=joint)


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Detection by fault with its 95 % interval (Wilson), and false alarms over all that was healthy."""
    faults: dict[str, Any] = {}
    for name in sorted({outcome.trial.fault for outcome in outcomes} - {NONE}):
        own = [outcome for outcome in outcomes if outcome.trial.fault == name]
        times = [outcome.after_s for outcome in own if outcome.after_s is not None]
        sources = [outcome.source for outcome in own if outcome.source]
        faults[name] = {
            "trials": len(own),
            "detected": len(times),
            "share": len(times) / len(own),
            "interval_95": wilson(len(times), len(own)),
            "after_s_p50": float(np.median(times)) if times else None,
            "after_s_max": max(times, default=None),
            "sources": {source: sources.count(source) for source in sorted(set(sources))},
        }
    seconds, alarms = sum(o.seconds for o in outcomes), sum(o.false_alarms for o in outcomes)
    healthy = {"seconds": seconds, "false_alarms": alarms}
    healthy["false_alarms_in_ten_minutes"] = 600.0 * alarms / seconds if seconds else 0.0
    return {"faults": faults, "healthy": healthy}


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    z = 1.96
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def _spec(path: Path) -> TrustSpec:
    spec = load_trust(load_bundle(path))
    if spec is None:
        raise BundleError(f"{path}: has no trust.yaml, so there is nothing to judge by: `robot-wm trust fit` makes one")
    return spec
