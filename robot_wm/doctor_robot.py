"""What `robot-wm doctor` says of one robot: the checks that arming makes, as far as they go without arming."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from robot_wm.arming_files import Papers, verify_bundle
from robot_wm.buses.calibrated import open_calibrated
from robot_wm.checks import Check
from robot_wm.contract import Contract, load_contract
from robot_wm.errors import BackendError, RobotWmError
from robot_wm.motor_loop import MotorLoop
from robot_wm.timebase import Clock

LISTEN_S = 2.0  # a rate is told after one


def examine_robot(
    contract: Path | None,
    bundle: Path | None,
    bus: str,
    options: dict[str, Any],
    provider: str,
    clock: Clock | None = None,
) -> list[Check]:
    """Check a contract (None: the bundle's), what it names, a bundle on this machine, and a bus; the motors stay unpowered.

    Args:
        bus: motor bus to open and listen to for two seconds; empty: none.
    """
    try:
        agreed = load_contract(contract if contract is not None else (bundle or Path()) / "contract.yaml")
    except RobotWmError as error:
        return [Check("contract", "fail", str(error), "mend it; robot-wm contract check says when it is right")]
    papers = Papers.read(agreed)
    verdicts = [_verified(bundle, agreed, provider)] if bundle is not None else []
    if bus:
        found = _listen(agreed, papers, bus, options, clock)
    else:
        found = papers.checks(None, datetime.now(timezone.utc))
    return [check for check in found if check.name != "bundle"] + verdicts


def _verified(bundle: Path, contract: Contract, provider: str) -> Check:
    try:
        return verify_bundle(bundle, contract, provider)
    except ImportError as error:
        return Check("bundle", "fail", f"onnxruntime does not import: {error}", "pip install 'robot-wm[cpu]'")
    except BackendError as error:
        return Check("bundle", "fail", str(error), "choose another --provider")


def _listen(contract: Contract, papers: Papers, name: str, options: dict[str, Any], clock: Clock | None) -> list[Check]:
    """Run the motor loop disarmed for a while and ask it what it would say to `arm`."""
    try:
        bus, applied = open_calibrated(name, contract, options, papers.zeros)
    except RobotWmError as error:
        files = papers.checks(None, datetime.now(timezone.utc))
        return [*files, Check("bus", "fail", str(error), "see --bus and --bus-options; only one program may have it")]
    try:
        loop = MotorLoop(contract, bus, clock, papers=papers.on_bus(applied))
        _run(loop, max(1, round(LISTEN_S * contract.motor_hz)))
        return loop.arming_checks()
    finally:
        bus.close()


def _run(loop: MotorLoop, ticks: int) -> None:
    for _ in range(ticks):
        deadline = loop.deadlines.stamp(loop.deadlines.floor(loop.clock.now()) + 1)
        loop.clock.sleep_until(deadline)
        loop.tick(deadline)
