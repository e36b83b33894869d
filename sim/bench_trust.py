"""How soon trust notices a fault, and how often it is alarmed by nothing: random trials in lockstep, the same for the same seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from robot_wm.backend import Model
from robot_wm.bundle import load_bundle
from robot_wm.errors import BundleError, RunError
from robot_wm.search import search_named
from robot_wm.timebase import NS_PER_S
from robot_wm.trust_file import TrustSpec, load_trust
from sim.agents import WorldModelAgent
from sim.disturbance import Disturbance
from sim.exploration import Exploring
from sim.faults import IMAGE_FAULTS, Fault, FaultyTask, faults_for, require_fault
from sim.jobs import side_by_side
from sim.lockstep import run_episode
from sim.tasks import Task, make_task

EARLIEST_S = 1.5  # of a fault: what came before has settled
RECOVERY_S = 5.0  # that an episode goes on after a fault that ends
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
    shown_s: float | None = None  # from a camera's fault to its first statistic that is no more usual than one in 500
    recovered_s: float | None = None  # from the end of a fault that ends until trust is normal; None: it was not
    moving: bool = True  # whether the scene moved while a frozen frame was shown: else nothing is wrong with it


@dataclass(frozen=True)
class Setting:
    """What all trials share."""

    bundle: Path
    within_s: float = 1.0
    lasts_s: float = math.inf  # of a fault
    planner: str = "mppi"
    disturbance: Disturbance = field(default_factory=Disturbance)
    noise: float = 0.0  # held noise on the actions (sim/exploration.py), so that the robot keeps moving


def trials_for(task: Task, trials: int, healthy_s: float, faults: Sequence[str] = (), seed: int = 0) -> list[Trial]:
    """So many trials of each fault (default: all that the task can have), and healthy episodes that last `healthy_s` together.

    Raises RunError for a fault that the task cannot have.
    """
    for name in faults:
        require_fault(task, name)
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
    """One episode, ended `within_s` after the fault began or, of a fault that ends, `RECOVERY_S` after that."""
    bundle = load_bundle(setting.bundle)
    task = make_task(bundle.contract.name)
    model = Model(bundle, "cpu")
    spec = _spec(setting.bundle)
    agent = WorldModelAgent(task.contract, model, search=search_named(setting.planner), trust=spec)
    assert agent.trust is not None
    driving = Exploring(agent, task.contract, setting.noise) if setting.noise else agent
    if trial.fault == NONE:
        result = run_episode(task, driving, trial.seed, setting.disturbance)
        return Outcome(trial, len(result.rewards) * task.control_dt, agent.trust.figures.alarms)
    watched_s = setting.lasts_s + RECOVERY_S if math.isfinite(setting.lasts_s) else setting.within_s
    fault = replace(draw_fault(task, trial, watched_s), lasts_s=setting.lasts_s)
    faulty = FaultyTask(task, fault, ends_s=fault.at_s + watched_s)
    begin = run_episode(cast(Task, faulty), driving, trial.seed, setting.disturbance).start
    outcome = _outcome(setting, trial, agent, begin, fault.at_s)
    return replace(outcome, moving=faulty.scene_moves)


def _outcome(setting: Setting, trial: Trial, agent: WorldModelAgent, begin: int, at_s: float) -> Outcome:
    assert agent.trust is not None
    figures, cameras = agent.trust.figures, [item.name for item in agent.contract.images]
    onset = begin + round(at_s * NS_PER_S)

    def since(stamp: int) -> float:
        return (stamp - onset) / NS_PER_S

    before = [stamp for stamp, _ in figures.alarms_at if stamp < onset]
    after = [(since(stamp), source) for stamp, source in figures.alarms_at if 0 <= since(stamp) <= setting.within_s]
    shown: list[float] = []
    if trial.fault in IMAGE_FAULTS:
        shown = [since(at) for at, source in agent.outliers_at if at >= onset and source.split()[0] in cameras]
    ended = [since(stamp) - setting.lasts_s for stamp in figures.normal_at if since(stamp) > setting.lasts_s]
    first = after[0] if after else (None, "")
    return Outcome(trial, at_s, len(before), *first, min(shown, default=None), min(ended, default=None))


def draw_fault(task: Task, trial: Trial, watched_s: float) -> Fault:
    """When and, of faults of one joint, where, from the trial's seed; `watched_s` of the episode are left after it began.

    Raises RunError where the episode is too short for that.
    """
    rng = np.random.default_rng([trial.seed, 4])
    latest = task.length * task.control_dt - watched_s
    if latest <= EARLIEST_S:
        raise RunError(
            f"{task.contract.name}: an episode of {task.length * task.control_dt:g} s is too short for this fault"
        )
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
        shown = [outcome.shown_s for outcome in own if outcome.shown_s is not None]
        recovered = [outcome.recovered_s for outcome in own if outcome.recovered_s is not None]
        faults[name] = {
            "trials": len(own),
            "detected": len(times),
            "share": len(times) / len(own),
            "interval_95": wilson(len(times), len(own)),
            "after": _spread(times),
            "sources": {source: sources.count(source) for source in sorted(set(sources))},
            "shown": {"count": len(shown), **_spread(shown)},
            "recovered": {"count": len(recovered), **_spread(recovered)},
        }
        if name == "frozen_frame":
            moving = [outcome.after_s is not None for outcome in own if outcome.moving]
            faults[name]["moving"] = {"trials": len(moving), "detected": sum(moving)}
    seconds, alarms = sum(o.seconds for o in outcomes), sum(o.false_alarms for o in outcomes)
    healthy = {"seconds": seconds, "false_alarms": alarms}
    healthy["false_alarms_in_ten_minutes"] = 600.0 * alarms / seconds if seconds else 0.0
    return {"faults": faults, "healthy": healthy}


def _spread(seconds: Sequence[float]) -> dict[str, float | None]:
    return {"s_p50": float(np.median(seconds)) if seconds else None, "s_max": max(seconds, default=None)}


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
