"""One run from the command line: folder, stack, episode, figures, evidence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robot_wm.backend import choose_provider
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.bags.salvage import salvage
from robot_wm.bundle import load_bundle
from robot_wm.cli import emit, progress
from robot_wm.contract import Contract, load_contract
from robot_wm.errors import BagError, RunError
from robot_wm.evidence import film_of, leave_evidence
from robot_wm.run_figures import run_figures
from robot_wm.runs import RunFolder
from ros_nodes.launcher import Fault, launched
from ros_nodes.stack import Stack


@dataclass(frozen=True)
class Episode:
    """What the user asked for; `kind` is sim, run or record."""

    kind: str
    name: str
    stack: Stack
    seconds: float
    seed: int
    faults: tuple[Fault, ...]
    keep_going: bool
    local: bool  # our own ROS domain on this machine
    teleop: bool = False
    report: bool = True  # make report.html and, in simulation, the video


def run_episode(episode: Episode, runs: Path, json_: bool) -> dict[str, Any]:
    """Run it, print its figures and return them. Raises RobotWmError before anything starts when it cannot run."""
    contract = _contract(episode.stack)
    stack = episode.stack
    choose_provider(stack.provider)
    config = {"kind": episode.kind, "name": episode.name, "seconds": episode.seconds, "seed": episode.seed}
    config |= {key: value for key, value in vars(stack).items() if value} | {"contract_hash": contract.hash}
    folder = RunFolder.create(episode.kind, config, runs, episode.name)
    bag = folder.path.resolve() / "bag"
    stack = replace(stack, bag=bag)
    with (
        launched(stack, contract, folder.path.resolve(), episode.local, episode.keep_going) as launch,
        _bar(episode) as bar,
    ):
        driving = _teleop(contract, stack) if episode.teleop else contextlib.nullcontext()
        with driving:
            launch.run(episode.seconds, episode.faults, episode.seed, bar)
    readable = _readable(bag)
    figures = run_figures(readable, contract) | {"processes": launch.supervisor.started, "motor": launch.last_state}
    figures |= {
        "provider": launch.provider,
        "fell_silent": sorted(launch.fell_silent),
        "realtime": launch.supervisor.realtime,
        "bag": str(readable.path),
        "run": str(folder.path.resolve()),
    }
    title = f"{episode.kind} {episode.name}"
    if episode.report:
        film = film_of(stack.sensors) if stack.plant else None
        figures |= leave_evidence(folder, readable.path, contract, figures, title, film)
    folder.figures(figures)
    emit(figures, json_, title)
    if launch.stopped:
        raise RunError(f"the run ended early, e-stopped: {launch.stopped}")
    if launch.recording_ended:
        raise RunError(f"the bag is incomplete: {launch.recording_ended}")
    return figures


def _readable(path: Path) -> Bag:
    """The run's bag; of one whose recorder was killed, a copy of everything that reached the disk."""
    try:
        return open_bag(path)
    except BagError:
        whole = path.with_name(f"{path.name}_salvaged")
        salvage(path, whole)
        return open_bag(whole)


def _contract(stack: Stack) -> Contract:
    """The contract the run is by, checked against the bundle before any process starts."""
    contract = load_contract(stack.contract) if stack.contract is not None else None
    if stack.bundle is not None:
        bundle = load_bundle(stack.bundle, contract)
        bundle.require_reward()
        return bundle.contract
    if contract is None:
        raise RunError("a contract or a bundle is needed")
    return contract


@contextlib.contextmanager
def _bar(episode: Episode) -> Iterator[Callable[[float], None]]:
    with progress() as display:
        task = display.add_task(f"{episode.kind} {episode.name}", total=episode.seconds)
        yield lambda seconds: display.update(task, completed=seconds)


def _teleop(contract: Contract, stack: Stack) -> contextlib.AbstractContextManager[None]:
    from ros_nodes.teleop import keyboard

    return keyboard(contract, stack.namespace)
