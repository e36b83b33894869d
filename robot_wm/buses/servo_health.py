"""What servos report besides their motion, asked for in rotation."""

from __future__ import annotations

from typing import ClassVar

from robot_wm.buses.servo_register import Register


class ServoHealth:
    """The newest values of each register of the rotation, per servo, and when they were asked for [ns]; empty until then."""

    rotation: ClassVar[tuple[Register, ...]]
    torque: ClassVar[Register]  # whether it is on
    errors: ClassVar[Register]  # says more of an alert
    stopped: ClassVar[Register | None] = None  # says whether a pause of the host has stopped the servos

    def __init__(self, servos: int) -> None:
        self.servos = servos
        self.values: dict[Register, list[bytes]] = {}
        self.asked: dict[Register, int] = {}
        self._turn = 0

    def put(self, register: Register, values: list[bytes], asked: int) -> None:
        """Take values of the first servos, or of all."""
        others = self.values.get(register, [bytes(register.size)] * self.servos)[len(values) :]
        self.values[register], self.asked[register] = values + others, asked

    def due(self) -> Register:
        """Which register to read next."""
        self._turn += 1
        return self.rotation[self._turn % len(self.rotation)]

    def number(self, register: Register, servo: int) -> int | None:
        """The value of a register with a single number; None where it is not known."""
        values = self.values.get(register)
        return values[servo][0] if values else None

    def error(self, servo: int) -> int | None:
        """The error bits of a servo; None where they are not known."""
        raise NotImplementedError

    def measured(self, servo: int) -> dict[str, float]:
        """Figures by name, what is known of `voltage` [V], `temperature` [°C], `current` [A]."""
        raise NotImplementedError

    def faults(self, servo: int, powered: bool) -> list[str]:
        """Faults of a servo; `powered`: we asked for torque."""
        raise NotImplementedError
