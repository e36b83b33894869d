"""Health of Feetech servos, and what of it is a fault."""

from __future__ import annotations

from robot_wm.buses.feetech_table import CURRENT_UNIT, STATUS, SUPPLY, TORQUE_ENABLE, VOLTAGE_UNIT, status_words
from robot_wm.buses.servo_health import ServoHealth


class FeetechHealth(ServoHealth):
    """Voltage, temperature, current and status; whether the torque is on."""

    rotation = (TORQUE_ENABLE, SUPPLY)
    torque, errors = TORQUE_ENABLE, SUPPLY

    def error(self, servo: int) -> int | None:
        values = self.values.get(SUPPLY)
        return values[servo][STATUS] if values else None

    def measured(self, servo: int) -> dict[str, float]:
        values = self.values.get(SUPPLY)
        if not values:
            return {}
        current = CURRENT_UNIT * int.from_bytes(values[servo][7:9], "little")
        return {"voltage": VOLTAGE_UNIT * values[servo][0], "temperature": float(values[servo][1]), "current": current}

    def faults(self, servo: int, powered: bool) -> list[str]:
        texts = []
        error = self.error(servo)
        if error:
            now = self.measured(servo)
            texts.append(f"{status_words(error)} at {now['temperature']:.0f} °C, {now['voltage']:.1f} V")
        if powered and self.number(TORQUE_ENABLE, servo) == 0:
            texts.append("has lost its torque")
        return texts
