"""The maker's SDK on a port that never blocks, keeps what has come until it is understood, and stuffs bytes rightly.

Of dynamixel-sdk 4.1 as it is, a lost reply blocks for 34 ms and more (it assumes a USB latency timer of 16 ms), it spins while
it waits, measures time by the wall clock, throws half a reply away, cuts replies of a wrong length to the right one, never
stuffs what it sends and takes stuffing off wrongly where there is more of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from dynamixel_sdk import BROADCAST_ID, COMM_RX_CORRUPT, COMM_SUCCESS
from dynamixel_sdk.port_handler import PortHandler
from dynamixel_sdk.protocol2_packet_handler import Protocol2PacketHandler

from robot_wm.buses.serial_port import CHUNK, SerialPort

ALERT = 0x80  # of a status packet's error: see Hardware Error Status
ID = 4  # where the id stands in a packet
BODY = 7  # the instruction, then the parameters; of a status packet the first is its error
HEADER = b"\xff\xff\xfd"


class BoundedPort(PortHandler):  # type: ignore[misc]
    """The SDK's port: what it asks of one, answered from a `SerialPort` until `deadline` [ns, monotonic].

    What the SDK has taken can be taken again after `rewind`, until `drop`.
    """

    def __init__(self, serial: SerialPort) -> None:
        super().__init__(serial.path)
        self.serial = serial
        self.baudrate = serial.baud
        self.deadline = 0
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
        """What has come stays: the SDK calls this before it sends anything, also while a reply is on its way."""

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


class PacketHandler(Protocol2PacketHandler):  # type: ignore[misc]
    """The SDK's packet handler, with byte stuffing as in the e-Manual, "DYNAMIXEL Protocol 2.0", Packet Process."""

    def addStuffing(self, packet: list[int]) -> list[int]:
        return _replace_body(packet, HEADER, HEADER + b"\xfd")

    def removeStuffing(self, packet: list[int]) -> list[int]:
        return _replace_body(packet, HEADER + b"\xfd", HEADER)

    def status(self, port: BoundedPort, id_: int, size: int) -> tuple[bytes, int]:
        """Parameters of the next status packet of `id_` that has `size` of them, or only an error; and the SDK's result.

        Others are skipped: what has another length answers another request. Packets of all servos come unstuffed.
        """
        try:
            while True:
                packet, result = self.rxPacket(port, id_ == BROADCAST_ID)
                if result != COMM_SUCCESS:
                    return b"", result
                parameters = bytes(packet[BODY + 1 : -2])
                refused = len(parameters) == 1 and parameters[0] & ~ALERT
                if packet[ID] == id_ and (len(parameters) == size or refused):
                    return parameters, result
                port.skipped += len(packet)
        except IndexError:  # the SDK trusts the lengths that packets announce
            return b"", COMM_RX_CORRUPT


def _replace_body(packet: list[int], old: bytes, new: bytes) -> list[int]:
    """Replace in instruction and parameters, in place; the length follows, room for the CRC stays."""
    end = BODY + (packet[5] | packet[6] << 8) - 2
    body = bytes(packet[BODY:end]).replace(old, new)
    packet[BODY:end] = body
    packet[5:BODY] = (len(body) + 2).to_bytes(2, "little")
    return packet
