"""Actuator delay and friction of one joint: from what was commanded and what the joint then did.

The motion is explained by the command before it, `acceleration = (u(t - delay) - viscous * velocity - coulomb * sign(velocity) -
gravity - offset) / inertia` (of a position or velocity servo: the same with its own stiffness). Nothing is differentiated: both
sides are multiplied by smooth windows and integrated by parts, so the derivatives fall on the windows (modulating functions:
Preisig & Rippin, Computers & Chemical Engineering 17, 1993). The command is a zero-order hold whose integral is known exactly, so
the delay need be no multiple of anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from calibration.lag import BLOCKS, Lag, best_lag, gram, jackknife
from robot_wm.calibration_file import Calibration
from robot_wm.errors import CalibrationError
from robot_wm.messages import FloatArray

RESPONSES = ("effort", "velocity", "position", "reported")
EARLIEST_S, LATEST_S, STEP_S = -0.02, 0.15, 0.001  # the delays that are tried
WINDOW_S = 0.1
LEAST_SAMPLES = 12  # in a window
LEAST_EXPLAINED = 0.95
SIGNIFICANT = 3.0  # standard errors a friction must differ from zero by
STICKING = 0.2  # of the largest command: with more friction than this the standstill at every reversal moves the delay
GAP = 5.0  # median periods


@dataclass(frozen=True)
class Delay:
    """What was found for one joint; times in seconds, the others in the command's unit per SI unit, None where not identifiable."""

    delay_s: float
    interval_s: tuple[float, float]  # 95 % confidence
    explained: float  # share of the motion, beyond what friction and gravity explain, that the command explains
    viscous: float | None = None
    coulomb: float | None = None
    inertia: float | None = None

    @property
    def half_width_s(self) -> float:
        return (self.interval_s[1] - self.interval_s[0]) / 2


@dataclass(frozen=True)
class Log:
    """What was recorded of one joint; stamps in seconds of one clock, increasing."""

    command_stamps: FloatArray  # (M,) when each command was sent; it holds until the next
    command: FloatArray  # (M,) SI units
    stamps: FloatArray  # (N,) capture of each response
    response: (
        FloatArray  # (N,) joint position without wraps [rad or m]; for `reported` the effort that the motor reports
    )


def identify(logs: Sequence[Log], mode: str, joint: str = "joint", window_s: float = WINDOW_S) -> Delay:
    """Delay from sending a command to its effect, over all logs of one joint together.

    Args:
        mode: what is commanded: effort, velocity or position; or reported: an effort, and the response is the motor's own
            report of it, which tells the way to the motor and back, but nothing of the mechanics.
        window_s: length of a window [s]; at least 12 samples are taken.

    Raises:
        CalibrationError: too short, too little motion, or a motion that the command does not explain.
    """
    if mode not in RESPONSES:
        raise CalibrationError(f"{joint}: mode must be one of {', '.join(RESPONSES)}, got {mode!r}")
    periods = [_checked(log, joint) for log in logs]
    width = max(window_s, LEAST_SAMPLES * max(periods))
    windows = [_Windows.over(log.stamps, width, period) for log, period in zip(logs, periods, strict=True)]
    count = sum(len(w.starts) for w in windows)
    if count < 2 * BLOCKS:
        raise CalibrationError(
            f"{joint}: {count} windows of {width:.2f} s without gaps are too few; record 20 s or more, without pauses"
        )
    shares = [math.ceil(BLOCKS * len(w.starts) / count) for w in windows]
    lags = np.arange(EARLIEST_S, LATEST_S + STEP_S / 2, STEP_S)
    grams = [_grams(*each, mode, lags) for each in zip(windows, logs, shares, strict=True)]
    found = best_lag(lags, np.concatenate(grams, axis=1))
    if found.at_edge or found.explained < LEAST_EXPLAINED:
        raise CalibrationError(
            f"{joint}: the command explains only {100 * found.explained:.0f} % of the motion (best at "
            f"{1e3 * found.seconds:.0f} ms): excite this joint alone, more strongly, and check that the mode is {mode}"
        )
    friction, largest = -found.coefficients[1] / found.coefficients[-1], max(np.abs(log.command).max() for log in logs)
    if mode != "reported" and friction > STICKING * largest:
        raise CalibrationError(
            f"{joint}: friction takes {friction:.3g} of commands up to {largest:.3g}, so the joint sticks at every reversal "
            f"and the delay cannot be told; excite it with {friction / STICKING:.2g} or more"
        )
    low, high = found.interval
    if mode == "reported":  # samples of a held number: within one period of the reports every delay gives the same log
        low, high = low - max(periods) / 2, high + max(periods) / 2
    return Delay(found.seconds, (low, high), found.explained, **_mechanics(found, mode))


