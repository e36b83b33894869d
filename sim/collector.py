"""The flywheel's second process: plays episodes with the newest weights while the first one trains. No torch here."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from robot_wm.backend import Model
from robot_wm.bundle import load_bundle
from robot_wm.errors import RobotWmError, RunError
from sim.agents import RandomAgent, WorldModelAgent
from sim.evaluate import episode_bag, evaluate
from sim.lockstep import run_episode
from sim.tasks import make_task


@dataclass(frozen=True)
class Collect:
    """Play one exploring episode into `bag`, with random actions where there is no `bundle` yet."""

    bag: Path
    seed: int
    bundle: Path | None


@dataclass(frozen=True)
class Evaluate:
    """Play `episodes` without exploration."""

    bundle: Path
    episodes: int
    seed: int


class Collector:
    """Handle of the process; `submit` a job, do something else, `result`."""

    def __init__(self, task: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(task, other), daemon=True, name="collector")
        self._process.start()
        other.close()

    def submit(self, job: Collect | Evaluate) -> None:
        self._pipe.send(job)

    def busy(self) -> bool:
        """Whether a submitted job has no result yet."""
        return not self._pipe.poll()

    def result(self) -> Any:
        """Wait for the oldest job: the return of `Collect`, the figures of `Evaluate`. Raises RunError."""
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise RunError("the collector process died; run again with --resume") from error
        if isinstance(answer, RobotWmError):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()


def _serve(task_name: str, pipe: Connection) -> None:
    task = make_task(task_name)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, ConnectionResetError, KeyboardInterrupt):  # reset: it ended with an answer unread
            return
        try:
            answer = _evaluate(job, task_name) if isinstance(job, Evaluate) else _collect(job, task)
        except RobotWmError as error:
            pipe.send(error)
        else:
            pipe.send(answer)


def _collect(job: Collect, task: Any) -> float:
    if job.bundle is None:
        agent: Any = RandomAgent(task.contract)
    else:
        agent = WorldModelAgent(task.contract, Model(load_bundle(job.bundle, task.contract), "cpu"), explore=True)
    with episode_bag(job.bag, task.contract) as writer:
        return run_episode(task, agent, job.seed, writer=writer).score


def _evaluate(job: Evaluate, task_name: str) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))  # the trainer waits for this result
    return evaluate(load_bundle(job.bundle), task_name, job.episodes, job.seed, threads=cores)
