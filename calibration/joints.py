"""Joint zero, direction and range from a sweep between the end stops.

An encoder reads `direction * q + constant`, modulo its period (one turn of its shaft), in steps. Where it wraps is an accident of
assembly. So the sweep comes first; then the reading at the middle of what was swept becomes the centre, and the wrap falls
opposite to it, where the joint cannot go: `q = direction * wrap(reading - centre) + centre_position`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot_wm.calibration_file import Calibration
from robot_wm.errors import CalibrationError
from robot_wm.joint_zero import WHOLE_TURN, JointZero
from robot_wm.messages import FloatArray

NEAR_STOP = math.radians(5.0)  # a visit is a stay within this of the end of what was swept
RESTING = math.radians(0.5)  # in a window of DWELL_S it moves less than this: it rests
DWELL_S = 0.3
FREE_GAP = math.radians(5.0)  # of the period must stay outside the range, or there is no place for the wrap
SMALLEST_SWEEP = math.radians(10.0)


@dataclass(frozen=True)
class Sweep:
    """The result for one joint."""

    zero: JointZero
    visits: tuple[int, int]  # stays at the low and at the high stop
    repeatability_rad: float  # largest distance between two visits of one stop
    span_error_rad: float | None  # measured minus given range, where both stops were given


def sweep(
    stamps: FloatArray,
    reading: FloatArray,
    joint: str = "joint",
    effort: FloatArray | None = None,
    low: float | None = None,
    high: float | None = None,
    first: str = "low",
    period: float = WHOLE_TURN,
) -> Sweep:
    """Zero, direction and range of one joint that was moved from stop to stop, resting at each at least twice.

    Args:
        stamps: (N,) [s], increasing.
        reading: (N,) encoder readings [rad], wrapped or not.
        effort: (N,) joint effort; where it varies at a stop, the stop's position is the one at zero effort, since arms and
            stops give way.
        low, high: joint positions [rad] at the stops, from the drawing or the URDF. Without either, zero is the middle; with
            one, the other follows from the sweep; with both, the middle is fitted and their difference is checked.
        first: which stop the joint was at first; this settles the direction.
        period: of the reading [rad].

    Raises:
        CalibrationError: it moved too little, too fast, past a whole period, or visited a stop only once.
    """
    if first not in ("low", "high"):
        raise CalibrationError(f"{joint}: the first stop must be low or high, got {first!r}")
    times, angle = np.asarray(stamps, float), unwrap(reading, period, joint)
    if np.ptp(angle) < SMALLEST_SWEEP:
        raise CalibrationError(
            f"{joint}: moved by {math.degrees(np.ptp(angle)):.1f} deg alone; move it from end stop to end stop"
        )
    rests = resting(times, angle)
    smallest, largest = (_stop(angle, rests, end, effort) for end in _ends(angle, rests, joint))
    for name, stop in (("smallest", smallest), ("largest", largest)):
        if len(stop.contacts) < 2:
            raise CalibrationError(
                f"{joint}: rested at the stop with the {name} reading once; go to each stop at least twice, and stay there "
                "for a second"
            )
    bottom, top = float(np.mean(smallest.contacts)), float(np.mean(largest.contacts))
    if top - bottom > period - FREE_GAP:
        raise CalibrationError(
            f"{joint}: swept {math.degrees(top - bottom):.0f} deg of an encoder that repeats after "
            f"{math.degrees(period):.0f}: its readings cannot be told apart; use the servo's multi-turn mode, or give --period"
        )
    starts_low = smallest.reached < largest.reached
    direction = 1.0 if starts_low == (first == "low") else -1.0
    middle, half = (bottom + top) / 2, (top - bottom) / 2
    position = _middle(low, high, half)
    zero = JointZero(direction, middle % period, position, position - half, position + half, period)
    error = None if low is None or high is None else 2 * half - (high - low)
    counts = (len(smallest.contacts), len(largest.contacts))
    spread = max(float(np.ptp(stop.contacts)) for stop in (smallest, largest))
    return Sweep(zero, counts if direction > 0 else counts[::-1], spread, error)


def unwrap(reading: FloatArray, period: float = WHOLE_TURN, joint: str = "joint") -> FloatArray:
    """Readings (N,) without their wraps. Raises CalibrationError where a step could be a wrap as well as a motion."""
    angle = np.unwrap(np.asarray(reading, float), period=period)
    if len(angle) < 2 or not np.isfinite(angle).all():
        raise CalibrationError(f"{joint}: has no finite readings to calibrate from")
    step = float(np.abs(np.diff(angle)).max())
    if step > period / 4:
        raise CalibrationError(
            f"{joint}: jumps by {math.degrees(step):.0f} deg from one reading to the next: a wrap cannot be told from a motion; "
            f"move slower, or record at a higher rate"
        )
    return angle


def resting(times: FloatArray, angle: FloatArray) -> FloatArray:
    """Which samples (N,) lie in the middle of DWELL_S without motion."""
    start = np.searchsorted(times, times - DWELL_S / 2)
    stop = np.searchsorted(times, times + DWELL_S / 2, side="right")
    whole = (times >= times[0] + DWELL_S / 2) & (times <= times[-1] - DWELL_S / 2)
    moved = np.array([np.ptp(angle[a:b]) for a, b in zip(start, stop, strict=True)])
    return np.asarray(whole & (moved < RESTING))


def to_calibration(sweeps: Mapping[str, Sweep], serial: str) -> Calibration:
    """The file's content for joints by name; the residual is the largest disagreement found in any of them."""
    worst = max(max(s.repeatability_rad, abs(s.span_error_rad or 0.0) / 2) for s in sweeps.values())
    values: dict[str, Any] = {joint: asdict(s.zero) for joint, s in sweeps.items()}
    visits = min(min(s.visits) for s in sweeps.values())
    return Calibration(
        "joints", serial, f"sweep between end stops, at least {visits} visits each", math.degrees(worst), values
    )


