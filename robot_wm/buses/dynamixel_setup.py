"""Getting to know a Dynamixel servo and making it ready: one exchange at a time, so that no call waits long."""

from __future__ import annotations

import struct
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot_wm.buses.dynamixel_health import DynamixelHealth
from robot_wm.buses.dynamixel_table import (
    ANSWER_ALL,
    CENTRE,
    CURRENT_LIMIT,
    EXTENDED_POSITION,
    FIRMWARE,
    LIMITS,
    MODEL_NUMBER,
    MODELS,
    MODES,
    OPERATING_MODE,
    POSITION_UNIT,
    PRESENT,
    PRESENT_LAYOUT,
    STATUS_RETURN_LEVEL,
    TORQUE_ENABLE,
    VELOCITY_UNIT,
    WATCHDOG_FIRMWARE,
    Model,
)
from robot_wm.buses.servo_family import Servo, Steps, UnfitServo, Wanted, patiently, require_limits, require_within
from robot_wm.buses.servo_link import ServoLink
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError

MULTI_TURN = (
    1 << 20
)  # [pulse] the goals that Extended Position Control takes, either way (e-Manual, Goal Position (116))
LIMITED_BY = {"effort": "Current Limit (38)", "velocity": "Velocity Limit (44)"}


@dataclass(frozen=True)
class DynamixelServo(Servo):
    """With what differs between the models."""

    model: Model


class DynamixelFamily:
    """`ServoFamily` of X-series servos.

    Args:
        watchdog: the Bus Watchdog that is armed with the torque.
    """

    present = PRESENT
    goals: Mapping[str, Register] = {mode: goal for mode, (_, goal) in MODES.items()}
    greeting: tuple[tuple[Register, int], ...] = ((TORQUE_ENABLE, 0), (STATUS_RETURN_LEVEL, ANSWER_ALL))

    def __init__(self, watchdog: int) -> None:
        self._watchdog = watchdog

    def health(self, servos: int) -> DynamixelHealth:
        return DynamixelHealth(servos, self._watchdog)

    def knows_fast(self, servos: Sequence[DynamixelServo]) -> bool:
        return all(0 < servo.model.fast_firmware <= int(servo.firmware) for servo in servos)

    def check(self, path: str, wanted: Wanted, servo: DynamixelServo, values: tuple[float, float]) -> None:
        register = LIMITED_BY.get(wanted.mode, "Min and Max Position Limit (52, 48)")
        require_limits(wanted.at(path), servo, values, register, ", or set extended" * (wanted.mode == "position"))

    def meet(self, link: ServoLink, wanted: Wanted) -> Steps[DynamixelServo]:
        return _meet(link, wanted)


def _meet(link: ServoLink, wanted: Wanted) -> Steps[DynamixelServo]:
    who = wanted.at(link.serial.path)

    def ask(register: Register) -> Generator[None, None, bytes]:
        values = yield from patiently(link, register, [wanted.id])
        return values[0]

    number = int.from_bytes((yield from ask(MODEL_NUMBER)), "little")
    model = MODELS.get(number)
    if model is None:
        raise UnfitServo(f"{who} has model number {number}, which is no Dynamixel X-series model known here")
    if wanted.model not in ("", model.name):
        raise UnfitServo(f"{who} is a {model.name}, not the expected {wanted.model}; are two ids swapped?")
    yield
    firmware = (yield from ask(FIRMWARE))[0]
    if firmware < WATCHDOG_FIRMWARE:
        raise UnfitServo(
            f"{who} has firmware {firmware}; its Bus Watchdog needs {WATCHDOG_FIRMWARE}: update it with DYNAMIXEL Wizard"
        )

    def known(unit: float = 0.0, offset: int = 0, low: int = 0, high: int = 0) -> DynamixelServo:
        return DynamixelServo(model.name, str(firmware), unit, offset, low, high, model)

    yield
    if (yield from ask(TORQUE_ENABLE))[0]:
        raise BusError(f"{who} keeps its torque on")
    if not wanted.mode:
        return known()
    if wanted.mode == "effort" and not model.current_unit:
        raise UnfitServo(
            f"{who}: a {model.name} cannot control its current; choose position or velocity as the contract's mode"
        )
    yield
    mode = EXTENDED_POSITION if wanted.extended else MODES[wanted.mode][0]
    if (yield from ask(OPERATING_MODE))[0] != mode:  # it is in EEPROM: written only when it must be
        yield
        link.sync_write(OPERATING_MODE, {wanted.id: OPERATING_MODE.pack(mode)})
        yield
        if (yield from ask(OPERATING_MODE))[0] != mode:
            raise BusError(f"{who} does not take operating mode {mode}")
    yield
    speed, top, bottom = struct.unpack("<Iii", (yield from ask(LIMITS)))
    if wanted.mode == "velocity":
        return known(VELOCITY_UNIT, 0, -speed, speed)
    if wanted.mode == "position":
        if wanted.extended:
            bottom, top = -MULTI_TURN, MULTI_TURN
        return known(POSITION_UNIT, CENTRE, bottom, top)
    yield
    limit = int.from_bytes((yield from ask(CURRENT_LIMIT)), "little")
    return known(model.current_unit, 0, -limit, limit)


def resting_goal(wanted: Wanted, servo: Servo, present: bytes) -> int:
    """The goal that moves nothing, from the register PRESENT. Raises UnfitServo where a servo stands outside its limits."""
    if wanted.mode != "position":
        return 0
    goal = int(np.frombuffer(present, PRESENT_LAYOUT)["position"][0])
    if not wanted.extended:
        goal %= 2 * CENTRE  # turns are forgotten when the torque comes on (e-Manual, Present Position (132))
    return require_within(wanted, servo, goal)
