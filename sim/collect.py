"""`robot-wm collect`: exploring episodes as bags, several at a time, to train from offline."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.bags.storage import FULL
from robot_wm.bundle import load_bundle
from robot_wm.errors import BagError
from robot_wm.search import search_named
from sim.agents import Agent
from sim.demonstrator import driver
from sim.disturbance import Disturbance
from sim.evaluate import episode_bag, require_cameras
from sim.exploration import HOLD_S, Exploring, HeldActions
from sim.jobs import side_by_side
from sim.lockstep import run_episode
from sim.tasks import Task, contract_of, make_task

UNFINISHED = ".unfinished"  # folder of the bags that are being written


@dataclass(frozen=True)
class Recipe:
    """How episodes are played."""

    task: str
    bundle: Path | None  # made for the task or for its sibling; None: random actions alone
    noise: float = 0.3  # largest exploration strength (sim/exploration.py) ...
    hold_s: float = HOLD_S  # ... and the longest time that a draw of it holds
    planner: str = "mppi"  # robot_wm/search.py
    refinements: int | None = None  # per plan; None: the manifest's budget
    seconds: float = 0.0  # of an episode; 0: the task's
    disturbance: Disturbance = field(default_factory=Disturbance)


@dataclass(frozen=True)
class Played:
    """One episode."""

    score: float
    frames: int  # control steps
    images: int
    size: int  # of the bag [bytes]
    bag: Path


def collect(
    recipe: Recipe,
    out: Path,
    episodes: int,
    seed: int,
    jobs: int = 1,
    report: Callable[[Played], None] = lambda played: None,
    resume: bool = False,
) -> dict[str, Any]:
    """Play `episodes` with seeds `seed`, `seed + 1`, ... in `jobs` processes into the bags `out/episode_0000`, ... and return
    the figures. Of a task that sees `out/full/episode_0000`, ... are the same episodes as its sibling would record them, with every
    state: what a teacher knows (models/teacher.py).

    Equal seeds give equal bags, however many processes. `report` gets each episode as it is done. With `resume` bags that are
    there are left as they are; a bag has its name only once it is whole.

    Raises:
        BagError: a bag of that name exists.
        ContractError: the bundle was made neither for the task nor for its sibling.
        RunError: no such task, nothing can be drawn, or images shall be disturbed where there are none.
    """
    wanted = [(out / f"episode_{index:04d}", seed + index) for index in range(episodes)]
    left = [(bag, own) for bag, own in wanted if not bag.exists()]
    if len(left) < episodes and not resume:
        bag = next(bag for bag, _ in wanted if bag.exists())
        raise BagError(f"{bag}: exists already; go on there with --resume, or choose another --out")
    if not left:
        raise BagError(f"{out}: all {episodes} episodes are there already")
    began = time.monotonic()
    require_cameras(make_task(recipe.task).contract, recipe.disturbance)
    played = side_by_side(partial(_play_one, recipe), left, min(jobs, len(left)), report)
    shutil.rmtree(out / UNFINISHED)
    return {
        "task": recipe.task,
        "bundle_id": None if recipe.bundle is None else load_bundle(recipe.bundle).bundle_id,
        "seed": seed,
        "episodes": len(played),
        "return_mean": float(np.mean([one.score for one in played])),
        "returns": [one.score for one in played],
        "frames": sum(one.frames for one in played),
        "images": sum(one.images for one in played),
        "bytes": sum(one.size for one in played),
        "seconds": time.monotonic() - began,
        "bags": [one.bag for one in played],
    }


def _play_one(recipe: Recipe, episode: tuple[Path, int]) -> Played:
    return play(recipe, *episode)


def play(recipe: Recipe, bag: Path, seed: int) -> Played:
    """Play one episode into `bag`; raises as `collect`."""
    task, agent = _stage(recipe)
    unfinished = bag.parent / UNFINISHED / bag.name
    shutil.rmtree(unfinished, ignore_errors=True)
    sibling = getattr(task, "sibling", "")
    full = unfinished.parent / FULL / bag.name
    shutil.rmtree(full, ignore_errors=True)
    with ExitStack() as stack:
        writer = stack.enter_context(episode_bag(unfinished, task.contract))
        other = stack.enter_context(episode_bag(full, contract_of(sibling))) if sibling else None
        result = run_episode(task, agent, seed, recipe.disturbance, writer, other)
    if sibling:
        (bag.parent / FULL).mkdir(exist_ok=True)
        shutil.rmtree(bag.parent / FULL / bag.name, ignore_errors=True)
        os.rename(full, bag.parent / FULL / bag.name)
    os.rename(unfinished, bag)
    counts = writer.counts
    images = sum(counts.get(f"/{item.topic}", 0) for item in task.contract.images)
    size = sum(file.stat().st_size for file in bag.iterdir())
    return Played(result.score, len(result.rewards), images, size, bag)


@cache
def _stage(recipe: Recipe) -> tuple[Task, Agent]:
    """Who plays where, once per process."""
    task = make_task(recipe.task)
    if recipe.seconds:
        task.length = min(task.length, max(1, round(recipe.seconds / task.control_dt)))
    if recipe.bundle is None:
        return task, HeldActions(task.contract)
    driving = driver(task, load_bundle(recipe.bundle), search_named(recipe.planner), recipe.refinements)
    return task, Exploring(driving, task.contract, recipe.noise, recipe.hold_s)
