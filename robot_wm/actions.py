"""Actions between SI units and the model's -1..1, and the history of what was applied."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np

from robot_wm.contract import Contract
from robot_wm.messages import Applied, FloatArray, Plan
from robot_wm.timebase import NS_PER_S


def normalise(contract: Contract, values: FloatArray) -> FloatArray:
    """Map SI actions (..., A) linearly so that `action.low`..`action.high` becomes -1..1."""
    low, high = np.asarray(contract.action.low), np.asarray(contract.action.high)
    result: FloatArray = (np.asarray(values, np.float64) - low) * (2.0 / (high - low)) - 1.0
    return result


def denormalise(contract: Contract, values: FloatArray) -> FloatArray:
    """The inverse of `normalise`."""
    low, high = np.asarray(contract.action.low), np.asarray(contract.action.high)
    result: FloatArray = low + (np.asarray(values, np.float64) + 1.0) * (0.5 * (high - low))
    return result


class ActionHistory:
    """What was applied, as a zero-order hold in time of *effect* (`stamp + action.delay_s`), bounded in length.

    The mean over a model step is the action of that step, on the robot as in the trainer (docs/architecture.md, Time).
    """

    def __init__(self, contract: Contract, history_s: float) -> None:
        self._contract = contract
        self._delay = round(contract.action.delay_s * NS_PER_S)
        self._span = round(history_s * NS_PER_S) + self._delay
        self._stamps: list[int] = []
        self._values: list[FloatArray] = []

    def clear(self) -> None:
        self._stamps.clear()
        self._values.clear()

    def add(self, applied: Applied) -> int:
        """Insert one command wherever its stamp belongs and return the time [ns] from which it takes effect.

        Of two commands with one stamp the later call wins.
        """
        effect = applied.stamp + self._delay
        value = normalise(self._contract, applied.values)
        at = bisect_left(self._stamps, effect)
        if at < len(self._stamps) and self._stamps[at] == effect:
            self._values[at] = value
            return effect
        self._stamps.insert(at, effect)
        self._values.insert(at, value)
        # Drop what no longer matters, always keeping the one that holds at the window's start.
        oldest = bisect_right(self._stamps, self._stamps[-1] - self._span) - 1
        if oldest > 64:
            del self._stamps[:oldest], self._values[:oldest]
        return effect

    def mean(self, start: int, end: int, plans: Iterable[Plan] = ()) -> FloatArray:
        """Time average (A,), normalised, of what holds over [start, end) [ns].

        After the last applied command the committed `plans` hold where they reach, each from its start on in place of those
        before it; otherwise the last command does. Before the first one, SI zero.
        """
        pieces = self._pieces(start, end, plans)
        total = np.zeros(self._contract.action.size)
        for (begin, value), (finish, _) in zip(pieces, [*pieces[1:], (end, None)], strict=True):
            total += value * (finish - begin)
        result: FloatArray = total / (end - start)
        return result

    def _pieces(self, start: int, end: int, plans: Iterable[Plan]) -> list[tuple[int, FloatArray]]:
        """Cut [start, end) where the held value changes: (from, value), the first one from `start`."""
        first = bisect_right(self._stamps, start) - 1
        last = bisect_left(self._stamps, end)
        held = self._values[first] if first >= 0 else self._neutral()
        pieces = [(start, held)]
        pieces += [(self._stamps[i], self._values[i]) for i in range(first + 1, last) if self._stamps[i] > start]
        if self._stamps and self._stamps[-1] >= end:
            return pieces
        known = max(start, self._stamps[-1] if self._stamps else start)
        for plan in plans:
            for row in range(len(plan.actions)):
                begin, finish = plan.start + row * plan.step, plan.start + (row + 1) * plan.step
                if finish > known and begin < end:
                    at = max(begin, known)
                    pieces = [piece for piece in pieces if piece[0] < at]
                    pieces.append((at, normalise(self._contract, plan.actions[row])))
        return pieces

    def _neutral(self) -> FloatArray:
        action = self._contract.action
        return normalise(self._contract, np.clip(np.zeros(action.size), action.low, action.high))
