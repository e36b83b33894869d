"""Health of Dynamixel servos, and what of it is a fault."""

from __future__ import annotations

from robot_wm.buses.dynamixel_table import (
    BUS_WATCHDOG,
    HARDWARE_ERROR,
    SUPPLY,
    TORQUE_ENABLE,
    VOLTAGE_UNIT,
    WATCHDOG_TRIPPED,
    error_words,
)
from robot_wm.buses.servo_health import ServoHealth


class DynamixelHealth(ServoHealth):
    """`watchdog`: the Bus Watchdog that servos with torque should have."""

    rotation = (TORQUE_ENABLE, HARDWARE_ERROR, BUS_WATCHDOG, SUPPLY)
    torque, errors, stopped = TORQUE_ENABLE, HARDWARE_ERROR, BUS_WATCHDOG

    def __init__(self, servos: int, watchdog: int) -> None:
        super().__init__(servos)
        self._watchdog = watchdog

    def error(self, servo: int) -> int | None:
        return self.number(HARDWARE_ERROR, servo)

    def measured(self, servo: int) -> dict[str, float]:
        values = self.values.get(SUPPLY)
        if not values:
            return {}
        volts = VOLTAGE_UNIT * int.from_bytes(values[servo][:2], "little")
        return {"voltage": volts, "temperature": float(values[servo][2])}

    def faults(self, servo: int, powered: bool) -> list[str]:
        texts = []
        error = self.error(servo)
        if error:
            hot = self.measured(servo).get("temperature")
            at = f" at {hot:.0f} °C" if hot is not None else ""
            texts.append(f"{error_words(error)}{at}; when it is well again, power-cycle it")
        if not powered:
            return texts
        armed = self.number(BUS_WATCHDOG, servo)
        if self.number(TORQUE_ENABLE, servo) == 0:
            texts.append("has lost its torque")
        elif armed == WATCHDOG_TRIPPED:
            texts.append("its bus watchdog has stopped it")
        elif armed is not None and armed != self._watchdog:
            texts.append("its bus watchdog is off, as after a restart")
        return texts
