"""The lag at which one signal explains another best, below a sample, with its confidence interval.

At every lag a least-squares problem is solved: target = others @ coefficients + gain * signal(lag). The lag with the largest
partial correlation of signal and target, given the others, wins; a parabola through it and its neighbours gives the fraction of a
step. All of this needs Gram matrices alone, and those add up over blocks of time, so leaving out one block after the other
(jackknife; Efron & Tibshirani, An Introduction to the Bootstrap, ch. 11) tells how well the lag is known, whatever the noise's own
correlation within a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from robot_wm.messages import FloatArray

BLOCKS = 20
RIDGE = 1e-10  # of a feature's own power: lets features that say the same share the work


@dataclass(frozen=True)
class Lag:
    """The best lag [s] of a regression."""

    seconds: float
    interval: tuple[float, float]  # 95 % confidence
    explained: float  # share of what the others leave of the target: the squared partial correlation
    runner_up: float  # the same at the best other local maximum; 0 where there is none
    coefficients: FloatArray  # (K + 1,) of the others, then of the signal
    parts: FloatArray  # (B, K + 1) the same without one block each
    at_edge: bool  # of the lags searched: the true one may lie outside

    @property
    def half_width(self) -> float:
        """Of the 95 % confidence interval [s]."""
        return (self.interval[1] - self.interval[0]) / 2


def gram(others: FloatArray, signal: FloatArray, target: FloatArray, blocks: int = BLOCKS) -> FloatArray:
    """Gram matrices (B, K + 2, K + 2) of rows in the order of time: others (N, K), signal (N,), target (N,), by block of rows."""
    rows = np.column_stack([others, signal, target])
    return np.stack([part.T @ part for part in np.array_split(rows, blocks)])


def best_lag(lags: FloatArray, grams: FloatArray) -> Lag:
    """Find the lag.

    Args:
        lags: (L,) evenly spaced [s], L >= 3.
        grams: (L, B, K + 2, K + 2) as `gram` gives them for each lag.
    """
    total = grams.sum(axis=1)
    explained = _explained(total)
    top = int(np.argmax(explained))
    whole = _peak(lags, explained)
    count = grams.shape[1]
    parts, coefficients = [], []
    for block in range(count):
        rest = total - grams[:, block]
        parts.append(_peak(lags, _explained(rest)))
        coefficients.append(_solve(rest[top]))
    wide = float(stats.t.ppf(0.975, count - 1)) * jackknife(np.array(parts))
    return Lag(
        seconds=whole,
        interval=(whole - wide, whole + wide),
        explained=float(explained[top]),
        runner_up=_runner_up(explained, top),
        coefficients=_solve(total[top]),
        parts=np.array(coefficients),
        at_edge=top in (0, len(lags) - 1),
    )


def jackknife(parts: FloatArray) -> float:
    """Standard error of an estimate from the estimates (B,) without one block each."""
    count = len(parts)
    return float(np.sqrt((count - 1) / count * ((parts - parts.mean()) ** 2).sum()))


def _solve(matrix: FloatArray) -> FloatArray:
    features, cross = matrix[..., :-1, :-1], matrix[..., :-1, -1:]
    own = np.einsum("...ii->...i", features)
    scale = np.sqrt(np.where(own > 0.0, own, 1.0))
    scaled = features / (scale[..., :, None] * scale[..., None, :]) + RIDGE * np.eye(features.shape[-1])
    solution = np.linalg.solve(scaled, cross / scale[..., None])[..., 0]
    return np.asarray(solution / scale)


def _explained(matrices: FloatArray) -> FloatArray:
    """Squared partial correlation (L,) of the last two columns, given the others."""
    own = np.einsum("lii->li", matrices)
    scale = np.sqrt(np.where(own > 0.0, own, 1.0))
    scaled = matrices / (scale[:, :, None] * scale[:, None, :])
    others, cross, pair = scaled[:, :-2, :-2], scaled[:, :-2, -2:], scaled[:, -2:, -2:]
    if others.shape[-1]:
        fitted = np.linalg.solve(others + RIDGE * np.eye(others.shape[-1]), cross)
        pair = pair - cross.transpose(0, 2, 1) @ fitted
    power = pair[:, 0, 0] * pair[:, 1, 1]
    return np.asarray(np.where(power > 0.0, pair[:, 0, 1] ** 2 / np.where(power > 0.0, power, 1.0), 0.0))


def _peak(lags: FloatArray, explained: FloatArray) -> float:
    """Where the parabola through the largest value and its neighbours has its top."""
    top = int(np.clip(np.argmax(explained), 1, len(lags) - 2))
    before, at, after = explained[top - 1 : top + 2]
    bend = before - 2 * at + after
    shift = 0.5 * (before - after) / bend if bend < 0.0 else 0.0
    return float(lags[top] + np.clip(shift, -1.0, 1.0) * (lags[1] - lags[0]))


def _runner_up(explained: FloatArray, top: int) -> float:
    inner = np.flatnonzero((explained[1:-1] > explained[:-2]) & (explained[1:-1] >= explained[2:])) + 1
    others = explained[inner[inner != top]]
    return float(others.max()) if len(others) else 0.0
