"""Time: injected clocks and the one model grid.

All times inside are integer nanoseconds of a monotonic clock; the offset to ROS time is applied once, at the edge
(`RosOffset`). The model steps on the grid `t_k = k / model_hz`, so every process of one machine agrees on it without talking.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """Where 'now' comes from, so that robot, simulation, replay and tests run the same code."""

    def now(self) -> int:
        """Return the current time [ns], monotonic."""
        ...

    def sleep_until(self, stamp: int) -> None:
        """Return not before `stamp` [ns]."""
        ...


class MonotonicClock:
    """The machine's CLOCK_MONOTONIC."""

    def now(self) -> int:
        return time.monotonic_ns()

    def sleep_until(self, stamp: int) -> None:
        remaining = stamp - time.monotonic_ns()
        if remaining > 0:
            time.sleep(remaining / NS_PER_S)


class VirtualClock:
    """A clock that moves only when told to: lockstep evaluation, replay and tests."""

    def __init__(self, start: int = 0) -> None:
        self._now = start

    def now(self) -> int:
        return self._now

    def sleep_until(self, stamp: int) -> None:
        self._now = max(self._now, stamp)

    def advance(self, duration: int) -> None:
        """Move time forward by `duration` [ns]."""
        self._now += duration


@dataclass(frozen=True)
class RosOffset:
    """The offset between ROS (system) time and the monotonic clock, `ros = monotonic + offset` [ns]."""

    offset: int

    @classmethod
    def measure(cls) -> RosOffset:
        """Read both clocks back to back, keeping the tightest of a few tries."""
        best: tuple[int, int] | None = None
        for _ in range(5):
            before = time.monotonic_ns()
            wall = time.time_ns()
            after = time.monotonic_ns()
            if best is None or after - before < best[0]:
                best = (after - before, wall - (before + after) // 2)
        assert best is not None
        return cls(best[1])

    def to_ros(self, stamp: int) -> int:
        return stamp + self.offset

    def to_monotonic(self, ros_stamp: int) -> int:
        return ros_stamp - self.offset


@dataclass(frozen=True)
class Grid:
    """The model's time grid: instant k lies at `origin + k / hz`; a model step k spans instants k to k + 1."""

    hz: float
    origin: int = 0

    @property
    def step(self) -> int:
        """Length of one model step [ns]."""
        return round(NS_PER_S / self.hz)

    def stamp(self, k: int) -> int:
        """Stamp [ns] of instant k."""
        return self.origin + k * self.step

    def nearest(self, stamp: int) -> int:
        """Index of the instant nearest to `stamp`; a tie goes to the later one."""
        return (stamp - self.origin + self.step // 2) // self.step

    def floor(self, stamp: int) -> int:
        """Index of the last instant at or before `stamp`."""
        return (stamp - self.origin) // self.step

    def ceil(self, stamp: int) -> int:
        """Index of the first instant at or after `stamp`."""
        return -((self.origin - stamp) // self.step)

    def age(self, stamp: int, k: int) -> float:
        """Signed age of a measurement at instant k [model steps], positive when it was captured before the instant."""
        return (self.stamp(k) - stamp) / self.step
