"""Messages between the plant and its clients: one datagram each, packed, on a Unix socket that keeps boundaries and order.

version u8 | kind u8 | flags u8 | stream u8 | count u32 | sequence u32 | 0 u32 | stamp i64 | count × float64, or UTF-8 text
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import numpy as np

from robot_wm.errors import BusError, MessageError
from robot_wm.messages import FloatArray

VERSION = 1
HEADER = struct.Struct("<BBBBIIIq")
LARGEST = 65536  # bytes
ENABLED, TRIPPED = 1, 2  # flags of a state: motors powered; the command watchdog has fired
PATH_LIMIT = 107  # bytes of a Unix socket's path


class Kind(IntEnum):
    """What a message is; the first group goes to the plant, the second comes from it."""

    READ = 1  # answered by STATE with the same sequence
    COMMAND = 2  # values (action,), stamp: when it was sent
    ENABLE = 3
    DISABLE = 4
    SUBSCRIBE = 5  # SAMPLE messages follow
    RESET = 6  # sequence: the seed; answered by TEXT
    STATUS = 7  # answered by TEXT: JSON
    STOP = 8
    DESCRIBE = 9  # answered by TEXT: JSON

    STATE = 16  # values: positions, velocities and efforts of all joints
    SAMPLE = 17  # values of stream `stream`, sequence counts up by one for each
    TEXT = 18
    REFUSED = 19  # text: why


@dataclass(frozen=True)
class Message:
    """One datagram; it has values or a text."""

    kind: Kind
    sequence: int = 0
    stamp: int = 0
    values: FloatArray = field(default_factory=lambda: np.zeros(0))
    text: str = ""
    flags: int = 0
    stream: int = 0


def pack(message: Message) -> bytes:
    """Bytes of one message."""
    text = message.text.encode()
    body = text or np.ascontiguousarray(message.values, "<f8").tobytes()
    count = 0 if text else len(message.values)
    header = (
        VERSION,
        message.kind,
        message.flags,
        message.stream,
        count,
        message.sequence & 0xFFFFFFFF,
        0,
        message.stamp,
    )
    return HEADER.pack(*header) + body


def unpack(data: bytes) -> Message:
    """Message from bytes. Raises MessageError when they are none."""
    if len(data) < HEADER.size:
        raise MessageError(f"plant message of {len(data)} bytes is shorter than its header")
    version, kind, flags, stream, count, sequence, _, stamp = HEADER.unpack_from(data)
    body = data[HEADER.size :]
    if version != VERSION or kind not in Kind.__members__.values():
        raise MessageError(f"plant message of version {version} and kind {kind}; this side speaks version {VERSION}")
    if count == 0:
        return Message(Kind(kind), sequence, stamp, text=body.decode(errors="replace"), flags=flags, stream=stream)
    if len(body) != 8 * count:
        raise MessageError(f"plant message announces {count} values and carries {len(body)} bytes")
    return Message(Kind(kind), sequence, stamp, np.frombuffer(body, "<f8").copy(), flags=flags, stream=stream)


def check_path(path: Path | str) -> str:
    """Return the socket's path as text. Raises BusError when the system cannot take one so long."""
    text = str(path)
    if len(text.encode()) > PATH_LIMIT:
        raise BusError(f"socket path {text!r} is longer than {PATH_LIMIT} bytes; choose a shorter one")
    return text


def connect(path: Path | str, timeout_s: float) -> socket.socket:
    """Connect to the plant that listens at `path`. Raises BusError when there is none."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(timeout_s)
    try:
        link.connect(check_path(path))
    except OSError as error:
        link.close()
        raise BusError(f"no plant at {path}: {error.strerror or error}; start it with python -m sim.plant") from error
    except BusError:
        link.close()
        raise
    return link
