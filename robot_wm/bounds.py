"""What a plan may do between one model step and the next: limits, rate and jerk, in normalised units.

Sequences that obey all three, and can go on obeying them whatever comes, are a convex set: the change that can still be stopped
before a limit is a concave function of the distance to it. models/planner_graph.py does the same to all samples at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_wm.actions import normalise
from robot_wm.backend import Float32
from robot_wm.contract import Contract
from robot_wm.messages import FloatArray

UNLIMITED_RATE = 4.0  # normalised units per step: twice the whole range
UNLIMITED_JERK = 8.0  # normalised units per step squared: from one unlimited rate to the opposite one


@dataclass(frozen=True)
class Bounds:
    """Bounds of every action, each (A,): `low` and `high` of the action, `rate` of its change in a model step, `jerk` of how
    much that change may differ from the one before."""

    low: Float32
    high: Float32
    rate: Float32
    jerk: Float32

    @classmethod
    def of(cls, contract: Contract) -> Bounds:
        """The contract's; what it leaves unlimited becomes a number too large to matter."""
        action, hz = contract.action, contract.model_hz
        per_unit = 2.0 / (np.asarray(action.high) - np.asarray(action.low))
        rate = np.asarray(action.rate) * per_unit / hz if action.rate else UNLIMITED_RATE
        jerk = np.asarray(action.jerk) * per_unit / hz**2 if action.jerk else UNLIMITED_JERK
        return cls(
            low=normalise(contract, np.asarray(action.limit_low)).astype(np.float32),
            high=normalise(contract, np.asarray(action.limit_high)).astype(np.float32),
            rate=np.broadcast_to(np.minimum(rate, UNLIMITED_RATE), (action.size,)).astype(np.float32),
            jerk=np.broadcast_to(np.minimum(jerk, UNLIMITED_JERK), (action.size,)).astype(np.float32),
        )

    def apply(self, sequence: Float32, previous: Float32) -> Float32:
        """Keep a sequence (H, A) inside, step by step from the two actions `previous` (2, A) before it, the older first.

        From a start that allows no more, limits go before rate and rate before jerk; braking for a limit may then exceed the
        jerk, in the first step alone.
        """
        bounded = np.empty_like(sequence)
        before, change = previous[1], previous[1] - previous[0]
        for i, action in enumerate(sequence):
            straight = before + change
            after = clamped(action, straight - self.jerk, straight + self.jerk)
            room = np.where(after > before, self.high - before, before - self.low)
            reach = np.minimum(self.rate, stoppable(room, self.jerk))
            after = clamped(clamped(after, before - reach, before + reach), self.low, self.high)
            before, change = after, after - before
            bounded[i] = after
        return bounded


def stoppable(room: FloatArray, jerk: FloatArray) -> FloatArray:
    """Largest change towards a limit at distance `room` from which it can come to rest there, shrinking by `jerk` per step.

    With k steps v, v - jerk, v - 2 jerk, ... above zero, v = room / k + (k - 1) jerk / 2. Nearer than `jerk` one step is enough:
    the limit is the bound, and the answer is `jerk`.
    """
    room = np.maximum(room, jerk)
    steps = np.rint(np.sqrt(2.0 * room / jerk + 0.25))  # between two whole numbers either one gives the same v
    change: FloatArray = room / steps + (steps - 1.0) * (0.5 * jerk)
    return change


def clamped(x: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """`np.clip` without its overhead, which on arrays of a few numbers is most of its time."""
    return np.minimum(np.maximum(x, low), high)
