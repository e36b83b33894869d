"""One campaign from the command line: the stack, the tightened contract, the schedule, the run folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from robot_wm.bundle import load_bundle
from robot_wm.cli import progress
from robot_wm.contract import Contract
from robot_wm.errors import RunError
from robot_wm.plain import plain
from robot_wm.runs import RunFolder
from robot_wm.standstill import StandstillMeter
from robot_wm.timebase import RosOffset
from ros_nodes.commands import emulated, released_bundle
from ros_nodes.fault_actions import Actions, TornBundles
from ros_nodes.fault_campaign import Campaign, Monitor, Outcome, figures_of
from ros_nodes.fault_kinds import bounds_of
from ros_nodes.fault_logs import lost_before
from ros_nodes.fault_schedule import Planned, kinds_for, schedule
from ros_nodes.fault_witness import Witness
from ros_nodes.launcher import Launch, launched
from ros_nodes.stack import EMULATORS, Stack

MONITORS = "robot_wm.monitors"
TIGHTER = 0.8  # of the range: what goes beyond is seen on the line before the hardware clips it
RAMP_S = 0.02  # from rest to the limit
OF_THE_RECORDER = ("kill recorder", "freeze recorder", "disk full")
PATIENCE_S = 120.0  # of the start: a campaign is worth waiting for on a busy machine


@dataclass(frozen=True)
class Order:
    """What the user asked for."""

    faults: int
    seed: int
    bus: str
    kinds: tuple[str, ...]
    slack_s: float
    bundle: Path | None
    task: str
    provider: str
    log_level: str


def run_campaign(order: Order, runs: Path) -> dict[str, Any]:
    """Run it and return its figures. Raises RobotWmError before anything starts when it cannot run."""
    if order.bus not in EMULATORS:
        raise RunError(f"no campaign on --bus {order.bus!r}: it needs a line to watch; choose {', '.join(EMULATORS)}")
    kinds = kinds_for(order.bus, order.kinds)
    bundle = load_bundle(order.bundle or released_bundle(order.task))
    contract = tightened(bundle.contract)
    bounds = bounds_of(contract, order.bus)
    planned = schedule(order.faults, order.seed, kinds, bounds, order.slack_s)
    folder = RunFolder.create("faults", asdict(order) | {"contract_hash": contract.hash}, runs, order.bus)
    path = folder.path.resolve()
    contract.save(path / "contract.yaml")
    _write(path / "schedule.json", [asdict(fault) for fault in planned])
    with tempfile.TemporaryDirectory(prefix="robot_wm_") as short:  # a Unix socket's path is limited to 107 bytes
        bundles = TornBundles(Path(short), bundle.path)
        stack = _stack(order, bundle.path, path, Path(short))
        control = str(Path(short) / "control")
        with launched(stack, contract, path, local=True, keep_going=True, patience_s=PATIENCE_S) as launch:
            monitor = _monitor(order.bus, contract, stack, path / "tap")
            actions = Actions(launch, Witness(launch.session, launch.supervisor), control, bundles)
            with StandstillMeter() as meter:
                campaign = Campaign(actions, monitor, bounds, order.slack_s, meter)
                outcomes = _all(campaign, launch, planned, order.seed, path)
    outcomes = with_logs(outcomes, path / "bag")
    _write(path / "outcomes.json", [asdict(outcome) for outcome in outcomes])
    facts = {"bus": order.bus, "seed": order.seed, "standstill_measured": meter.permitted, "run": str(path)}
    figures = figures_of(outcomes, order.slack_s) | facts
    folder.figures(figures)
    return figures


def tightened(contract: Contract) -> Contract:
    """The contract with limits within the hardware's and a rate, so that both are at work; damping is rest on the line."""
    action = contract.action
    low, high = (tuple(TIGHTER * value for value in values) for values in (action.low, action.high))
    rate = tuple(max(-a, b) / RAMP_S for a, b in zip(low, high, strict=True))
    return replace(
        contract,
        action=replace(action, limit_low=low, limit_high=high, rate=rate),
        safety=replace(contract.safety, damping=()),
    )


def with_logs(outcomes: Sequence[Outcome], bag: Path) -> list[Outcome]:
    """What each fault of the recorder has cost the logs."""
    offset = RosOffset.measure()
    asked = [outcome for outcome in outcomes if outcome.fault.kind in OF_THE_RECORDER]
    lost = dict(
        zip((o.fault.index for o in asked), lost_before(bag, [offset.to_ros(o.stamp) for o in asked]), strict=True)
    )
    return [replace(outcome, log_lost_s=lost.get(outcome.fault.index)) for outcome in outcomes]


def _stack(order: Order, bundle: Path, folder: Path, short: Path) -> Stack:
    socket = str(short / "plant.sock")
    options, board = emulated(order.bus, "", socket, order.seed, bundle)
    params = folder / "campaign.yaml"
    sync = {"poll_s": 0.1, "cache": str(short / "cache")}
    params.write_text(yaml.safe_dump({"/**/model_sync_node": {"ros__parameters": sync}}))
    return Stack(
        contract=folder / "contract.yaml",
        bundle=bundle,
        bus=order.bus,
        bus_options=options,
        board=(*board, "--tap", str(folder / "tap"), "--control", str(short / "control")),
        sensors="mujoco",
        sensor_options={"socket": socket},
        plant=("--task", order.task, "--socket", socket, "--seed", str(order.seed), "--with-parent"),
        bag=folder / "bag",
        store=str(short / "store"),
        seed=order.seed,
        provider=order.provider,
        params_file=params,
        log_level=order.log_level,
    )


def _monitor(bus: str, contract: Contract, stack: Stack, tap: Path) -> Monitor:
    for entry in entry_points(group=MONITORS):
        monitor: Monitor = entry.load()(bus, contract, stack.bus_options, tap)
        return monitor
    raise RunError(f"no monitor of the line is installed (entry-point group {MONITORS}); install robot_wm again")


def _all(campaign: Campaign, launch: Launch, planned: Sequence[Planned], seed: int, folder: Path) -> list[Outcome]:
    """Arm, then one fault after another; what is known is on the disk after each."""
    outcomes: list[Outcome] = []
    assert launch.plant is not None
    launch.plant.reset(seed)
    launch.session.mark("start", f"seed {seed}")
    campaign.begin()
    with progress() as bar:
        line = bar.add_task("faults", total=len(planned))
        for fault in planned:
            bar.update(line, description=f"{fault.kind} {fault.variant}".rstrip())
            outcomes.append(campaign.run_fault(fault))
            _write(folder / "outcomes.json", [asdict(outcome) for outcome in outcomes])
            bar.update(line, advance=1)
    launch.session.mark("end")
    return outcomes


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(plain(data), indent=1) + "\n")
