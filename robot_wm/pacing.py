"""The pace of a periodic loop: its deadlines, and how well it keeps them, in memory that does not grow."""

from __future__ import annotations

from collections import deque

import numpy as np

from robot_wm.contract import Contract
from robot_wm.timebase import NS_PER_S, Grid

BINS_PER_DECADE = 20
DECADES = 7  # 1 µs to 10 s


class Deadlines:
    """Instants of the motor loop, aligned with the model's grid so that a plan's rows change at a tick."""

    def __init__(self, contract: Contract) -> None:
        ratio = contract.motor_hz / contract.model_hz
        aligned = ratio >= 1.0 and abs(ratio - round(ratio)) < 1e-6
        self._ratio = round(ratio) if aligned else 1
        self._step = Grid(contract.model_hz if aligned else contract.motor_hz).step

    def stamp(self, k: int) -> int:
        """When tick `k` should begin [ns]."""
        step, part = divmod(k, self._ratio)
        return step * self._step + part * self._step // self._ratio

    def floor(self, stamp: int) -> int:
        """The last tick that should have begun by `stamp` [ns]."""
        step, rest = divmod(stamp, self._step)
        return step * self._ratio + ((rest + 1) * self._ratio - 1) // self._step


class Histogram:
    """Durations in logarithmic bins: percentiles to within 12 %, the maximum exactly."""

    def __init__(self) -> None:
        self.count = 0
        self.largest = 0  # [ns]
        self._bins = np.zeros(BINS_PER_DECADE * DECADES, np.int64)

    def add(self, duration: int) -> None:
        """Count one duration [ns]."""
        self.count += 1
        self.largest = max(self.largest, duration)
        place = 0 if duration < 1000 else int(np.log10(duration / 1000.0) * BINS_PER_DECADE)
        self._bins[min(place, len(self._bins) - 1)] += 1

    def percentile(self, percent: float) -> float:
        """Upper edge of the bin that holds this percentile [ns], never above the maximum; 0 when nothing was counted."""
        if self.count == 0:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._bins), self.count * percent / 100.0))
        edge: float = min(1000.0 * 10.0 ** ((place + 1) / BINS_PER_DECADE), float(self.largest))
        return edge


class RateMeter:
    """How often something new was seen within the last second, from its stamps."""

    def __init__(self) -> None:
        self.hz = 0.0
        self.heard_s = 0.0  # for how long, without a pause of a second
        self._began = 0
        self._stamps: deque[int] = deque()

    def add(self, stamp: int) -> None:
        """Take a stamp [ns], later than the one before."""
        if not self._stamps or stamp - self._stamps[-1] > NS_PER_S:
            self._began = stamp
        self.heard_s = (stamp - self._began) / NS_PER_S
        self._stamps.append(stamp)
        while stamp - self._stamps[0] > NS_PER_S:
            self._stamps.popleft()
        span = stamp - self._stamps[0]
        self.hz = (len(self._stamps) - 1) * NS_PER_S / span if span else 0.0


class TickStats:
    """Ticks done and missed, how late each began, how long it took, and how long the bus of that."""

    def __init__(self) -> None:
        self.ticks = 0
        self.ticks_missed = 0
        self.lateness = Histogram()
        self.busy = Histogram()
        self.read = Histogram()
        self.write = Histogram()
        self.missed_at = 0  # when the newest overrun was seen [ns]; 0: never
        self._missed: deque[tuple[int, int]] = deque()  # of the last second: when, and how many

    def done(self, deadline: int, began: int, ended: int) -> None:
        """Count one tick; all three in [ns]."""
        self.ticks += 1
        self.lateness.add(max(0, began - deadline))
        self.busy.add(max(0, ended - began))

    def missed(self, count: int, now: int) -> None:
        """Count deadlines that passed without a tick."""
        self.ticks_missed += count
        self.missed_at = now
        self._missed.append((now, count))

    def missed_lately(self, now: int) -> int:
        """Deadlines missed within the last second."""
        while self._missed and now - self._missed[0][0] > NS_PER_S:
            self._missed.popleft()
        return sum(count for _, count in self._missed)

    def overrun_recently(self, now: int, within_s: float = 1.0) -> bool:
        """Whether a deadline was missed within the last `within_s` seconds."""
        return self.missed_at > 0 and now - self.missed_at <= within_s * NS_PER_S

    def figures(self) -> dict[str, float]:
        """Everything as plain numbers; times in [ms]."""
        result: dict[str, float] = {"ticks": self.ticks, "ticks_missed": self.ticks_missed}
        timed = {"lateness": self.lateness, "tick": self.busy, "read": self.read, "write": self.write}
        for name, histogram in timed.items():
            for key, percent in (("p50", 50.0), ("p99", 99.0), ("p999", 99.9)):
                result[f"{name}_ms_{key}"] = round(histogram.percentile(percent) / 1e6, 4)
            result[f"{name}_ms_max"] = round(histogram.largest / 1e6, 4)
        return result
