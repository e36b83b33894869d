"""A microcontroller's clock in the host's monotonic time, from stamped round trips."""

from __future__ import annotations

from collections import deque

from robot_wm.buses.framing import MASK, ahead

WINDOW_S = 1.0  # a cheap resonator drifts by 0.1 %: 1 ms in this time
NS_PER_US = 1000


class McuClock:
    """Offset by minimum delay: of the round trips of the last second, the quickest bounds the offset best.

    The microcontroller read its clock somewhere between `sent` and `received`; taking the middle is wrong by half the round trip
    at most (Cristian, Distributed Computing 3, 1989). Its 32-bit time [us] wraps every 71.6 minutes and is unwrapped here.
    """

    def __init__(self) -> None:
        self._latest: int | None = None  # unwrapped [us]
        self._trips: deque[tuple[int, int, int]] = deque()  # received, round trip, offset [ns]; round trips increase

    @property
    def synchronised(self) -> bool:
        return bool(self._trips)

    @property
    def uncertainty(self) -> int:
        """Half the round trip behind the present offset [ns]."""
        return self._trips[0][1] // 2 if self._trips else 0

    def add(self, sent: int, time: int, received: int) -> None:
        """Take a round trip: host times [ns] of the request and of the reply, and the `time` [us, mod 2^32] it bears."""
        trip = received - sent
        offset = (sent + received) // 2 - self._unwrap(time) * NS_PER_US
        while self._trips and self._trips[-1][1] >= trip:
            self._trips.pop()
        self._trips.append((received, trip, offset))
        while received - self._trips[0][0] > WINDOW_S * 1e9:
            self._trips.popleft()

    def to_host(self, time: int) -> int:
        """Host time [ns] of `time` [us, mod 2^32], which lies within 35 minutes of the newest one seen."""
        return self._near(time) * NS_PER_US + self._trips[0][2]

    def to_mcu(self, stamp: int) -> int:
        """Microcontroller time [us, mod 2^32] of a host time [ns]; 0 before the first round trip."""
        return ((stamp - self._trips[0][2]) // NS_PER_US) & MASK if self._trips else 0

    def _unwrap(self, time: int) -> int:
        near = self._near(time)
        self._latest = near if self._latest is None else max(near, self._latest)
        return near

    def _near(self, time: int) -> int:
        return time if self._latest is None else self._latest + ahead(time, self._latest & MASK)
