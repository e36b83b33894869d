"""Packets of Feetech STS and SMS servos as a servo sees them. Source: Feetech, "Communication Protocol User Manual", section 1.2.

FF FF | id | length | instruction, parameters | ~sum; length counts from the instruction on, nothing is stuffed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

HEADER = b"\xff\xff"
BODY = 4  # where the instruction stands
BROADCAST = 0xFE
MAX_LENGTH = 246  # so that a packet has 250 bytes at most, as in the maker's library


class Instruction(IntEnum):
    """Section 1.3."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


@dataclass(frozen=True)
class Packet:
    """One packet; of an answer `instruction` is the error byte: the servo's status."""

    id: int
    instruction: int
    parameters: bytes = b""


def encode(packet: Packet) -> bytes:
    """The bytes of a packet."""
    head = bytes([packet.id, len(packet.parameters) + 2, packet.instruction]) + packet.parameters
    return HEADER + head + bytes([checksum(head)])


def checksum(data: bytes) -> int:
    """Of everything between header and checksum."""
    return ~sum(data) & 0xFF


class PacketDecoder:
    """Bytes in any pieces → packets. `counts`: bytes, packets, checksum, and headers that began no packet (`framing`).

    A header may also stand inside a packet; after a torn one the next is taken if its checksum says so. `forget` a packet that does
    not go on: a real servo gives it up when the line is silent.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(("bytes", "packets", "checksum", "framing"), 0))
        self._buffer = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes; return the whole and sound packets among them."""
        self.counts["bytes"] += len(data)
        self._buffer += data
        packets: list[Packet] = []
        while (size := self._next()) is not None:
            raw, self._buffer = self._buffer[:size], self._buffer[size:]
            packets.append(Packet(raw[2], raw[BODY], raw[BODY + 1 : -1]))
            self.counts["packets"] += 1
        return packets

    def forget(self) -> None:
        """Drop what has come of a packet."""
        self._buffer = b""

    def _next(self) -> int | None:
        """Bring the next sound packet to the front of the buffer and return its size; None: more bytes are needed."""
        while True:
            start = self._buffer.find(HEADER)
            self._buffer = self._buffer[start:] if start >= 0 else self._buffer[-1:]
            if start < 0 or len(self._buffer) < BODY:
                return None
            id_, length = self._buffer[2], self._buffer[3]
            size = BODY + length
            if id_ == 0xFF:  # the header begins a byte later
                self._buffer = self._buffer[1:]
                continue
            if not 2 <= length <= MAX_LENGTH:
                reason = "framing"
            elif len(self._buffer) < size:
                return None
            elif checksum(self._buffer[2 : size - 1]) != self._buffer[size - 1]:
                reason = "checksum"
            else:
                return size
            self.counts[reason] += 1
            self._buffer = self._buffer[len(HEADER) :]


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole packets by their lengths alone, and what may still become one; what lies between packets goes with the one before."""
    frames: list[bytes] = []
    while data:
        start = data.find(HEADER, 1)
        if data.startswith(HEADER):
            if len(data) < BODY:
                break
            start = BODY + min(data[3], MAX_LENGTH)
            if len(data) < start:
                break
        elif start < 0:
            break
        frames.append(data[:start])
        data = data[start:]
    return frames, data
