"""Getting to know a Feetech servo and making it ready: one exchange at a time, so that no call waits long."""

from __future__ import annotations

import struct
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from robot_wm.buses.feetech_health import FeetechHealth
from robot_wm.buses.feetech_table import (
    CENTRE,
    COARSE,
    FASTEST,
    FINE_SPEED,
    FULL_PWM,
    IDENTITY,
    LOAD_UNIT,
    LOCK,
    MODELS,
    MODES,
    OPERATING_MODE,
    PHASE,
    POSITION_LIMITS,
    PRESENT,
    RESOLUTION,
    SPEED_LIMIT,
    STEP,
    TORQUE_ENABLE,
    TORQUE_LIMIT,
    ZERO_IS_FULL,
)
from robot_wm.buses.servo_family import Servo, Steps, UnfitServo, Wanted, patiently, require_limits
from robot_wm.buses.servo_link import ServoLink
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError

LIMITED_BY = {
    "effort": "Torque Limit (48)",
    "velocity": "speed limit (84)",
    "position": "Min and Max Position Limit (9, 11)",
}


@dataclass(frozen=True)
class FeetechServo(Servo):
    """With the unit of its speeds, and which goal speed does not limit its positions."""

    speed_unit: float  # [rad/s]
    no_speed_limit: int


class FeetechFamily:
    """`ServoFamily` of STS and SMS servos.

    What lies below 40 is not saved by a servo whose Lock (55) is 1 (memory table): the mode is set for as long as it has power, and
    a servo that was restarted is in its old one.
    """

    present = PRESENT
    goals: Mapping[str, Register] = {mode: goal for mode, (_, goal, _) in MODES.items()}
    greeting: tuple[tuple[Register, int], ...] = ((TORQUE_ENABLE, 0), (LOCK, 1))

    def health(self, servos: int) -> FeetechHealth:
        return FeetechHealth(servos)

    def knows_fast(self, servos: Sequence[FeetechServo]) -> bool:
        return False

    def check(self, path: str, wanted: Wanted, servo: FeetechServo, values: tuple[float, float]) -> None:
        require_limits(wanted.at(path), servo, values, LIMITED_BY[wanted.mode])

    def meet(self, link: ServoLink, wanted: Wanted) -> Steps[FeetechServo]:
        return _meet(link, wanted)


def _meet(link: ServoLink, wanted: Wanted) -> Steps[FeetechServo]:
    who = wanted.at(link.serial.path)

    def ask(register: Register) -> Generator[None, None, bytes]:
        values = yield from patiently(link, register, [wanted.id])
        return values[0]

    major, minor, order, number = struct.unpack("<BBBH", (yield from ask(IDENTITY)))
    name = MODELS.get(number, f"model {number}")
    if order:
        raise UnfitServo(f"{who} stores high bytes first, as SCS servos do; this bus drives STS and SMS servos")
    if wanted.model not in ("", name):
        raise UnfitServo(f"{who} is a {name}, not the expected {wanted.model}; are two ids swapped?")
    yield
    if (yield from ask(TORQUE_ENABLE))[0]:
        raise BusError(f"{who} keeps its torque on")
    yield
    phase = (yield from ask(PHASE))[0]
    steps = 1 if phase & FINE_SPEED else COARSE
    yield
    if (yield from ask(RESOLUTION))[0] != 1:
        raise UnfitServo(f"{who} has an Angular Resolution (30) other than 1: its steps are larger; set it to 1")

    def known(unit: float = 0.0, offset: int = 0, low: int = 0, high: int = 0) -> FeetechServo:
        no_limit = 0 if phase & ZERO_IS_FULL else FASTEST // steps
        return FeetechServo(name, f"{major}.{minor}", unit, offset, low, high, steps * STEP, no_limit)

    if not wanted.mode:
        return known()
    yield
    mode = MODES[wanted.mode][0]
    if (yield from ask(OPERATING_MODE))[0] != mode:
        yield
        link.sync_write(OPERATING_MODE, {wanted.id: OPERATING_MODE.pack(mode)})
        yield
        if (yield from ask(OPERATING_MODE))[0] != mode:
            raise BusError(f"{who} does not take operating mode {mode}")
    yield
    if wanted.mode == "velocity":
        fastest = (yield from ask(SPEED_LIMIT))[0] * COARSE or FASTEST
        return known(steps * STEP, 0, -(fastest // steps), fastest // steps)
    if wanted.mode == "position":
        bottom, top = struct.unpack("<HH", (yield from ask(POSITION_LIMITS)))
        if not 0 <= bottom < top <= 2 * CENTRE - 1:
            raise UnfitServo(
                f"{who} has the Min and Max Position Limits (9, 11) {bottom}, {top}; this bus needs them within one turn, 0..4095"
            )
        return known(STEP, CENTRE, bottom, top)
    limit = min(int.from_bytes((yield from ask(TORQUE_LIMIT)), "little"), FULL_PWM)
    return known(LOAD_UNIT, 0, -limit, limit)
