"""Trust in the model: how surprising a measurement is beside its prediction, in units of what held-out bags show to be usual.

Everything is dimensionless. A statistic is 1 on average while the model holds: the normalised innovation squared per degree of
freedom of an observation (Bar-Shalom et al., Estimation with Applications to Tracking and Navigation, section 5.4), or the square
of the latent change that an image alone makes, relative to its usual size. A score says how far a statistic lies in the tail that
healthy bags have (the logarithmic excess in units of Hill's estimate, Ann. Statist. 3, 1975). Scores are clipped and accumulated
by a one-sided CUSUM (Page, Biometrika 41, 1954): one outlier is not enough, a lasting surprise adds up within a few corrections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot_wm.contract_observations import Observation
from robot_wm.messages import FloatArray

LEAST, MOST = -1.0, 4.0  # of one score: what a good correction takes back, and what a single outlier adds
QUANTILE = 0.9  # of the healthy statistics: beyond it a score is positive
OUTLIERS = 3.0  # corrections in a row that an alarm takes at least: a wild reading spoils its own and the next
CEILING = 4.5  # most that is accumulated, in limits: bounds the time that recovery takes
TINY = 1e-12
BINS, FEW = 8, 20  # of motion, and how many errors one of them needs to count


@dataclass(frozen=True)
class Tail:
    """The upper tail of one statistic in health, and how much accumulated excess is an alarm."""

    usual: float  # one in ten is larger
    slope: float  # mean of log(statistic / usual) over those
    limit: float  # of the accumulated score

    def score(self, statistic: float) -> float:
        """Excess of one correction; negative for nine healthy corrections in ten, above with mean 1 for the others."""
        return float(np.clip(np.log(max(statistic, TINY) / self.usual) / self.slope, LEAST, MOST))


class Surprise:
    """The accumulated score of one statistic; `level` 1 is the alarm."""

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.sum = 0.0

    @property
    def level(self) -> float:
        return self.sum / self.tail.limit

    def add(self, statistic: float) -> float:
        """Count one correction and return the level."""
        ceiling = CEILING * self.tail.limit
        self.sum = min(max(0.0, self.sum + self.tail.score(statistic)), ceiling)
        return self.level

    def reset(self) -> None:
        self.sum = 0.0


def residual(item: Observation, measured: FloatArray, predicted: FloatArray) -> FloatArray:
    """measured - predicted (..., K) of one observation's components, angles the short way round."""
    angle = np.array([kind == "angle" for kind in item.encoding])
    plain = np.asarray(measured, np.float64) - predicted
    wrapped: FloatArray = np.where(angle, (plain + np.pi) % (2 * np.pi) - np.pi, plain)
    return wrapped


def normalised_square(error: FloatArray, scale: FloatArray) -> float:
    """Normalised innovation squared per degree of freedom: mean over components (K,) of (error / usual error) squared."""
    return float(np.mean((np.asarray(error, np.float64) / scale) ** 2))


@dataclass(frozen=True)
class Scale:
    """How large an error usually is where the model predicts so much motion: a model errs more the faster things go, and a scale
    that is right on average would overlook what goes wrong while the robot nearly stands."""

    motion: tuple[float, ...]  # (B,) ascending: of the latent, rms per model step
    error: tuple[tuple[float, ...], ...]  # (B, K) rms there

    def at(self, motion: float) -> FloatArray:
        """Usual error (K,) at a motion: between the known ones linear in their logarithms, beyond them as at the last."""
        known, table = np.log(np.array(self.motion)), np.log(np.array(self.error))
        at = np.log(max(motion, TINY))
        result: FloatArray = np.exp([np.interp(at, known, column) for column in table.T])
        return result


def usual_error(scales: Mapping[int, Scale], steps: int, motion: float) -> FloatArray:
    """Usual error (K,) of a prediction that nothing corrected for so many model steps; between the known numbers of steps linear
    in their logarithms, beyond them as at the last."""
    known = sorted(scales)
    at = np.log(np.clip(steps, known[0], known[-1]))
    table = np.log([scales[k].at(motion) for k in known])
    result: FloatArray = np.exp([np.interp(at, np.log(known), column) for column in table.T])
    return result


def fit_scale(motion: FloatArray, errors: FloatArray) -> Scale:
    """Root mean square errors (N, K) by the motion (N,) they were made at, in bins that are equally wide in its logarithm."""
    moved = np.maximum(motion, TINY)
    edges = np.geomspace(np.quantile(moved, 0.05), np.quantile(moved, 0.995), BINS + 1)[1:-1]
    bins = np.digitize(moved, edges)
    full: list[int | None] = [b for b in range(BINS) if np.sum(bins == b) >= FEW]
    rows = [np.ones(len(moved), bool) if b is None else bins == b for b in full or [None]]
    centres = [float(np.exp(np.mean(np.log(moved[row])))) for row in rows]
    usual = [np.maximum(np.sqrt(np.mean(np.square(errors[row]), axis=0)), TINY) for row in rows]
    return Scale(tuple(centres), tuple(tuple(float(x) for x in row) for row in usual))


def fit_tail(series: Sequence[FloatArray], seconds: float, alarms_per_second: float) -> Tail:
    """The tail of one statistic from healthy episodes.

    Args:
        series: statistics of each episode (N_i,), in the order of their corrections.
        seconds: that the episodes lasted together.
        alarms_per_second: how often the limit may be reached.

    The limit comes from the peaks of the CUSUM's excursions, whose tail is exponential (Siegmund, Sequential Analysis, chapter
    2): it is where the fitted tail is reached as seldom as wanted, but never below the highest peak seen.
    """
    every = np.maximum(np.concatenate(series), TINY)
    usual = float(np.quantile(every, QUANTILE))
    above = every[every > usual]
    slope = float(np.mean(np.log(above / usual))) if len(above) else 1.0
    tail = Tail(usual, max(slope, 0.05), 1.0)
    peaks = np.concatenate([excursions(tail, values) for values in series])
    if not len(peaks):
        return Tail(tail.usual, tail.slope, OUTLIERS * MOST)
    least = float(np.quantile(peaks, QUANTILE))
    beyond = peaks[peaks >= least]
    excess = max(float(np.mean(beyond - least)), 0.1)
    reached = len(beyond) / seconds / alarms_per_second
    limit = least + excess * float(np.log(max(reached, 1.0)))
    return Tail(tail.usual, tail.slope, max(limit, float(peaks.max()), OUTLIERS * MOST))


def excursions(tail: Tail, statistics: FloatArray) -> FloatArray:
    """Peaks (P,) of the accumulated score between its returns to zero, of one episode (N,)."""
    total, peak, peaks = 0.0, 0.0, []
    for statistic in statistics.tolist():
        total = max(0.0, total + tail.score(statistic))
        if total == 0.0 and peak > 0.0:
            peaks.append(peak)
            peak = 0.0
        peak = max(peak, total)
    if peak > 0.0:
        peaks.append(peak)
    return np.array(peaks)
