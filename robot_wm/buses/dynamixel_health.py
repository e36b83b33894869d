"""What servos report besides their motion, asked for in rotation, and what of it is a fault."""

from __future__ import annotations

from dataclasses import dataclass, field

from robot_wm.buses.dynamixel_table import (
    BUS_WATCHDOG,
    HARDWARE_ERROR,
    SUPPLY,
    TORQUE_ENABLE,
    VOLTAGE_UNIT,
    WATCHDOG_TRIPPED,
    Register,
    error_words,
)

ROTATION = (TORQUE_ENABLE, HARDWARE_ERROR, BUS_WATCHDOG, SUPPLY)


@dataclass
class ServoHealth:
    """The newest values of each register of the rotation, per servo, and when they were asked for [ns]; empty until then."""

    servos: int
    values: dict[Register, list[bytes]] = field(default_factory=dict)
    asked: dict[Register, int] = field(default_factory=dict)
    turn: int = 0

    def put(self, register: Register, values: list[bytes], asked: int) -> None:
        """Take values of the first servos, or of all."""
        others = self.values.get(register, [bytes(register.size)] * self.servos)[len(values) :]
        self.values[register], self.asked[register] = values + others, asked

    def due(self) -> Register:
        """Which register to read next."""
        self.turn += 1
        return ROTATION[self.turn % len(ROTATION)]

    def number(self, register: Register, servo: int) -> int | None:
        """The value of a register with a single number; None where it is not known."""
        values = self.values.get(register)
        return values[servo][0] if values else None

    def voltage(self, servo: int) -> float | None:
        """[V]; None where it is not known."""
        values = self.values.get(SUPPLY)
        return VOLTAGE_UNIT * int.from_bytes(values[servo][:2], "little") if values else None

    def temperature(self, servo: int) -> int | None:
        """[°C]; None where it is not known."""
        values = self.values.get(SUPPLY)
        return values[servo][2] if values else None

    def faults(self, servo: int, powered: bool, watchdog: int) -> list[str]:
        """Faults of a servo; `powered`: we asked for torque, with `watchdog` as its Bus Watchdog."""
        texts = []
        error = self.number(HARDWARE_ERROR, servo)
        if error:
            hot = self.temperature(servo)
            at = f" at {hot} °C" if hot is not None else ""
            texts.append(f"{error_words(error)}{at}; when it is well again, power-cycle it")
        if not powered:
            return texts
        armed = self.number(BUS_WATCHDOG, servo)
        if self.number(TORQUE_ENABLE, servo) == 0:
            texts.append("has lost its torque")
        elif armed == WATCHDOG_TRIPPED:
            texts.append("its bus watchdog has stopped it")
        elif armed is not None and armed != watchdog:
            texts.append("its bus watchdog is off, as after a restart")
        return texts
