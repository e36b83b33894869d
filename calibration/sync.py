"""Time offset between two streams that see the same rotation: a camera and joints, two encoders, an IMU and an arm.

What one stream turned by between two of its stamps is compared with what the other turned by over the same interval, shifted. So a
camera at 30 Hz meets an encoder at 500 Hz without filtering either: both are averaged over the same exposure-to-exposure interval.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from calibration.lag import BLOCKS, Lag, best_lag, gram
from robot_wm.calibration_file import Calibration
from robot_wm.errors import CalibrationError
from robot_wm.messages import FloatArray

REACH_S, STEP_S = 0.3, 0.002  # offsets that are tried
LEAST_INTERVALS = 5 * BLOCKS
LEAST_CORRELATION = 0.8
AMBIGUOUS = 0.9  # of the best peak: a second one as high as this could be the true one
LEAST_SPEED = 0.05  # [rad/s] rms


@dataclass(frozen=True)
class Turns:
    """How far a stream turned from stamp to stamp, in seconds of its own clock."""

    stamps: FloatArray  # (N + 1,) increasing
    angle: FloatArray  # (N,) from each stamp to the next; any unit, sign included unless `unsigned`
    unsigned: bool = False  # magnitudes alone, as optical flow gives


@dataclass(frozen=True)
class Offset:
    """`stamp on the reference's clock = stamp of the stream - seconds`: how late the stream's stamps are."""

    seconds: float
    interval: tuple[float, float]  # 95 % confidence [s]
    correlation: float  # of both speeds at the best offset, 0..1

    @property
    def half_width(self) -> float:
        return (self.interval[1] - self.interval[0]) / 2


def turns_of(stamps: FloatArray, angle: FloatArray) -> Turns:
    """A stream of angles (N,) without wraps, such as a joint's or a gyroscope's integral."""
    return Turns(np.asarray(stamps, float), np.diff(angle))


def find_offset(reference_stamps: FloatArray, reference: FloatArray, stream: Turns, name: str = "stream") -> Offset:
    """How late the stream's stamps are, against a reference that was sampled finely.

    Args:
        reference_stamps: (M,) [s], increasing.
        reference: (M,) angle of the joint that moves what the stream sees [rad], without wraps.
        stream: stamped within 0.3 s of the reference.

    Raises:
        CalibrationError: the motion was too short, too weak, too regular, or not what the stream saw.
    """
    times = np.asarray(reference_stamps, float)
    _check(times, reference, stream, name)
    motion = CubicSpline(times, reference)
    inside = (stream.stamps[:-1] > times[0] + REACH_S) & (stream.stamps[1:] < times[-1] - REACH_S)
    if inside.sum() < LEAST_INTERVALS:
        raise CalibrationError(
            f"{name}: {int(inside.sum())} samples lie within the joints' recording, {LEAST_INTERVALS} are needed; record longer"
        )
    start, end, angle = stream.stamps[:-1][inside], stream.stamps[1:][inside], stream.angle[inside]
    held = end - start
    still = float(np.sqrt(np.mean(((motion(end) - motion(start)) / held) ** 2))) < LEAST_SPEED
    if still:
        raise CalibrationError(f"{name}: the joint hardly turned; move it back and forth briskly, a quarter turn or so")
    lags = np.arange(-REACH_S, REACH_S + STEP_S / 2, STEP_S)
    found = best_lag(
        lags, np.stack([_gram(motion, start - lag, end - lag, angle / held, stream.unsigned) for lag in lags])
    )
    return _judged(found, name)


def to_calibration(offset: Offset, serial: str, reference: str, stream: str) -> Calibration:
    """The file's content; the residual is the half width of the confidence interval [ms]."""
    values = {
        "reference": reference,
        "stream": stream,
        "offset_s": offset.seconds,
        "interval_s": list(offset.interval),
        "correlation": offset.correlation,
    }
    return Calibration("sync", serial, "correlation of angular speeds", 1e3 * offset.half_width, values)


def figures(offset: Offset) -> dict[str, object]:
    """What a command prints."""
    return asdict(offset) | {"offset_ms": 1e3 * offset.seconds, "half_width_ms": 1e3 * offset.half_width}


def _gram(motion: CubicSpline, start: FloatArray, end: FloatArray, speed: FloatArray, unsigned: bool) -> FloatArray:
    seen = (motion(end) - motion(start)) / (end - start)
    return gram(np.ones((len(seen), 1)), np.abs(seen) if unsigned else seen, np.abs(speed) if unsigned else speed)


def _judged(found: Lag, name: str) -> Offset:
    correlation = float(np.sqrt(max(found.explained, 0.0)))
    if found.at_edge or correlation < LEAST_CORRELATION:
        raise CalibrationError(
            f"{name}: its motion and the joint's agree too little (correlation {correlation:.2f} at "
            f"{1e3 * found.seconds:.0f} ms): let nothing else move in view, and check that the stamps are of one clock"
        )
    if found.runner_up > AMBIGUOUS * found.explained:
        raise CalibrationError(
            f"{name}: the motion repeats itself, so that several offsets fit; move less regularly, in strokes of changing length"
        )
    return Offset(found.seconds, found.interval, correlation)


def _check(times: FloatArray, reference: FloatArray, stream: Turns, name: str) -> None:
    if len(stream.stamps) != len(stream.angle) + 1:
        raise CalibrationError(f"{name}: {len(stream.angle)} turns need {len(stream.angle) + 1} stamps")
    for what, stamps, values in (("joint", times, reference), (name, stream.stamps, stream.angle)):
        if len(stamps) < 3 or not (np.isfinite(stamps).all() and np.isfinite(values).all()):
            raise CalibrationError(f"{what}: needs at least three finite samples")
        if not (np.diff(stamps) > 0).all():
            raise CalibrationError(f"{what}: stamps must increase")
