"""What a bus of servos on one line needs to know of a maker's servos, and what it wants of each."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from robot_wm.buses.servo_health import ServoHealth
from robot_wm.buses.servo_link import LateReply, Request, ServoLink
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray


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

    def at(self, path: str) -> str:
        """Which servo this is, for messages."""
        return f"servo {self.id} ({self.joint}) at {path}"


@dataclass(frozen=True)
class Servo:
    """What a servo says of itself. Goals and their limits are in its own units."""

    name: str  # of its model
    firmware: str
    unit: float  # of a goal, in the bus's units: [rad], [rad/s], and that of effort
    offset: int  # goal at 0
    low: int
    high: int


S = TypeVar("S", bound=Servo)
Steps = Generator[None, None, S]


class ServoFamily(Protocol[S]):
    """Servos of one maker that share a control table."""

    present: Register  # what every reading reads; up to three bytes behind it can be read, too
    goals: Mapping[str, Register]  # by the contract's mode
    greeting: tuple[tuple[Register, int], ...]  # what is written to all at first: torque off

    def meet(self, link: ServoLink, wanted: Wanted) -> Steps[S]:
        """Ask a servo who it is and put it into its mode, torque off; yields between exchanges. Raises BusError, UnfitServo."""
        ...

    def health(self, servos: int) -> ServoHealth:
        """An empty health."""
        ...

    def knows_fast(self, servos: Sequence[S]) -> bool:
        """Whether all of them know fast sync read."""
        ...

    def check(self, path: str, wanted: Wanted, servo: S, values: tuple[float, float]) -> None:
        """Raise UnfitServo unless a servo takes goals up to `values`, in the bus's units."""
        ...


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


def require_limits(who: str, servo: Servo, values: tuple[float, float], register: str, way_out: str = "") -> None:
    """Raise UnfitServo unless a servo takes goals up to `values`, in the bus's units; `register` names what limits them."""
    goals = sorted(round(value / servo.unit) + servo.offset for value in values)
    if goals[0] < servo.low - 1 or goals[1] > servo.high + 1:  # half a turn is 4096 and the last pulse 4095
        raise UnfitServo(
            f"{who}: the contract's limits are {goals[0]}..{goals[1]} in the servo's units, its {register} allow "
            f"{servo.low}..{servo.high}; tighten the contract's limits or change the servo's{way_out}"
        )


def goals_of(servos: Sequence[Servo], values: FloatArray) -> list[int]:
    """The bus's units → goals, rounded, within the servos' limits."""
    return [
        min(max(round(float(value) / servo.unit) + servo.offset, servo.low), servo.high)
        for servo, value in zip(servos, values, strict=True)
    ]


def require_within(wanted: Wanted, servo: Servo, goal: int) -> int:
    """The goal at which a joint stands, if its servo takes it. Raises UnfitServo."""
    if not servo.low <= goal <= servo.high:
        raise UnfitServo(
            f"{wanted.joint} stands at {goal}, outside its servo's {servo.low}..{servo.high}; move it by hand"
        )
    return goal
