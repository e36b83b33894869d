"""Memory table of Feetech STS and SMS servos: registers, units, models, words for errors.

Source: Feetech, "Magnetic Encoding STS Servo – Memory Table Analysis" and "STS&SMS memory table" (feetechrc.com, doc.feetech.cn);
"Memory table" below. Numbers in brackets are addresses.
"""

from __future__ import annotations

import math

import numpy as np

from robot_wm.buses.servo_register import Register
from robot_wm.messages import FloatArray

STEPS = 4096  # a turn
STEP = 2.0 * math.pi / STEPS  # [rad] "Present Position (56)"
CENTRE = 2048  # [step] the middle of a turn; here the servo is at 0 rad
LOAD_UNIT = 1e-3  # of full PWM: "Present Load (60)", "Goal PWM (44)", "Torque Limit (48)"
VOLTAGE_UNIT = 0.1  # [V] "Present Voltage (62)"
CURRENT_UNIT = 6.5e-3  # [A] "Present Current (69)"

IDENTITY = Register(0, 5)  # firmware major and minor, byte order (0: low byte first), model (2)
POSITION_LIMITS = Register(9, 4)  # Min and Max Position Limit, 2 bytes each; both 0: many turns
PHASE = Register(18, 1)
RESOLUTION = Register(30, 1)  # steps are so many times as large
OPERATING_MODE = Register(33, 1)
TORQUE_ENABLE = Register(40, 1)
MOTION = Register(41, 7)  # Acceleration (41), Goal Position (42, 2), Goal Time or PWM (44, 2), Goal Speed (46, 2)
GOAL_POSITION = Register(42, 2)
GOAL_PWM = Register(44, 2)  # a time in position mode
GOAL_SPEED = Register(46, 2)
TORQUE_LIMIT = Register(48, 2)
LOCK = Register(55, 1)  # 1: what is written below 40 is not saved, and gone with the power
PRESENT = Register(56, 6)  # position (2), speed (2), load (2)
PRESENT_LAYOUT = np.dtype([("position", "<u2"), ("speed", "<u2"), ("load", "<u2")])
# Voltage (62), temperature (63), asynchronous write (64), status (65), moving (66), goal (67, 2), current (69, 2).
SUPPLY = Register(62, 9)
STATUS = 3  # where the status byte stands in SUPPLY
SPEED_LIMIT = Register(84, 1)  # 50 step/s a unit; 0: it says nothing

LOAD_SIGN, SIGN = 10, 15  # bit that says "negative" of loads and PWM, and of positions and speeds
FULL_PWM = 1000
FASTEST = 3400  # [step/s] the most that "Goal Speed (46)" takes by the memory table
FINE_SPEED = 1 << 2  # of PHASE: speeds are in steps per second, else in 50 of them
ZERO_IS_FULL = 1 << 3  # of PHASE: in position mode a goal speed of 0 is no limit, else it is a stop
MANY_TURNS = 1 << 4  # of PHASE: positions count on over many turns, else they begin anew
COARSE = 50  # [step/s]

# Control mode of the contract → "Operating Mode (33)", the goal that it obeys, and that goal's sign bit.
MODES = {
    "position": (0, GOAL_POSITION, SIGN),
    "velocity": (1, GOAL_SPEED, SIGN),
    "effort": (2, GOAL_PWM, LOAD_SIGN),
}

# Model number (3, 4), low byte first → model, as far as published (LeRobot, `motors/feetech/tables.py`).
MODELS = {777: "STS3215", 2825: "STS3250", 11272: "SM8512BL"}

STATUS_WORDS = {  # bit of the error byte of every answer and of "Status (65)"; bit 4 is reserved in later tables
    0: "input voltage",
    1: "position sensor",
    2: "overheating",
    3: "overcurrent",
    4: "angle",
    5: "overload",
}


def pack_signed(value: int, sign: int, size: int = 2) -> bytes:
    """A number as magnitude and a sign bit, low byte first."""
    return (abs(value) | (value < 0) << sign).to_bytes(size, "little")


def signed(raw: FloatArray, sign: int) -> FloatArray:
    """Magnitudes with a sign bit → numbers; bits above the sign are ignored."""
    whole = np.asarray(raw, np.int64)
    magnitude = whole & ((1 << sign) - 1)
    return np.where(whole >> sign & 1, -magnitude, magnitude).astype(np.float64)


def status_words(status: int) -> str:
    """Text of a status byte, or nothing."""
    bits = [bit for bit in range(8) if status >> bit & 1]
    return ", ".join(STATUS_WORDS.get(bit, f"status bit {bit}") for bit in bits)
