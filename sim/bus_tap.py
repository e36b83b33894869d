"""What passes a pty, with its times, in a file: written by the emulated hardware, read by `sim/bus_monitor.py`."""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

RECORD = struct.Struct("<qBI")  # stamp [ns, monotonic], kind, bytes that follow


class Kind(IntEnum):
    """What a record holds."""

    SENT = 1  # bytes from the host, before any fault of the line
    DRIVEN = 2  # one byte: whether a command reaches a motor now
    INFLICTED = 3  # text: a fault, as it was asked for


@dataclass(frozen=True)
class Record:
    """One thing that happened at `stamp` [ns, monotonic]."""

    stamp: int
    kind: Kind
    data: bytes


class Tap:
    """Appends records to the file at `path`; a full disk silences it."""

    def __init__(self, path: Path | str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, stamp: int, kind: Kind, data: bytes) -> None:
        with contextlib.suppress(OSError):
            os.write(self._file, RECORD.pack(stamp, kind, len(data)) + data)


class TapReader:
    """Hands out the records of a file that is still being written."""

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        self._at = 0
        self._rest = b""

    def poll(self) -> list[Record]:
        """Every whole record since the last call, in order."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        self._at += len(data)
        data, records = self._rest + data, []
        at = 0
        while len(data) >= at + RECORD.size:
            stamp, kind, size = RECORD.unpack_from(data, at)
            if len(data) < at + RECORD.size + size:
                break
            records.append(Record(stamp, Kind(kind), data[at + RECORD.size : at + RECORD.size + size]))
            at += RECORD.size + size
        self._rest = data[at:]
        return records