def _ends(angle: FloatArray, rests: FloatArray, joint: str) -> tuple[float, float]:
    """Smallest and largest reading at which it rested."""
    if not rests.any():
        raise CalibrationError(f"{joint}: never rested for {DWELL_S:g} s; stay at each end stop for a second")
    return float(angle[rests].min()), float(angle[rests].max())


@dataclass(frozen=True)
class _Stop:
    reached: int  # first row there
    contacts: list[float]  # where it was found, visit by visit [rad]


def _stop(angle: FloatArray, rests: FloatArray, end: float, effort: FloatArray | None) -> _Stop:
    """One end stop: every visit's median reading, less what it gave way under the effort of that moment."""
    near = np.abs(angle - end) < NEAR_STOP
    edges = np.flatnonzero(np.diff(np.concatenate([[False], near, [False]]).astype(int))).reshape(-1, 2)
    visits = [a + np.flatnonzero(rests[a:b]) for a, b in edges]
    visits = [rows for rows in visits if len(rows)]
    rows = np.concatenate(visits)
    freed = angle if effort is None else angle - _softness(angle, effort, rows) * effort
    return _Stop(int(rows[0]), [float(np.median(freed[rows])) for rows in visits])


def _softness(angle: FloatArray, effort: FloatArray, rows: Any) -> float:
    """How far a stop gives way per effort; 0 where that is no more than a step of the encoder, which would only be amplified."""
    steps = np.abs(np.diff(angle))
    step = float(steps[steps > 1e-9].min())
    if np.ptp(angle[rows]) <= 2 * step or np.ptp(effort[rows]) <= 1e-9:
        return 0.0
    return float(np.polyfit(effort[rows], angle[rows], 1)[0])


def _middle(low: float | None, high: float | None, half: float) -> float:
    """Joint position [rad] in the middle of the range."""
    if low is not None and high is not None:
        return (low + high) / 2
    if low is not None:
        return low + half
    return high - half if high is not None else 0.0
