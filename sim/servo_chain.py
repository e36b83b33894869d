"""A chain of emulated servos in front of any motor bus: the physics side, the same for every maker.

Bytes in, bytes out: here is no pty and no clock (`sim/pty_emulator.py`).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from robot_wm.buses.base import MotorBus
from robot_wm.errors import BusError
from robot_wm.messages import JointState


class EmulatedServo(Protocol):
    """A servo that is only its control table."""

    id: int

    @property
    def torque(self) -> bool:
        """Whether it drives its motor."""
        ...

    def sense(self, position: float, velocity: float, effort: float) -> None:
        """Present values from [rad], [rad/s] and the servo's own units of effort."""
        ...

    def overheat(self) -> None:
        """From now on it is too hot."""
        ...

    def cool(self) -> None:
        """Its temperature is as it should be."""
        ...

    def power_cycle(self) -> None:
        """It loses its power and gets it back."""
        ...


class Decoder(Protocol):
    """Bytes in any pieces → packets."""

    counts: Counter[str]

    def feed(self, data: bytes) -> list[Any]:
        """Take bytes; return the whole and sound packets among them."""
        ...


S = TypeVar("S", bound=EmulatedServo)


class ServoChain(Generic[S]):
    """Servos, one per joint of `physics`, whose joints with motors come first.

    `servos` may be changed from outside, and ids put into `absent` to unplug them.

    Args:
        mode: of the physics: position, velocity or effort; a servo in another operating mode gives none.
        effort: of the physics per unit of effort of the servos, by joint.
    """

    def __init__(
        self, physics: MotorBus, servos: Sequence[S], motors: int, mode: str, effort: Sequence[float], decoder: Decoder
    ) -> None:
        self.physics = physics
        self.servos = list(servos)
        self.absent: set[int] = set()
        self.counts: Counter[str] = Counter(dict.fromkeys(("goals", "refused", "physics"), 0))
        self._motors = self.servos[:motors]
        self._mode = mode
        self._effort = list(effort)
        self._decoder = decoder
        self._now = 0  # of the newest bytes [ns]
        self._powered = False
        self._joints: JointState | None = None

    @property
    def enabled(self) -> bool:
        """Whether any servo has its torque on."""
        return any(servo.torque for servo in self._motors)

    @property
    def driven(self) -> bool:
        """Whether a goal reaches a motor."""
        return self.enabled

    def receive(self, data: bytes, now: int) -> bytes:
        """Take bytes at `now` [ns]; return the answers."""
        answers, self._now = [], now
        for packet in self._decoder.feed(data):
            try:
                answers.append(self._obey(packet))
            except BusError:  # nobody answers for physics that is gone
                self.counts["physics"] += 1
        for name, count in self._decoder.counts.items():
            self.counts[name] = count
        return b"".join(answers)

    def tick(self, now: int) -> None:
        """What the servos do by themselves; often."""

    def overheat(self, joint: int) -> None:
        """From now on a joint is too hot; its torque goes."""
        self.servos[joint].overheat()
        self._drive_if_there()

    def cool(self, joint: int) -> None:
        """The joint is cool again, and somebody has power-cycled its servo."""
        self.servos[joint].cool()
        self.power_cycle(joint)

    def power_cycle(self, joint: int) -> None:
        """A servo loses its power and gets it back."""
        self.servos[joint].power_cycle()
        self._drive_if_there()

    def _obey(self, packet: Any) -> bytes:
        """Do what a packet says; the answers to it."""
        raise NotImplementedError

    def _goal(self, joint: int, servo: S, resting: float) -> float:
        """What a servo does to its joint, `resting` where it does nothing, in the physics' units."""
        raise NotImplementedError

    def _addressed(self, id_: int, broadcast: int) -> list[S]:
        """The servos that an id means."""
        return [servo for servo in self._present() if id_ in (servo.id, broadcast)]

    def _present(self) -> list[S]:
        """The servos that are plugged in."""
        return [servo for servo in self.servos if servo.id not in self.absent]

    def _sense(self) -> None:
        joints = self._joints = self.physics.read()
        if self._powered and self.physics.fault():
            self._powered = False
            for servo in self._motors:
                servo.power_cycle()
        for k, servo in enumerate(self.servos):
            servo.sense(joints.position[k], joints.velocity[k], joints.effort[k] / self._effort[k])

    def _drive(self) -> None:
        """Bring goals and torque to the physics."""
        was, self._powered = self._powered, self.enabled
        if self._powered and not was:
            self.physics.enable()
        if self._powered:
            self.physics.write(np.array([self._goal(k, s, self._resting(k)) for k, s in enumerate(self._motors)]))
        elif was:
            self.physics.disable()

    def _drive_if_there(self) -> None:
        with contextlib.suppress(BusError):  # physics that is gone moves nothing either
            self._drive()

    def _resting(self, joint: int) -> float:
        if self._mode != "position" or self._joints is None:
            return 0.0
        return float(self._joints.position[joint])


def efforts(names: Sequence[str], scale: Mapping[str, float] | None, unit: float) -> list[float]:
    """Effort of the physics per unit of the servos, by joint; `scale`: per SI unit, absent: 1."""
    return [(scale or {}).get(name, 1.0) * unit for name in names]
