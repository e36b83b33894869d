"""How an encoder's reading becomes a joint's position; calibration/joints.py finds it, a motor bus applies it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot_wm.calibration_file import Calibration
from robot_wm.messages import FloatArray

WHOLE_TURN = 2 * math.pi


@dataclass(frozen=True)
class JointZero:
    """How a reading becomes a position; all angles in radians."""

    direction: float  # 1, or -1 where the encoder counts against the joint
    centre_rad: float  # reading in the middle of the range, in [0, period)
    centre_position_rad: float  # joint position there
    low_rad: float  # joint positions at the end stops
    high_rad: float
    period_rad: float  # after how much the reading repeats

    def position(self, reading: FloatArray) -> FloatArray:
        """Joint positions [rad] of encoder readings [rad], any shape; without a jump anywhere within the range."""
        half = self.period_rad / 2
        away = np.mod(np.asarray(reading) - self.centre_rad + half, self.period_rad) - half
        return np.asarray(self.direction * away + self.centre_position_rad)

    def changes(self, tolerance_rad: float) -> bool:
        """Whether a position differs from its reading by more than `tolerance_rad` and whole periods."""
        shift = math.remainder(self.centre_position_rad - self.centre_rad, self.period_rad)
        return self.direction < 0 or abs(shift) > tolerance_rad


def joint_zeros(calibration: Calibration) -> dict[str, JointZero]:
    """The joints of a calibration of kind `joints`, by name."""
    return {joint: JointZero(**values) for joint, values in calibration.values.items()}
