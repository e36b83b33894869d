"""Trust in the model: how surprising a correction is, in units of what held-out bags show to be usual.

Everything is dimensionless. A statistic is 1 on average while the model holds: the square, per degree of freedom, of how far
posterior and prior of the same stamp lie apart (the normalised innovation squared; Bar-Shalom et al., Estimation with Applications
to Tracking and Navigation, section 5.4). A learned model is a little wrong in the same way for as long as a robot does the same
thing, so statistics do not add up as independent ones would: surprise is how large they are, not how many. It is the median of a
few, so that one wild reading is none (a picture counts by itself), in units of the largest that healthy bags promise; the longer it
lasts the more it counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot_wm.contract_observations import Observation
from robot_wm.messages import FloatArray

QUANTILE = 0.9  # of the healthy statistics: what is above is surprising
RARE = 0.998  # quantile of single ones: what is above shows at once that something happened
WINDOW = 5  # corrections whose median counts: a wild reading spoils its own and the next
IMAGE_WINDOW = 1  # of images: another scene is believed after one or two, so the first has to be enough
LASTING = 0.1  # levels that every correction adds while the surprise is more than health knows
CEILING = 4.5  # highest level: bounds the time that recovery takes
BLOCK_S = 1.0  # of health, whose largest surprises are taken to be independent
EXTREMES = 10  # of those that make the tail, a fifth at most
FACTOR = 2.0  # that an alarm is above what one correction in ten shows, at least
TINY = 1e-12
BINS, FEW = 8, 20  # of motion, and how many errors one of them needs to count


@dataclass(frozen=True)
class Tail:
    """The upper tail of one statistic's medians in health."""

    usual: float  # one in ten is larger
    limit: float  # an alarm
    rare: float  # one single statistic in 500 is larger

    def level(self, statistic: float) -> float:
        """How far a statistic lies in the tail: 0 what is usual, 1 the limit; logarithmic."""
        return max(0.0, float(np.log(max(statistic, TINY) / self.usual) / np.log(self.limit / self.usual)))


class Surprise:
    """The surprise of one statistic; `level` 1 is the alarm."""

    def __init__(self, tail: Tail, window: int = WINDOW) -> None:
        self.tail = tail
        self.level, self._lasted = 0.0, 0.0
        self._recent = deque([0.0] * window, maxlen=window)

    def add(self, statistic: float) -> float:
        """Count one correction and return the level."""
        self._recent.append(statistic)
        now = self.tail.level(float(np.median(self._recent)))
        self._lasted = float(np.clip(self._lasted + (LASTING if now >= 1.0 else -LASTING), 0.0, CEILING - 1.0))
        self.level = min(now, 1.0) + self._lasted
        return self.level

    def reset(self) -> None:
        self.level, self._lasted = 0.0, 0.0
        self._recent.extend([0.0] * len(self._recent))


def residual(item: Observation, measured: FloatArray, predicted: FloatArray) -> FloatArray:
    """measured - predicted (..., K) of one observation's components, angles the short way round."""
    angle = np.array([kind == "angle" for kind in item.encoding])
    plain = np.asarray(measured, np.float64) - predicted
    wrapped: FloatArray = np.where(angle, (plain + np.pi) % (2 * np.pi) - np.pi, plain)
    return wrapped


def normalised_square(error: FloatArray, scale: FloatArray) -> float:
    """Normalised innovation squared per degree of freedom: the mean of (error (K,) / usual error (K,) or (1,)) squared."""
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


def fit_tail(series: Sequence[tuple[FloatArray, FloatArray]], alarms_per_second: float, window: int = WINDOW) -> Tail:
    """The tail of one statistic from healthy episodes.

    Args:
        series: times [s] (N_i,) and statistics (N_i,) of each episode, in the order of their corrections.
        alarms_per_second: how often the limit may be reached.
        window: statistics whose median counts.

    The limit comes from the largest surprise of each second, whose logarithm has an exponential tail (peaks over a threshold;
    Coles, An Introduction to Statistical Modeling of Extreme Values, chapter 4, with shape 0): it is where that tail is reached
    as seldom as wanted, but never below the largest that was seen.
    """
    surprises = [(t, np.log(np.maximum(medians(values, window), TINY))) for t, values in series]
    usual = float(np.quantile(np.concatenate([values for _, values in surprises]), QUANTILE))
    blocks = [np.unique(((t - t[0]) // BLOCK_S).astype(int), return_inverse=True)[1] for t, _ in surprises]
    every = [
        float(values[block == b].max())
        for (_, values), block in zip(surprises, blocks, strict=True)
        for b in set(block.tolist())
    ]
    largest = np.sort(np.array(every))
    count = max(1, min(EXTREMES, len(largest) // 5))
    least = float(largest[-count - 1]) if len(largest) > count else float(largest[0])
    reached = count / (len(largest) * BLOCK_S) / alarms_per_second
    limit = least + float(np.mean(largest[-count:] - least)) * float(np.log(max(reached, 1.0)))
    limit = max(limit, float(largest[-1]))
    rare = float(np.quantile(np.concatenate([values for _, values in series]), RARE))
    return Tail(float(np.exp(usual)), float(np.exp(max(limit, usual + np.log(FACTOR)))), max(rare, TINY))


def medians(statistics: FloatArray, window: int) -> FloatArray:
    """The running median (N,) of one episode's statistics (N,)."""
    padded = np.concatenate([np.zeros(window - 1), statistics])
    result: FloatArray = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=-1)
    return result
