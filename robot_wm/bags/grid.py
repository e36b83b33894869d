"""The numerics of alignment: series of stamps and values onto the instants of one grid. Pure functions, no loops over rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robot_wm.messages import FloatArray

Stamps = NDArray[np.int64]


def nearest_rows(stamps: Stamps, origin: int, step: int, instants: int) -> tuple[NDArray[np.int64], FloatArray]:
    """Which measurement each instant gets: row (instants,), -1 for none, and its signed age (instants,) in steps.

    A measurement belongs to the instant nearest its stamp, a tie to the later instant; of several, the one nearest to the
    instant wins, a tie goes to the later one. `stamps` (N,) are sorted. Source: docs/architecture.md, Time.
    """
    since = stamps - origin
    owner = (since + step // 2) // step
    distance = np.abs(owner * step - since)
    order = np.lexsort((-since, distance, owner))
    first = np.ones(len(order), bool)
    first[1:] = np.diff(owner[order]) > 0
    winners = order[first]
    winners = winners[(owner[winners] >= 0) & (owner[winners] < instants)]
    rows = np.full(instants, -1, np.int64)
    rows[owner[winners]] = winners
    ages = np.zeros(instants)
    ages[owner[winners]] = (owner[winners] * step - since[winners]) / step
    return rows, ages


def hold_means(
    stamps: Stamps, values: FloatArray, origin: int, step: int, steps: int, before: FloatArray
) -> FloatArray:
    """Time average (steps, A) over each step of a zero-order hold: `values` (N, A) from `stamps` on, `before` (A,) earlier.

    Exact: the integral of the hold at every instant, from one cumulative sum.
    """
    since = (stamps - origin).astype(np.float64)
    instants = np.arange(steps + 1, dtype=np.float64) * step
    held = np.concatenate([before[None], values])
    begin = np.concatenate([[min(0.0, since[0]) if len(since) else 0.0], since])
    area = np.zeros_like(held)
    np.cumsum(held[:-1] * np.diff(begin)[:, None], axis=0, out=area[1:])
    at = np.searchsorted(begin[1:], instants, side="right")
    integral = area[at] + held[at] * (instants - begin[at])[:, None]
    means: FloatArray = np.diff(integral, axis=0) / step
    return means


def step_means(
    stamps: Stamps, values: FloatArray, origin: int, step: int, steps: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Mean (steps,) of the samples (N,) stamped in `(t_k, t_{k+1}]`, and which steps have any; the others are 0."""
    owner = -((origin - stamps) // step) - 1
    inside = (owner >= 0) & (owner < steps)
    count = np.bincount(owner[inside], minlength=steps)
    total = np.bincount(owner[inside], weights=values[inside], minlength=steps)
    return total / np.maximum(count, 1), count > 0


def interpolate(
    stamps: Stamps, values: FloatArray, origin: int, step: int, instants: int, angle: NDArray[np.bool_]
) -> FloatArray:
    """Values (instants, K) at the instants, linear between measurements (N, K), constant beyond them.

    Columns marked in `angle` (K,) are unwrapped first, so that a jump of a whole turn is no motion.
    """
    since = (stamps - origin).astype(np.float64)
    at = np.arange(instants, dtype=np.float64) * step
    smooth = np.where(angle, np.unwrap(values, axis=0), values)
    return np.stack([np.interp(at, since, smooth[:, i]) for i in range(values.shape[1])], axis=1)


def fill_forward(values: FloatArray, present: NDArray[np.bool_]) -> FloatArray:
    """Replace absent entries (T,) by the last present one, those before the first by the first. One must be present."""
    last = np.maximum.accumulate(np.where(present, np.arange(len(values)), -1))
    filled: FloatArray = values[np.where(last < 0, int(np.argmax(present)), last)]
    return filled
