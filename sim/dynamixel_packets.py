"""Packets of Dynamixel Protocol 2.0 as a servo sees them. Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0".

FF FF FD 00 | id | length (2) | instruction, parameters, with byte stuffing | CRC-16 (2); length counts from the instruction on.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum

HEADER = b"\xff\xff\xfd"
PREFIX = struct.Struct("<3sBBH")  # header, reserved, id, length
BROADCAST = 0xFE
MAX_LENGTH = 1017  # so that a packet has 1024 bytes at most, as in the maker's library
POLYNOMIAL = 0x8005


class Instruction(IntEnum):
    """Section "Instruction"."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REBOOT = 0x08
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A


class Error(IntEnum):
    """Section "Status Packet", Error; `ALERT` is a flag: see Hardware Error Status."""

    NONE = 0
    RESULT_FAIL = 1
    INSTRUCTION = 2
    DATA_RANGE = 4
    DATA_LENGTH = 5
    DATA_LIMIT = 6
    ACCESS = 7
    ALERT = 0x80


@dataclass(frozen=True)
class Packet:
    """One packet; of a status packet the first parameter is its error."""

    id: int
    instruction: int
    parameters: bytes = b""


def _crc_of_byte(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = ((crc << 1) ^ POLYNOMIAL if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]


def crc16(data: bytes, crc: int = 0) -> int:
    """CRC-16 with polynomial 0x8005, initial value 0, not reflected (section "CRC")."""
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ CRC_TABLE[crc >> 8 ^ byte]
    return crc


def stuff(data: bytes) -> bytes:
    """Section "Packet Process": a header inside a packet gets another FD."""
    return data.replace(HEADER, HEADER + b"\xfd")


def unstuff(data: bytes) -> bytes:
    """The inverse of `stuff`."""
    return data.replace(HEADER + b"\xfd", HEADER)


def encode(packet: Packet) -> bytes:
    """The bytes of a packet."""
    body = stuff(bytes([packet.instruction]) + packet.parameters)
    head = PREFIX.pack(HEADER, 0, packet.id, len(body) + 2) + body
    return head + struct.pack("<H", crc16(head))


def fast_status(blocks: list[bytes], expected: int) -> bytes:
    """The answer to a fast sync read: one packet without byte stuffing, a block (error, id, data) per servo, each with the CRC
    of everything before it. Its length announces `expected` blocks, so with fewer it stays unfinished.
    """
    size = len(blocks[0]) + 2 if blocks else 0
    out = PREFIX.pack(HEADER, 0, BROADCAST, 1 + size * expected) + bytes([Instruction.STATUS]) if blocks else b""
    for block in blocks:
        out += block
        out += struct.pack("<H", crc16(out))
    return out


class PacketDecoder:
    """Bytes in any pieces → packets. `counts`: bytes, packets, crc, and headers that began no packet (`framing`).

    Byte stuffing keeps headers out of packets, so the next header ends whatever was torn: a torn packet costs no other.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(("bytes", "packets", "crc", "framing"), 0))
        self._buffer = b""

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes; return the whole and sound packets among them."""
        self.counts["bytes"] += len(data)
        self._buffer += data
        packets: list[Packet] = []
        while (size := self._next()) is not None:
            raw, self._buffer = self._buffer[:size], self._buffer[size:]
            body = unstuff(raw[PREFIX.size : -2])
            packets.append(Packet(raw[4], body[0], body[1:]))
            self.counts["packets"] += 1
        return packets

    def _next(self) -> int | None:
        """Bring the next sound packet to the front of the buffer and return its size; None: more bytes are needed."""
        while True:
            start = self._buffer.find(HEADER)
            self._buffer = self._buffer[start:] if start >= 0 else self._buffer[-2:]
            if start < 0 or len(self._buffer) < PREFIX.size:
                return None
            _, reserved, id_, length = PREFIX.unpack_from(self._buffer)
            size: int = PREFIX.size + length
            if (
                reserved
                or id_ in (0xFD, 0xFF)
                or not 3 <= length <= MAX_LENGTH
                or _has_header(self._buffer[PREFIX.size : size - 2])
            ):
                reason = "framing"
            elif len(self._buffer) < size:
                return None
            elif crc16(self._buffer[: size - 2]) != int.from_bytes(self._buffer[size - 2 : size], "little"):
                reason = "crc"
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
            if len(data) < PREFIX.size:
                break
            start = PREFIX.size + min(PREFIX.unpack_from(data)[3], MAX_LENGTH)
            if len(data) < start:
                break
        elif start < 0:
            break
        frames.append(data[:start])
        data = data[start:]
    return frames, data


def _has_header(body: bytes) -> bool:
    """Whether a header that was not stuffed stands in `body`; one at its very end is not known yet."""
    at = body.find(HEADER)
    while at >= 0 and at + len(HEADER) < len(body):
        if body[at + len(HEADER)] != 0xFD:
            return True
        at = body.find(HEADER, at + 1)
    return False
