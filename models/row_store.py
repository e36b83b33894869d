"""Aligned episodes as rows of one append-only, memory-mapped file: larger than memory works, and a restart costs nothing.

A folder holds `rows.f32` (rows, width) and `index.json`, which names every episode in it by the bag it came from. Data is
written before the index and the index is replaced as a whole, so that a crash leaves at most unnamed rows behind, which
the next append overwrites.
"""

from __future__ import annotations

import fcntl
import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.errors import BagError

Rows = NDArray[np.float32]
ITEM = 4  # bytes of one float32


@dataclass(frozen=True)
class Stored:
    """One episode: `length` rows from `start` on."""

    start: int
    length: int
    source: str


class RowStore:
    """The rows of many bags; several processes may share one.

    Args:
        folder: made when it is not there.
        width: numbers per row.

    Raises:
        BagError: when the folder cannot be used, or holds rows of another width.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.width = width
        self._bags: dict[str, list[Stored]] = {}
        self._seen: dict[str, list[Any]] = {}
        self._total = 0
        self.rows: Rows = np.zeros((0, width), np.float32)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                self._load()
        except OSError as error:
            raise BagError(f"{folder}: cannot keep aligned bags here: {error.strerror}") from error
        self._map()

    def episodes(self, bag: str) -> list[Stored] | None:
        """Episodes of a bag, None when it is not stored yet. `bag` is its key: content and way of alignment."""
        return self._bags.get(bag)

    def hash_of(self, path: str, fingerprint: list[Any]) -> str | None:
        """The content hash of the bag at `path`, if its files look as they did when it was taken."""
        seen = self._seen.get(path)
        return str(seen[1]) if seen is not None and seen[0] == fingerprint else None

    def append(
        self, bag: str, episodes: Sequence[Rows], source: str, fingerprint: list[Any], content: str
    ) -> list[Stored]:
        """Store a bag's episodes, each (T, width), unless another process did meanwhile; return where they lie.

        Raises BagError on a full disk; nothing is half stored then.
        """
        try:
            with self._locked():
                self._load()
                if bag not in self._bags:
                    self._bags[bag] = self._write(episodes, source)
                self._seen[source] = [fingerprint, content]
                self._save()
        except OSError as error:
            raise BagError(f"{self.folder}: aligned bags cannot be stored: {error.strerror}") from error
        self._map()
        return self._bags[bag]

    def _write(self, episodes: Sequence[Rows], source: str) -> list[Stored]:
        stored = []
        path = self.folder / "rows.f32"
        path.touch()
        with path.open("r+b") as file:
            file.truncate(self._total * self.width * ITEM)
            file.seek(0, 2)
            for rows in episodes:
                file.write(np.ascontiguousarray(rows, dtype="<f4").data)
                stored.append(Stored(self._total, len(rows), source))
                self._total += len(rows)
        return stored

    def _load(self) -> None:
        try:
            index = json.loads((self.folder / "index.json").read_text())
        except FileNotFoundError:
            return
        except ValueError as error:
            raise BagError(f"{self.folder}: index.json is damaged; delete this cache folder") from error
        if index["width"] != self.width:
            raise BagError(f"{self.folder}: holds rows of {index['width']} numbers, {self.width} are needed; delete it")
        self._bags = {bag: [Stored(**item) for item in items] for bag, items in index["bags"].items()}
        self._seen = index["seen"]
        self._total = index["rows"]

    def _save(self) -> None:
        bags = {bag: [asdict(item) for item in items] for bag, items in self._bags.items()}
        index = {"width": self.width, "rows": self._total, "bags": bags, "seen": self._seen}
        temporary = self.folder / ".index.json"
        temporary.write_text(json.dumps(index))
        temporary.replace(self.folder / "index.json")

    def _map(self) -> None:
        """See all rows without reading them."""
        if not self._total:
            return
        with (self.folder / "rows.f32").open("rb") as file:
            size = self._total * self.width * ITEM
            mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        self.rows = np.frombuffer(mapped, np.dtype("<f4")).reshape(self._total, self.width)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
