"""Whether sequences obey limits, rate and jerk, and random bounds and histories to try it on."""

import numpy as np
from hypothesis import strategies as st

from robot_wm.bounds import Bounds

ROUNDING = 2e-6  # normalised: what the safety filter, too, takes for rounding
SEEDS = st.integers(0, 2**31)


def random_bounds(rng, actions):
    """Some tight, some loose; a jerk from a thousandth of the range to more than any rate can use."""
    low, high = rng.uniform(-1.0, -0.05, actions), rng.uniform(0.05, 1.0, actions)
    rate, jerk = 10.0 ** rng.uniform(-2.0, 0.6, actions), 10.0 ** rng.uniform(-3.0, 0.9, actions)
    return Bounds(*(x.astype(np.float32) for x in (low, high, rate, jerk)))


def random_start(rng, bounds, feasible):
    """Two actions (2, A): the last of a long feasible sequence, or anything in the range."""
    actions = len(bounds.low)
    if not feasible:
        return rng.uniform(-1.0, 1.0, (2, actions)).astype(np.float32)
    rest = np.tile(rng.uniform(bounds.low, bounds.high), (2, 1)).astype(np.float32)
    wished = np.repeat(rng.uniform(-3.0, 3.0, (5, actions)), 8, axis=0).astype(np.float32)
    return bounds.apply(wished[: rng.integers(2, 40)], rest)[-2:]


def require_bounded(sequences, previous, bounds, feasible):
    """Check sequences (N, H, A) after `previous` (2, A): limits always, rate and jerk as far as the start allows."""
    assert (sequences >= bounds.low).all() and (sequences <= bounds.high).all()
    rows = np.concatenate([np.broadcast_to(previous, (len(sequences), *previous.shape)), sequences], axis=1)
    changes = np.diff(rows.astype(np.float64), axis=1)[:, 1:]
    outside = np.maximum(np.maximum(bounds.low - previous[1], previous[1] - bounds.high), 0.0)
    assert (np.abs(changes[:, 0]) <= np.maximum(bounds.rate, outside) + ROUNDING).all()
    assert (np.abs(changes[:, 1:]) <= bounds.rate + ROUNDING).all()
    bends = np.abs(np.diff(rows.astype(np.float64), n=2, axis=1))
    inside = outside == 0.0
    assert (bends[:, 0] <= bounds.jerk + ROUNDING).all() or not feasible
    assert (bends[:, 1:] <= bounds.jerk + ROUNDING)[..., inside].all()
