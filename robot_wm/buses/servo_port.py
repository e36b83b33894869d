"""The port that the servo makers' SDKs write to and read from: it never blocks and keeps what has come until it is understood."""

from __future__ import annotations

import time
from collections.abc import Iterable

from robot_wm.buses.serial_port import CHUNK, SerialPort


class BoundedPort:
    """What an SDK asks of its port handler, answered from a `SerialPort` until `deadline` [ns, monotonic].

    What the SDK has taken can be taken again after `rewind`, until `drop`.
    """

    def __init__(self, serial: SerialPort) -> None:
        self.serial = serial
        self.deadline = 0
        self.is_using = False  # the SDKs' own lock
        self.skipped = 0  # bytes of packets that answer another request, since `rewind`
        self._come = b""
        self._taken = 0

    @property
    def come(self) -> int:
        """Bytes that have come since `drop`."""
        return len(self._come)

    def fill(self, size: int, until: int) -> None:
        """Wait until `size` bytes have come, or until a time [ns]; looks once in any case. Raises BusError."""
        while data := self.serial.read(until, CHUNK):
            self._come += data
            if self.come >= size or time.monotonic_ns() >= until:
                return

    def rewind(self) -> None:
        self._taken = self.skipped = 0

    def drop(self) -> None:
        """Forget what has come. Raises BusError."""
        self.serial.clear()
        self._come, self._taken = b"", 0

    def clearPort(self) -> None:
        """What has come stays: the SDKs call this before they send anything, also while a reply is on its way."""

    def getBaudRate(self) -> int:
        return self.serial.baud

    def readPort(self, length: int) -> bytes:
        if length <= 0:
            return b""
        if self._taken == self.come and not self.isPacketTimeout():
            self.fill(self.come + 1, self.deadline)
        data = self._come[self._taken : self._taken + length]
        self._taken += len(data)
        return data

    def writePort(self, packet: Iterable[int]) -> int:
        data = bytes(packet)
        return len(data) if self.serial.write(data) else 0

    def setPacketTimeout(self, packet_length: int) -> None:
        """The deadline stands."""

    def setPacketTimeoutMillis(self, msec: float) -> None:
        """The deadline stands."""

    def isPacketTimeout(self) -> bool:
        return time.monotonic_ns() >= self.deadline
