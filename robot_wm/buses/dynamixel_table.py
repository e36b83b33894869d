"""Control table of Dynamixel X-series servos: registers, units, models, words for errors.

Source: ROBOTIS e-Manual, section "Control Table" of each model (emanual.robotis.com/docs/en/dxl/x/).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot_wm.buses.servo_register import Register

POSITION_UNIT = 2.0 * math.pi / 4096  # [rad] "Present Position (132)": 1 pulse, 4096 a turn
CENTRE = 2048  # [pulse] the middle of a turn; here the servo is at 0 rad
VELOCITY_UNIT = 0.229 * 2.0 * math.pi / 60.0  # [rad/s] "Present Velocity (128)": 0.229 rev/min
VOLTAGE_UNIT = 0.1  # [V] "Present Input Voltage (144)"
WATCHDOG_UNIT_S = 0.02  # "Bus Watchdog (98)"
WATCHDOG_MOST = 127  # units
WATCHDOG_TRIPPED = 255  # -1: the servo has stopped, goals are refused until 0 is written
WATCHDOG_FIRMWARE = 38  # the first with a Bus Watchdog


MODEL_NUMBER = Register(0, 2)
FIRMWARE = Register(6, 1)
OPERATING_MODE = Register(11, 1)
CURRENT_LIMIT = Register(38, 2)
LIMITS = Register(44, 12)  # Velocity Limit (44), Max Position Limit (48), Min Position Limit (52), 4 bytes each
TORQUE_ENABLE = Register(64, 1)
STATUS_RETURN_LEVEL = Register(68, 1)
HARDWARE_ERROR = Register(70, 1)
BUS_WATCHDOG = Register(98, 1)
GOAL_CURRENT = Register(102, 2)
GOAL_VELOCITY = Register(104, 4)
GOAL_POSITION = Register(116, 4)
PRESENT = Register(126, 10)  # Present Current (126, 2), Present Velocity (128, 4), Present Position (132, 4)
PRESENT_LAYOUT = np.dtype([("current", "<i2"), ("velocity", "<i4"), ("position", "<i4")])
SUPPLY = Register(144, 3)  # Present Input Voltage (144, 2), Present Temperature (146, 1) [°C]

ANSWER_ALL = 2  # "Status Return Level (68)"

# Control mode of the contract → "Operating Mode (11)" and the goal that it obeys.
MODES = {"effort": (0, GOAL_CURRENT), "velocity": (1, GOAL_VELOCITY), "position": (3, GOAL_POSITION)}
EXTENDED_POSITION = 4  # operating mode: many turns, no position limits

HARDWARE_ERRORS = {  # bit of "Hardware Error Status (70)" → what it says
    0: "input voltage",
    2: "overheating",
    3: "motor encoder",
    4: "electrical shock or too little power",
    5: "overload",
}


@dataclass(frozen=True)
class Model:
    """What differs between the models."""

    name: str
    current_unit: float  # [A] of Present and Goal Current; 0: the model measures and controls none
    fast_firmware: int  # the first with Fast Sync Read (e-Manual, "DYNAMIXEL Protocol 2.0"); 0: none has it


def _models() -> dict[int, Model]:
    families: tuple[tuple[float, int, dict[int, str]], ...] = (
        (
            2.69e-3,
            45,
            {
                1000: "XH430-W350",
                1001: "XD430-T350",
                1010: "XH430-W210",
                1011: "XD430-T210",
                1020: "XM430-W350",
                1030: "XM430-W210",
                1100: "XH540-W270",
                1101: "XD540-T270",
                1110: "XH540-W150",
                1111: "XD540-T150",
                1120: "XM540-W270",
                1130: "XM540-W150",
                1140: "XH540-V270",
                1150: "XH540-V150",
                1170: "XW540-T260",
                1180: "XW540-T140",
                1270: "XW430-T333",
            },
        ),
        (1.34e-3, 45, {1040: "XH430-V350", 1050: "XH430-V210"}),
        (
            1.0e-3,
            46,
            {
                1190: "XL330-M077",
                1200: "XL330-M288",
                1210: "XC330-T181",
                1220: "XC330-T288",
                1230: "XC330-M181",
                1240: "XC330-M288",
            },
        ),
        (0.0, 45, {1060: "XL430-W250", 1070: "XC430-W150", 1080: "XC430-W240"}),
        (0.0, 0, {1090: "2XL430-W250", 1160: "2XC430-W250"}),
    )
    return {number: Model(name, unit, fast) for unit, fast, names in families for number, name in names.items()}


MODELS = _models()  # "Model Number (0)" → model


def error_words(status: int) -> str:
    """Text of a Hardware Error Status, or nothing."""
    bits = [bit for bit in range(8) if status >> bit & 1]
    return ", ".join(HARDWARE_ERRORS.get(bit, f"hardware error bit {bit}") for bit in bits)
