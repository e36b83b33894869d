"""Getting to know servos: model, firmware, limits, operating mode; one exchange at a time, so that no call waits long."""

from __future__ import annotations

import struct
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from robot_wm.buses.dynamixel_link import LateReply, Request, ServoLink
from robot_wm.buses.dynamixel_table import (
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
    PRESENT_LAYOUT,
    TORQUE_ENABLE,
    VELOCITY_UNIT,
    WATCHDOG_FIRMWARE,
    Model,
    Register,
)
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray

MULTI_TURN = (
    1 << 20
)  # [pulse] the goals that Extended Position Control takes, either way (e-Manual, Goal Position (116))


class UnfitServo(BusError):
    """A servo answers and cannot serve; trying again does not help."""


@dataclass(frozen=True)
class Wanted:
    """What a joint's servo must be."""

    joint: str
    id: int
    mode: str  # position, velocity or effort; empty: only measured, its torque stays off
    model: str = ""  # empty: any
    extended: bool = False  # position over many turns


@dataclass(frozen=True)
class Servo:
    """What a servo says of itself. Goals and their limits are in its own units."""

    model: Model
    firmware: int
    unit: float  # [A], [rad/s] or [rad] of a goal
    offset: int  # goal at 0
    low: int
    high: int


Steps = Generator[None, None, Servo]


def patiently(link: ServoLink, register: Register, ids: Sequence[int]) -> Generator[None, None, list[bytes]]:
    """A sync read; yields when it would take longer than the bound. Raises BusError."""
    request = Request(register, tuple(ids))
    while True:
        try:
            if link.outstanding is not request:
                link.ask(request)
            return link.reply().values
        except LateReply:
            yield


def meet(link: ServoLink, wanted: Wanted) -> Steps:
    """Ask a servo who it is and put it into its mode, torque off; yields between exchanges. Raises BusError, UnfitServo."""
    who = f"servo {wanted.id} ({wanted.joint}) at {link.serial.path}"

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
    yield
    if (yield from ask(TORQUE_ENABLE))[0]:
        raise BusError(f"{who} keeps its torque on")
    if not wanted.mode:
        return Servo(model, firmware, 0.0, 0, 0, 0)
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
        return Servo(model, firmware, VELOCITY_UNIT, 0, -speed, speed)
    if wanted.mode == "position":
        if wanted.extended:
            bottom, top = -MULTI_TURN, MULTI_TURN
        return Servo(model, firmware, POSITION_UNIT, CENTRE, bottom, top)
    yield
    limit = int.from_bytes((yield from ask(CURRENT_LIMIT)), "little")
    return Servo(model, firmware, model.current_unit, 0, -limit, limit)


def require_limits(path: str, wanted: Wanted, servo: Servo, values: tuple[float, float]) -> None:
    """Raise UnfitServo unless a servo takes goals up to `values` [A, rad/s or rad of the servo]: it ignores others silently."""
    goals = sorted(round(value / servo.unit) + servo.offset for value in values)
    if goals[0] < servo.low - 1 or goals[1] > servo.high + 1:  # half a turn is 4096 and the last pulse 4095
        register = {"effort": "Current Limit (38)", "velocity": "Velocity Limit (44)"}.get(
            wanted.mode, "Min and Max Position Limit (52, 48)"
        )
        raise UnfitServo(
            f"servo {wanted.id} ({wanted.joint}) at {path}: the contract's limits are {goals[0]}..{goals[1]} in the servo's "
            f"units, its {register} allow {servo.low}..{servo.high}; tighten the contract's limits or change the servo's"
            + (", or set extended" if wanted.mode == "position" else "")
        )


def goals_of(servos: list[Servo], values: FloatArray) -> list[int]:
    """Servo units [A, rad/s or rad] → goals, rounded, within the servos' limits."""
    return [
        min(max(round(float(value) / servo.unit) + servo.offset, servo.low), servo.high)
        for servo, value in zip(servos, values, strict=True)
    ]


def resting_goal(wanted: Wanted, servo: Servo, present: bytes) -> int:
    """The goal that moves nothing, from the register PRESENT. Raises UnfitServo where a servo stands outside its limits."""
    if wanted.mode != "position":
        return 0
    goal = int(np.frombuffer(present, PRESENT_LAYOUT)["position"][0])
    if not wanted.extended:
        goal %= 2 * CENTRE  # turns are forgotten when the torque comes on (e-Manual, Present Position (132))
    if not servo.low <= goal <= servo.high:
        raise UnfitServo(
            f"{wanted.joint} stands at {goal}, outside its servo's {servo.low}..{servo.high}; move it by hand"
        )
    return goal
