"""What a robot is started with, read once and judged whenever somebody asks: contract, calibration files, bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from robot_wm.bundle import load_bundle
from robot_wm.calibration_file import BOUNDS, Reading, again, read_fit, unfit
from robot_wm.checks import Check
from robot_wm.contract import Contract
from robot_wm.contract_calibration import ON_BUS, CalibrationEntry
from robot_wm.errors import RobotWmError
from robot_wm.joint_zero import JointZero, joint_zeros

ZERO_TOLERANCE = math.radians(BOUNDS["joints"].largest)  # [rad] as well as joints are known
NO_BUNDLE = Check("bundle", "pass", "none is asked for: commands, teleoperation or excitation")


@dataclass(frozen=True)
class Papers:
    """The files of one start. A file that is changed later counts from the next start: what is judged is what is applied."""

    contract: Contract
    calibrations: Mapping[str, Reading] = field(default_factory=dict)
    bundle: Check = NO_BUNDLE
    zeros_applied: bool = False  # the bus can apply the zeros of joints

    @classmethod
    def read(cls, contract: Contract, bundle: Path | str | None = None) -> Papers:
        """Read every file that the contract names, and the bundle. What is wrong is kept, to be said by `checks`."""
        readings = {kind: read_fit(entry.file, kind, entry.serial) for kind, entry in contract.calibration.items()}
        return cls(contract, readings, judge_bundle(bundle, contract) if bundle else NO_BUNDLE)

    def on_bus(self, zeros_applied: bool) -> Papers:
        """With what is known once the bus is open."""
        return replace(self, zeros_applied=zeros_applied)

    def used(self, bundle_id: str) -> Papers:
        """With what planner_node says that it plans with; empty: it has not said."""
        return replace(self, bundle=used_bundle(self.bundle, bundle_id))

    @property
    def zeros(self) -> dict[str, JointZero]:
        """The zeros of the joints, where there is a calibration that is fit as far as can be told before the bus is open."""
        reading = self.calibrations.get("joints")
        return joint_zeros(reading.found) if reading and reading.found and not reading.problem else {}

    def checks(self, hardware_id: str | None, now: datetime) -> list[Check]:
        """Judge everything.

        Args:
            hardware_id: what the motor bus calls its hardware; empty: it does not say; None: there is no bus to ask.
            now: with its time zone.
        """
        zeros = {name: zero for name, zero in self.zeros.items() if name in self.contract.joints}
        found = [check_limits(self.contract, zeros)]
        if not self.calibrations:
            found.append(Check("calibration", "pass", "the contract asks for none"))
        for kind, reading in self.calibrations.items():
            found.append(check_calibration(self.contract, kind, reading, hardware_id, now))
        moved = sorted(name for name, zero in zeros.items() if zero.changes(ZERO_TOLERANCE))
        if moved and hardware_id is not None and not self.zeros_applied:
            problem = (
                f"this motor bus cannot apply the zeros of {', '.join(moved)}: its positions are not the contract's"
            )
            remedy = "set the zero in the servo and calibrate again, or use a bus that can (with_zeros)"
            found.append(Check("joint zeros", "fail", problem, remedy))
        return [*found, self.bundle]


def check_limits(contract: Contract, zeros: Mapping[str, JointZero]) -> Check:
    """Whether the positions that the contract allows lie between the end stops that were found."""
    outside, unbounded = [], []
    for name, zero in zeros.items():
        low, high = allowed(contract, name)
        if not (math.isfinite(low) and math.isfinite(high)):
            unbounded.append(name)
        elif low < zero.low_rad - ZERO_TOLERANCE or high > zero.high_rad + ZERO_TOLERANCE:
            outside.append(
                f"{name} may go to {low:.3f}..{high:.3f}, its end stops are at {zero.low_rad:.3f}..{zero.high_rad:.3f}"
            )
    remedy = "tighten safety.position" + (", or action.limit_low/limit_high" * (contract.action.mode == "position"))
    if outside:
        return Check("contract", "fail", "; ".join(outside), remedy)
    if unbounded:
        problem = f"{', '.join(unbounded)}: has end stops and no position bound"
        return Check("contract", "warn", problem, "set safety.position")
    known = "limits lie within the end stops" if zeros else "valid; nothing is known of the hardware's end stops"
    return Check("contract", "pass", f"{contract.name}: {known}")


def allowed(contract: Contract, joint: str) -> tuple[float, float]:
    """Positions that the contract allows a joint [SI]; infinite where it does not bound them."""
    low, high = contract.safety.position.get(joint, (-math.inf, math.inf))
    action = contract.action
    if action.mode == "position" and joint in action.names:
        i = action.names.index(joint)
        return max(low, action.limit_low[i]), min(high, action.limit_high[i])
    return low, high


def check_calibration(contract: Contract, kind: str, reading: Reading, hardware_id: str | None, now: datetime) -> Check:
    """Whether a calibration is there, of this hardware, good, complete and young enough."""
    name, entry = f"calibration {kind}", contract.calibration[kind]
    reported = hardware_id if kind in ON_BUS and hardware_id else ""
    if reported and entry.serial and reported != entry.serial:
        problem = f"the contract expects hardware {entry.serial}, but {reported} is connected"
        return Check(name, "fail", problem, f"connect {entry.serial}, or change calibration.{kind}.serial and its file")
    serial = reported or entry.serial
    problem, remedy = unfit(reading, serial)
    if problem or reading.found is None:
        return Check(name, "fail", problem, remedy)
    if not serial and hardware_id is not None:
        problem = f"{reading.path}: belongs to {reading.found.serial}, but the motor bus does not say what is connected"
        return Check(name, "fail", problem, f"name the hardware's serial in calibration.{kind}.serial of the contract")
    missing = [joint for joint in contract.action.names if kind in ON_BUS and joint not in reading.found.values]
    if missing:
        problem = f"{reading.path}: has nothing for {', '.join(missing)}"
        return Check(name, "fail", problem, f"calibrate all joints: {again(reading.path, kind, serial)}")
    return _check_age(name, entry, reading, now)


def _check_age(name: str, entry: CalibrationEntry, reading: Reading, now: datetime) -> Check:
    assert reading.found is not None
    made = datetime.fromisoformat(reading.found.date)
    age = now - (made if made.tzinfo is not None else made.replace(tzinfo=timezone.utc))
    told = f"{reading.path}: {reading.found.serial}, {reading.found.date}"
    if age < -timedelta(days=1):
        return Check(
            name, "warn", f"{told}: lies ahead of this computer's clock", "set the clock (chrony, timedatectl)"
        )
    if age > timedelta(days=entry.stale_days):
        remedy = f"calibrate again: {again(reading.path, reading.kind, reading.found.serial)}"
        return Check(name, "warn", f"{told}: is {age.days} days old, more than {entry.stale_days:g}", remedy)
    return Check(name, "pass", told)


def judge_bundle(path: Path | str, contract: Contract) -> Check:
    """Whether a bundle is whole, unaltered and made for the contract."""
    try:
        bundle = load_bundle(path, contract)
    except RobotWmError as error:
        return Check("bundle", "fail", str(error), "give a whole bundle of this contract (robot-wm models list)")
    return Check("bundle", "pass", f"{path}: {bundle.bundle_id} is whole and made for this contract")


def verify_bundle(path: Path | str, contract: Contract, provider: str = "auto") -> Check:
    """As `judge_bundle`, and whether it computes on this machine what it computed where it was exported."""
    judged = judge_bundle(path, contract)
    if judged.status != "pass":
        return judged
    from robot_wm.backend import Model
    from robot_wm.verify import verify_on_device

    bundle = load_bundle(path, contract)
    try:
        found = verify_on_device(bundle, Model(bundle, provider))
    except RobotWmError as error:
        return Check("bundle", "fail", str(error), "export it again, or choose another execution provider")
    worst = max(found.errors.values())
    detail = f"{path}: {found.bundle_id} verified on {found.provider}, largest error {worst:.2g} of {found.tolerance:g}"
    return Check("bundle", "pass", detail)


def used_bundle(judged: Check, bundle_id: str) -> Check:
    """What a judged bundle is worth once planner_node says which one it plans with (empty: it has not said)."""
    if judged is NO_BUNDLE or judged.status == "fail":
        return judged
    if not bundle_id:
        return Check("bundle", "warn", f"{judged.detail}; planner_node does not use it yet", "see its diagnostics")
    return Check("bundle", "pass", f"planner_node has verified {bundle_id} on this machine and plans with it")
