"""Closed-loop evaluation of a bundle: episodes in lockstep, one seed each, the same bytes for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from robot_wm.backend import Model
from robot_wm.bags.writer import BagWriter
from robot_wm.bundle import Bundle
from robot_wm.contract import Contract
from robot_wm.errors import RunError
from robot_wm.planner import Planner
from robot_wm.search import Search
from robot_wm.timebase import VirtualClock
from robot_wm.trust_file import load_trust
from robot_wm.trust_ladder import Answers
from sim.agents import WorldModelAgent
from sim.corrections import correction_named
from sim.disturbance import Disturbance
from sim.faults import Fault, FaultyTask
from sim.lockstep import START, EpisodeResult, run_episode, with_actuation_delay
from sim.tasks import Task, make_task


def evaluate(
    bundle: Bundle,
    task_name: str,
    episodes: int,
    seed: int,
    disturbance: Disturbance | None = None,
    compensate: bool = True,
    refinements: int | None = None,
    search: Search | None = None,
    samples: int = 0,
    provider: str = "cpu",
    threads: int = 1,
    bag_of: Callable[[int], Path | None] = lambda index: None,
    progress: Callable[[EpisodeResult], None] = lambda result: None,
    planner: type[Planner] = Planner,
    fault: Fault | None = None,
    trust: str = "act",
    correction: str = "exact",
) -> dict[str, Any]:
    """Run `episodes` with seeds `seed`, `seed + 1`, ... and return the figures.

    Args:
        compensate: tell filter and planner of the actuation delay, as a contract with a measured `action.delay_s` does, and
            plan for the moment at which a plan that takes its time takes effect.
        search: how a plan is improved (default: MPPI).
        samples: per refinement (default: the manifest's).
        refinements: per plan (default: the manifest's budget); there is no deadline in lockstep.
        bag_of: where to record an episode, by its number from 0; None: nowhere.
        planner: what plans.
        fault: what goes wrong in each episode.
        trust: `act` on falling trust as on the robot, `watch` it, or `off`; nothing is judged where the bundle has no trust.yaml.
        correction: how late observations correct the latent (`sim/corrections.py`); those but `exact` are baselines.

    Raises:
        ContractError: the bundle was made for another task.
        RunError: the task cannot have the fault or, without a camera, the disturbance; or there is no such correction.
    """
    disturbance, correcting = disturbance or Disturbance(), correction_named(correction)
    plain = make_task(task_name)
    task = plain if fault is None else cast(Task, FaultyTask(plain, fault))
    task.contract.require_same(bundle.contract, f"bundle {bundle.path}")
    require_cameras(task.contract, disturbance)
    known_delay = disturbance.actuation_delay_s if compensate else 0.0
    contract = with_actuation_delay(task.contract, known_delay)
    model = Model(bundle, provider, threads=threads, samples=samples)
    agent = WorldModelAgent(
        contract,
        model,
        refinements=refinements,
        publish=True,
        planning_delay_s=disturbance.planning_delay_s,
        compensate=compensate,
        search=search,
        planner=planner,
        trust=None if trust == "off" else load_trust(bundle),
        answers=Answers(watch_only=trust == "watch"),
        correction=correcting,
    )
    results = []
    for index in range(episodes):
        bag = bag_of(index)
        writer = None if bag is None else episode_bag(bag, contract)
        try:
            results.append(run_episode(task, agent, seed + index, disturbance, writer))
        finally:
            if writer is not None:
                writer.close()
        progress(results[-1])
    return summarise(results) | {
        "bundle_id": bundle.bundle_id,
        "task": contract.name,
        "seed": seed,
        "refinements": float(np.mean(agent.refinements)),
        "provider": model.provider,
        "disturbance": vars(disturbance),
        "correction": correction,
        "fault": None if fault is None else vars(fault),
        "trust": None if agent.trust is None else agent.trust.figures.summary(),
    }


def summarise(results: list[EpisodeResult]) -> dict[str, Any]:
    """Mean, standard deviation and 95 % interval (normal approximation) of the returns."""
    returns = np.array([result.score for result in results])
    half = 1.96 * returns.std(ddof=1) / np.sqrt(len(returns)) if len(returns) > 1 else 0.0
    return {
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "return_interval_95": [float(returns.mean() - half), float(returns.mean() + half)],
        "returns": returns.tolist(),
        "episodes": len(results),
        "clips": sum(result.clips for result in results),
    }


def require_cameras(contract: Contract, disturbance: Disturbance) -> None:
    """Raises RunError where images shall be disturbed that there are not."""
    d = disturbance
    if not contract.images and (d.image_delay_s is not None or d.image_jitter_s or d.image_dropout or d.occlude_s):
        raise RunError(
            f"{contract.name} has no camera to delay, lose or hide: its readings have a delay, jitter and dropout of their own"
        )


def episode_bag(path: Path, contract: Contract) -> BagWriter:
    """A writer on virtual time: flushed by the episode's stamps, not synced (the collector can be run again)."""
    return BagWriter(path, contract, clock=VirtualClock(START), sync=False)
