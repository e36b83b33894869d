"""Frames on a serial line: COBS between zero bytes; version, type, session, sequence, time and a CRC-32 (docs/serial_protocol.md).

Sources: COBS, Cheshire and Baker, IEEE/ACM Transactions on Networking 7(2), 1999; CRC-32/ISO-HDLC, the one of zlib and Ethernet.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass

from cobs import cobs
from fastcrc import crc32

VERSION = 1
HEADER = struct.Struct("<BBHII")  # version, type, session, sequence, time
CRC = struct.Struct("<I")
SHORTEST = HEADER.size + CRC.size  # bytes of a frame without payload, before COBS
LARGEST = 252  # bytes of a frame before COBS: below 254, so that COBS always costs one byte
MAX_PAYLOAD = LARGEST - SHORTEST
MAX_ENCODED = LARGEST + 1  # without the delimiter
DELIMITER = b"\0"
HALF = 1 << 31  # of the sequence's and the clock's circle
MASK = (1 << 32) - 1

# Why something was not taken. `lost` counts sequence numbers that never came before a later one did; a frame that comes after
# all is `stale`. The number sent is therefore always frames + lost.
REASONS = ("crc", "framing", "length", "version", "session", "lost", "duplicate", "stale")


@dataclass(frozen=True)
class Frame:
    """One frame. `time` is the microcontroller's clock [us, modulo 2^32]; the host sends it in the same clock."""

    type: int
    session: int
    sequence: int
    time: int
    payload: bytes = b""
    version: int = VERSION


class FrameError(ValueError):
    """Bytes between two delimiters are no frame; `reason` is one of REASONS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encode(frame: Frame) -> bytes:
    """Bytes for the wire, delimiter included. Raises ValueError when the payload is longer than MAX_PAYLOAD."""
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(frame.payload)} bytes does not fit into a frame of {MAX_PAYLOAD}")
    header = HEADER.pack(frame.version, frame.type, frame.session, frame.sequence & MASK, frame.time & MASK)
    body = header + frame.payload
    return bytes(cobs.encode(body + CRC.pack(crc32.iso_hdlc(body)))) + DELIMITER


def decode(data: bytes) -> Frame:
    """The frame in what stood between two delimiters; its version is not judged. Raises FrameError."""
    if len(data) > MAX_ENCODED:
        raise FrameError("length")
    try:
        body = bytes(cobs.decode(data))
    except cobs.DecodeError as error:
        raise FrameError("framing") from error
    if len(body) < SHORTEST:
        raise FrameError("length")
    if crc32.iso_hdlc(body[: -CRC.size]) != CRC.unpack_from(body, len(body) - CRC.size)[0]:
        raise FrameError("crc")
    version, kind, session, sequence, time = HEADER.unpack_from(body)
    return Frame(kind, session, sequence, time, body[HEADER.size : -CRC.size], version)


def ahead(later: int, earlier: int) -> int:
    """Signed distance on the 32-bit circle, in [-2^31, 2^31)."""
    return ((later - earlier + HALF) & MASK) - HALF


class Decoder:
    """Frames from chunks of any size; nothing that arrives makes it raise or keep more than one frame's bytes.

    Until `follow` is called every intact frame of our version is handed out; from then on those of one session, each once, in
    order. `counts` says what came: `bytes`, `frames` handed out, and a count for each of REASONS.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(("bytes", "frames", *REASONS), 0))
        self.foreign: Frame | None = None  # the newest intact frame of another version or session
        self._session: int | None = None
        self._last = 0
        self._partial = bytearray()
        self._overlong = False

    def follow(self, session: int, sequence: int) -> None:
        """From now on take only frames of `session` that come after `sequence`."""
        self._session, self._last, self.foreign = session, sequence, None

    def forget(self) -> None:
        """Drop what has come of an unfinished frame, and follow nobody: a new connection."""
        self._session, self.foreign, self._overlong = None, None, False
        self._partial.clear()

    def foreign_version(self) -> int:
        """Version of a board that speaks another one than we do, or 0."""
        return self.foreign.version if self.foreign is not None and self.foreign.version != VERSION else 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take a chunk; return the frames that it completes, in order."""
        self.counts["bytes"] += len(data)
        frames = []
        *complete, rest = data.split(DELIMITER)
        for segment in complete:
            self._keep(segment)
            frame = self._finish()
            if frame is not None:
                frames.append(frame)
        self._keep(rest)
        return frames

    def _keep(self, segment: bytes) -> None:
        room = MAX_ENCODED - len(self._partial)
        self._overlong |= len(segment) > room
        self._partial += segment[:room]

    def _finish(self) -> Frame | None:
        """Judge what stands before a delimiter."""
        data, overlong = bytes(self._partial), self._overlong
        self._partial.clear()
        self._overlong = False
        if not data:  # delimiters may follow one another: a sender that wants to be sure begins with one
            return None
        try:
            if overlong:
                raise FrameError("length")
            frame = decode(data)
        except FrameError as error:
            self.counts[error.reason] += 1
            return None
        return frame if self._expected(frame) else None

    def _expected(self, frame: Frame) -> bool:
        reason = ""
        if frame.version != VERSION:
            reason = "version"
        elif self._session is not None and frame.session != self._session:
            reason = "session"
        if reason:
            self.foreign = frame
        elif self._session is not None:
            step = ahead(frame.sequence, self._last)
            if step > 0:
                self.counts["lost"] += step - 1
                self._last = frame.sequence
            else:
                reason = "duplicate" if step == 0 else "stale"
        self.counts[reason or "frames"] += 1
        return not reason