def to_calibration(delays: Mapping[str, Delay], serial: str, mode: str) -> Calibration:
    """The file's content for joints by name; the residual is the widest confidence interval's half width [ms]."""
    values = {joint: {k: v for k, v in asdict(d).items() if k != "explained"} for joint, d in delays.items()}
    worst = max(d.half_width_s for d in delays.values())
    what = (
        "effort command to reported effort" if mode == "reported" else f"{mode} command to motion, modulating functions"
    )
    return Calibration("delay", serial, what, 1e3 * worst, values)


@dataclass(frozen=True)
class _Windows:
    """Smooth windows on an even grid of time."""

    grid: FloatArray  # (G,) [s]
    starts: FloatArray  # (W,) first grid index of every window
    bump: FloatArray  # (3, n): the window, its first and its second derivative, times the grid's step

    @classmethod
    def over(cls, stamps: FloatArray, width: float, period: float) -> _Windows:
        """Four windows per width, none across a gap."""
        step = min(period / 2, 0.002)
        grid = np.arange(stamps[0], stamps[-1], step)
        size = round(width / step) + 1
        starts = np.arange(0, max(len(grid) - size, 0), max(size // 4, 1))
        gaps = np.flatnonzero(np.diff(stamps) > GAP * period)
        clear = np.ones(len(starts), bool)
        for gap in gaps:
            clear &= (grid[starts + size - 1] < stamps[gap]) | (grid[starts] > stamps[gap + 1])
        s = np.linspace(-1.0, 1.0, size)
        inner, slope = 1 - s * s, 2 / ((size - 1) * step)
        bump = np.stack([inner**4, -8 * s * inner**3 * slope, (48 * s * s * inner**2 - 8 * inner**3) * slope**2])
        return cls(grid, starts[clear], bump * step)

    def project(self, values: FloatArray, derivative: int = 0) -> FloatArray:
        """Integrals (W,) over every window of the `derivative`-th derivative of `values` (G,)."""
        rows = np.lib.stride_tricks.sliding_window_view(values, self.bump.shape[1])[self.starts]
        return np.asarray((-1) ** derivative * (rows @ self.bump[derivative]))


def _grams(windows: _Windows, log: Log, blocks: int, mode: str, lags: FloatArray) -> FloatArray:
    """(L, blocks, K + 2, K + 2) of one log."""
    motion = CubicSpline(log.stamps, log.response)(windows.grid)
    shapes = [np.ones_like(motion)]
    if mode != "reported":
        shapes += [np.sin(motion), np.cos(motion)]
    if mode == "position":
        shapes += [motion]
    columns = [windows.project(values) for values in shapes]
    if mode != "reported":
        columns = [windows.project(motion, 1), windows.project(_sign_of_velocity(motion, windows)), *columns]
    target = windows.project(motion, 0 if mode == "reported" else 2)
    held = np.diff(log.command_stamps, append=max(windows.grid[-1], log.command_stamps[-1]) + 1.0)
    knots = np.append(log.command_stamps, log.command_stamps[-1] + held[-1])
    sent = np.append(0.0, np.cumsum(log.command * held))  # the command's integral
    others = np.column_stack(columns)
    return np.stack(
        [gram(others, windows.project(np.interp(windows.grid - lag, knots, sent), 1), target, blocks) for lag in lags]
    )


def _sign_of_velocity(motion: FloatArray, windows: _Windows) -> FloatArray:
    """Sign (G,) of the velocity, soft where it is a fiftieth of its rms: below that encoder steps decide."""
    half = max(windows.bump.shape[1] // 16, 1)
    padded = np.pad(motion, half, mode="edge")
    velocity = padded[2 * half :] - padded[: -2 * half]
    return np.asarray(np.tanh(velocity / max(0.02 * float(np.std(velocity)), 1e-12)))


def _mechanics(found: Lag, mode: str) -> dict[str, float | None]:
    """Inertia and friction, as far as they differ from zero by more than chance."""
    if mode != "effort":
        return {}
    ratios = {
        "inertia": lambda c: 1.0 / c[..., -1],
        "viscous": lambda c: -c[..., 0] / c[..., -1],
        "coulomb": lambda c: -c[..., 1] / c[..., -1],
    }
    result: dict[str, float | None] = {}
    for name, ratio in ratios.items():
        value = float(ratio(found.coefficients))
        result[name] = value if value > SIGNIFICANT * jackknife(ratio(found.parts)) else None
    return result


def _checked(log: Log, joint: str) -> float:
    """The median period [s] of the response."""
    pairs = {"command": (log.command_stamps, log.command), "response": (log.stamps, log.response)}
    for name, (times, values) in pairs.items():
        if len(times) != len(values) or len(times) < 3 or not (np.isfinite(times).all() and np.isfinite(values).all()):
            raise CalibrationError(f"{joint}: the {name} needs at least three finite samples with a stamp each")
        if not (np.diff(times) > 0).all():
            raise CalibrationError(f"{joint}: the stamps of the {name} must increase")
        if np.ptp(values) <= 1e-9:
            raise CalibrationError(
                f"{joint}: the {name} never changes; excite the joint: robot-wm record --drive excite"
            )
    return float(np.median(np.diff(log.stamps)))
