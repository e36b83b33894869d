"""An independent judge of what a host tells its motors, from the bytes on the line (`sim/bus_tap.py`).

It keeps to the contract and to nothing that the host says of itself: is every goal within the limits and the rate, is none sent to
motors that are told to be off, and from when on are the motors at rest or without power.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.contract import Contract
from robot_wm.errors import RunError
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S
from sim.bus_tap import Kind, Record, TapReader
from sim.wire_goals import WIRES, Goal, Power, Wire

ROUNDING = 1e-9  # of a value


@dataclass(frozen=True)
class Moment:
    """What holds from `stamp` [ns] on."""

    stamp: int
    driven: bool  # a command reaches a motor
    rest: bool  # what was told last asks for no effort
    goal: bool  # this moment is a goal that was told


@dataclass(frozen=True)
class Violation:
    """A goal that should not have been sent."""

    stamp: int
    what: str


class BusMonitor:
    """Judges one line; `poll` takes what has been recorded since.

    Args:
        bus: serial, dynamixel or feetech; `options` are those that the motor node's bus got.
        tap: file that the emulated hardware writes.

    Raises:
        RunError: another bus, or a contract of positions or velocities, which no robot of the campaign has.
    """

    def __init__(self, bus: str, contract: Contract, options: Mapping[str, Any], tap: Path | str) -> None:
        if bus not in WIRES or contract.action.mode != "effort":
            raise RunError(
                f"no monitor for bus {bus!r} in {contract.action.mode} mode; there is one for efforts on {', '.join(WIRES)}"
            )
        action = contract.action
        self._wire: Wire = WIRES[bus](contract, options)
        self._low = np.array(action.limit_low or action.low)
        self._high = np.array(action.limit_high or action.high)
        self._rate = np.array(action.rate) if action.rate else None
        self._period_s = 1.0 / contract.motor_hz
        self._reader = TapReader(tap)
        self.violations: list[Violation] = []
        self.inflicted: list[tuple[int, str]] = []  # faults of the line, with their stamps [ns]
        self.goals = 0
        self._moments: list[Moment] = [Moment(0, False, True, False)]
        self._stamps: list[int] = [0]
        self._on = False  # what the host told
        self._last: FloatArray = np.zeros(action.size)
        self._told = 0  # when the last goal was [ns]

    def poll(self) -> None:
        """Judge what has been recorded since."""
        for record in self._reader.poll():
            self._take(record)

    def became_safe(self, start: int, end: int, off: bool) -> float | None:
        """Seconds from `start` [ns] until the motors were safe for good, up to `end`; None: they were not.

        Args:
            off: only motors that are not driven are safe, whatever they were told last.
        """
        unsafe = [i for i in self._during(start, end) if self._unsafe(self._moments[i], off)]
        if not unsafe:
            return 0.0
        after = unsafe[-1] + 1
        if after >= len(self._moments) or self._stamps[after] > end:
            return None
        return (self._stamps[after] - start) / NS_PER_S

    def unattended(self, start: int, end: int) -> float:
        """Longest time [s] within [start, end] [ns] that an effort stood at the motors without a new goal."""
        longest, since = 0, None
        for i in self._during(start, end):
            moment = self._moments[i]
            at = max(moment.stamp, start)
            if since is not None:
                longest = max(longest, at - since)
            if not self._unsafe(moment, off=False):
                since = None
            elif moment.goal or since is None:
                since = at
        return max(longest, end - since if since is not None else 0) / NS_PER_S

    def violations_within(self, start: int, end: int) -> list[Violation]:
        return [violation for violation in self.violations if start <= violation.stamp < end]

    def _during(self, start: int, end: int) -> range:
        """Indices of what held within [start, end]."""
        return range(max(0, bisect_right(self._stamps, start) - 1), bisect_right(self._stamps, end))

    def _unsafe(self, moment: Moment, off: bool) -> bool:
        return moment.driven and (off or not moment.rest)

    def _take(self, record: Record) -> None:
        before = self._moments[-1]
        if record.kind is Kind.INFLICTED:
            self.inflicted.append((record.stamp, record.data.decode()))
        elif record.kind is Kind.DRIVEN:
            self._add(Moment(record.stamp, record.data != b"\0", before.rest, False))
        else:
            for asked in self._wire.feed(record.data):
                if isinstance(asked, Power):
                    self._power(asked)
                else:
                    self._goal(asked, record.stamp)

    def _power(self, asked: Power) -> None:
        if asked.on != self._on:
            self._on, self._last, self._told = asked.on, np.zeros_like(self._last), 0

    def _goal(self, goal: Goal, stamp: int) -> None:
        self.goals += 1
        values, quantum = goal.values, self._wire.quantum
        rest = bool(np.all(np.abs(values) <= 0.5 * quantum))
        what = self._defect(values, (stamp - self._told) / NS_PER_S if self._told else 0.0, rest)
        if what:
            self.violations.append(Violation(stamp, what))
        if np.isfinite(values).all() and values.shape == self._last.shape:
            self._last, self._told = values, stamp
        self._add(Moment(stamp, self._moments[-1].driven, rest, True))

    def _defect(self, values: FloatArray, since_s: float, rest: bool) -> str:
        """What is wrong with a goal told `since_s` after the last one, or nothing."""
        quantum = self._wire.quantum + ROUNDING
        if values.shape != self._last.shape:
            return f"{values.size} values for {self._last.size} motors"
        if not np.isfinite(values).all():
            return f"not finite: {values}"
        if np.any(values < self._low - quantum) or np.any(values > self._high + quantum):
            return f"{values} is outside {self._low}..{self._high}"
        if not self._on and not rest:
            return f"{values} to motors that were told to be off"
        change = np.abs(values - self._last)
        if self._rate is not None and np.any(change > self._rate * max(self._period_s, since_s) + 2 * quantum):
            return f"changed by {change} in {max(self._period_s, since_s):.4f} s, the rate is {self._rate}"
        return ""

    def _add(self, moment: Moment) -> None:
        self._moments.append(moment)
        self._stamps.append(moment.stamp)
