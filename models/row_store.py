"""Aligned episodes as rows of one append-only, memory-mapped file: larger than memory works, and a restart costs nothing.

A folder holds `rows.f32` (rows, width), for each image a file `image_<name>.u8` (rows, H, W, C), and `index.json`, which names
every episode in it by the bag it came from. Data is written before the index and the index is replaced as a whole, so that a
crash leaves at most unnamed rows behind, which the next append overwrites.
"""

from __future__ import annotations

import fcntl
import json
import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.errors import BagError
from robot_wm.images import Pixels, Shape

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Stored:
    """One episode: `length` rows from `start` on."""

    start: int
    length: int
    source: str
    delays: tuple[tuple[float, ...], ...] = ()  # of each image: quantiles of the time from capture to arrival [s]


class _Array:
    """A file of rows of one shape, appended to and memory-mapped."""

    def __init__(self, path: Path, kind: str, shape: tuple[int, ...]) -> None:
        self.path = path
        self.shape = shape
        self._kind = np.dtype(kind)
        self._row = self._kind.itemsize * int(np.prod(shape))  # bytes

    def append(self, at: int, parts: Sequence[NDArray[Any]]) -> None:
        """Write rows from row `at` on; whatever was there goes."""
        self.path.touch()
        with self.path.open("r+b") as file:
            file.truncate(at * self._row)
            file.seek(0, 2)
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype=self._kind).data)

    def map(self, rows: int) -> NDArray[Any]:
        """See the first rows without reading them."""
        if not rows:
            return np.zeros((0, *self.shape), self._kind)
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), rows * self._row, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, self._kind).reshape(rows, *self.shape)


class RowStore:
    """The rows of many bags; several processes may share one.

    Args:
        folder: made when it is not there.
        width: numbers per row.
        images: what each image of a row is called, and its shape.

    Raises:
        BagError: when the folder cannot be used, or holds rows of another width.
    """

    def __init__(self, folder: Path, width: int, images: Mapping[str, Shape] | None = None) -> None:
        self.folder = folder
        self.width = width
        self._row_file = _Array(folder / "rows.f32", "<f4", (width,))
        shapes = (images or {}).items()
        self._image_files = {name: _Array(folder / f"image_{name}.u8", "u1", shape) for name, shape in shapes}
        self._bags: dict[str, list[Stored]] = {}
        self._seen: dict[str, list[Any]] = {}
        self._total = 0
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
        self,
        bag: str,
        episodes: Sequence[Rows],
        source: str,
        fingerprint: list[Any],
        content: str,
        images: Mapping[str, Sequence[Pixels]] | None = None,
        delays: Sequence[tuple[tuple[float, ...], ...]] = (),
    ) -> list[Stored]:
        """Store a bag's episodes, each (T, width), unless another process did meanwhile; return where they lie.

        Args:
            images: of every image the pixels (T, H, W, C) of each episode.
            delays: of each episode, as in `Stored`.

        Raises BagError on a full disk; nothing is half stored then.
        """
        try:
            with self._locked():
                self._load()
                if bag not in self._bags:
                    self._bags[bag] = self._write(episodes, source, images or {}, delays or [()] * len(episodes))
                self._seen[source] = [fingerprint, content]
                self._save()
        except OSError as error:
            raise BagError(f"{self.folder}: aligned bags cannot be stored: {error.strerror}") from error
        self._map()
        return self._bags[bag]

    def _write(
        self,
        episodes: Sequence[Rows],
        source: str,
        images: Mapping[str, Sequence[Pixels]],
        delays: Sequence[tuple[tuple[float, ...], ...]],
    ) -> list[Stored]:
        self._row_file.append(self._total, episodes)
        for name, file in self._image_files.items():
            file.append(self._total, images[name])
        stored = []
        for rows, measured in zip(episodes, delays, strict=True):
            stored.append(Stored(self._total, len(rows), source, measured))
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
        self._bags = {bag: [_stored(item) for item in items] for bag, items in index["bags"].items()}
        self._seen = index["seen"]
        self._total = index["rows"]

    def _save(self) -> None:
        bags = {bag: [_plain(item) for item in items] for bag, items in self._bags.items()}
        index = {"width": self.width, "rows": self._total, "bags": bags, "seen": self._seen}
        temporary = self.folder / ".index.json"
        temporary.write_text(json.dumps(index))
        temporary.replace(self.folder / "index.json")

    def _map(self) -> None:
        """See all rows without reading them."""
        self.rows: Rows = self._row_file.map(self._total)
        self.images: dict[str, Pixels] = {name: file.map(self._total) for name, file in self._image_files.items()}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _stored(item: dict[str, Any]) -> Stored:
    return Stored(**item | {"delays": tuple(tuple(quantiles) for quantiles in item.get("delays", ()))})


def _plain(stored: Stored) -> dict[str, Any]:
    return {key: value for key, value in asdict(stored).items() if value != ()}
