"""A file that reaches the disk in whole transactions or not at all, and how an MCAP file ends when there is no room left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class WholeFile:
    """A write-only file for the MCAP library that reaches the disk in whole transactions or not at all."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._pending: list[bytes] = []
        self._position = 0
        self.committed = 0

    def write(self, data: bytes) -> int:
        self._pending.append(bytes(data))
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Part of the file protocol; `commit` does the work."""

    def commit(self) -> bool:
        """Hand everything pending to the operating system, True if there was any; on OSError the file is as before."""
        data = memoryview(b"".join(self._pending))
        if not len(data):
            return False
        done = 0
        try:
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            self.cut(self.committed)
            raise
        self._pending.clear()
        self.committed = self._position
        return True

    def cut(self, position: int) -> None:
        """Give up everything from `position` on, written or pending."""
        os.ftruncate(self._file, position)
        os.lseek(self._file, position, os.SEEK_SET)
        self._pending.clear()
        self._position = self.committed = position

    def sync(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def minimal_ending() -> bytes:
    """DataEnd, a Footer without index, and the magic: a reader then scans the file."""
    from mcap.data_stream import RecordBuilder
    from mcap.records import DataEnd, Footer
    from mcap.writer import MCAP0_MAGIC

    builder: Any = RecordBuilder()
    DataEnd(0).write(builder)
    Footer(summary_start=0, summary_offset_start=0, summary_crc=0).write(builder)
    return bytes(builder.end()) + MCAP0_MAGIC
