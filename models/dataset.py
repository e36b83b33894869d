"""Training windows from any number of bags, memory-mapped: the data may be far larger than memory.

Bags are aligned once (`robot_wm/bags/align.py`) and kept in a cache that is keyed by their content, the contract, the reward
and the way of alignment. A window never crosses an episode.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.row_store import Rows, RowStore, Stored
from robot_wm.bags.align import Episode, Options, align_with_report
from robot_wm.bags.align_report import AlignReport
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.bags.storage import data_files
from robot_wm.contract import Contract
from robot_wm.errors import BagError
from robot_wm.functions import load_function
from robot_wm.images import Pixels

QUANTILES = 21  # of an image's delays, evenly spaced from the shortest to the longest


@dataclass(frozen=True)
class Batch:
    """Windows of `length` rows; float32 (but for images), views into one buffer. Rows behind an episode's end repeat its last, rows
    before its start repeat its first with mask 0; both have valid 0.

    Row t holds the observation at instant t, and the action and reward of the step from t to t + 1.
    """

    observation: Rows  # (B, T, O) raw SI units, 0 where masked
    mask: Rows  # (B, T, M)
    age: Rows  # (B, T, M) model steps
    action: Rows  # (B, T, A) normalised to -1..1
    reward: Rows  # (B, T)
    target: Rows  # (B, T, O) raw SI units
    terminal: Rows  # (B, T) 1 on the row in which an episode failed
    valid: Rows  # (B, T)
    begins: Rows  # (B, T) 1 on the first row of an episode
    rows: NDArray[np.int64]  # (B, T) position in the cache: what per-row state can be kept by
    images: tuple[Pixels, ...] = ()  # each (B, T, H, W, C) uint8, 0 where masked


class Dataset:
    """Windows over the episodes of some bags.

    Args:
        bags: paths of bags; at least one.
        contract: names what to read.
        cache_dir: where aligned bags are kept; default `robot_wm` in the user's cache folder.
        options: how to align.
        phases: align every bag on this many shifted grids: more, slightly different samples of fast logs.

    Raises:
        BagError: no bags, or one that cannot be used (the message names it).
    """

    def __init__(
        self,
        bags: Sequence[Path | str],
        contract: Contract,
        cache_dir: Path | str | None = None,
        options: Options | None = None,
        phases: int = 1,
    ) -> None:
        if not bags:
            raise BagError("no bags given: name at least one bag to learn from")
        self.contract = contract
        self.options = options or Options()
        self.phases = phases
        self.hashes: dict[str, str] = {}  # content hash of each bag, by path
        self.reports: list[AlignReport] = []  # of the bags that had to be aligned now
        self._columns, width = columns(contract)
        self.cache_dir = folder = default_cache() if cache_dir is None else Path(cache_dir)
        shapes = {image.name: image.shape for image in contract.images}
        self._store = RowStore(folder / cache_key(contract, self.options), width, shapes)
        self._episodes: list[Stored] = []
        self._starts = self._ends = np.zeros(0, np.int64)
        self._windows: dict[tuple[int, int], NDArray[np.int64]] = {}
        self.extend(bags)

    def __len__(self) -> int:
        """Rows of all episodes."""
        return int((self._ends - self._starts).sum())

    @property
    def episodes(self) -> tuple[Stored, ...]:
        """Every episode, in the order of the bags."""
        return tuple(self._episodes)

    @property
    def delays(self) -> tuple[tuple[float, ...], ...]:
        """Of each image of the contract: quantiles of the time from capture to arrival [s], over all episodes."""
        places = np.linspace(0.0, 1.0, QUANTILES)
        return tuple(
            tuple(np.quantile(np.concatenate([e.delays[i] for e in self._episodes]), places).tolist())
            for i in range(len(self.contract.images))
        )

    def add(self, bag: Path | str) -> None:
        """Add one bag; cheap for those that are there. Raises BagError naming the bag."""
        self.extend([bag])

    def extend(self, bags: Iterable[Path | str]) -> None:
        """Add several bags."""
        for bag in bags:
            self._episodes += self._stored(Path(bag))
        self._starts = np.array([e.start for e in self._episodes], np.int64)
        self._ends = self._starts + np.array([e.length for e in self._episodes], np.int64)
        self._windows.clear()

    def sample(self, rng: np.random.Generator, batch: int, length: int, lead: int = 0) -> Batch:
        """Draw `batch` windows of `length` rows, every possible window as likely as another; they may begin up to `lead` rows
        before their episode."""
        ends = self._window_ends(length, lead)
        window = rng.integers(ends[-1], size=batch)
        episode = np.searchsorted(ends, window, side="right")
        offset = window - np.where(episode > 0, ends[episode - 1], 0) - lead
        return self._gather(self._starts[episode], offset, self._ends[episode], length)

    def starts(self, length: int, stride: int = 1) -> NDArray[np.int64]:
        """First rows of windows of `length`, every `stride` rows of each episode: for metrics over all held-out data."""
        last = np.maximum(self._ends - length, self._starts)
        return np.concatenate(
            [np.arange(s, e + 1, stride) for s, e in zip(self._starts.tolist(), last.tolist(), strict=True)]
        )

    def window(self, first: NDArray[np.int64], length: int) -> Batch:
        """The windows that begin at the rows `first` (B,), as `starts` gives them."""
        order = np.argsort(self._starts, kind="stable")
        episode = order[np.searchsorted(self._starts[order], first, side="right") - 1]
        start = self._starts[episode]
        return self._gather(start, first - start, self._ends[episode], length)

    def _gather(
        self, start: NDArray[np.int64], offset: NDArray[np.int64], end: NDArray[np.int64], length: int
    ) -> Batch:
        """Windows (B,) that begin `offset` rows after `start`, the first row of their episode."""
        place = offset[:, None] + np.arange(length)
        rows = start[:, None] + place
        valid = (place >= 0) & (rows < end[:, None])
        rows = np.clip(rows, start[:, None], end[:, None] - 1)
        packed = self._store.rows.take(rows, axis=0)
        parts = {name: packed[..., part] for name, part in self._columns.items()}
        if (offset < 0).any():
            parts["mask"] *= place[..., None] >= 0
        images = tuple(pixels.take(rows, axis=0) for pixels in self._store.images.values())
        return Batch(
            **parts,
            valid=valid.astype(np.float32),
            begins=(place == 0).astype(np.float32),
            rows=rows,
            images=images,
        )

    def _window_ends(self, length: int, lead: int) -> NDArray[np.int64]:
        """Cumulative number of windows of `length` up to each episode; a shorter episode counts as one."""
        if (length, lead) not in self._windows:
            rows = self._ends - self._starts + lead
            self._windows[length, lead] = np.cumsum(np.maximum(rows - length + 1, 1))
        return self._windows[length, lead]

    def _stored(self, path: Path) -> list[Stored]:
        """The episodes of one bag, on every grid; the bag is opened only if it is not stored yet."""
        source, fingerprint = str(path.resolve()), _fingerprint(path)
        bag: Bag | None = None
        content = self._store.hash_of(source, fingerprint)
        if content is None:
            bag = open_bag(path)
            content = bag.hash
        self.hashes[str(path)] = content
        result = []
        for phase in (i / self.phases for i in range(self.phases)):
            key = f"{content}:{phase:g}"
            known = self._store.episodes(key)
            if known is None:
                bag = bag or open_bag(path)
                episodes, report = align_with_report(bag, self.contract, replace(self.options, phase=phase))
                self.reports.append(report)
                rows = [pack(episode) for episode in episodes]
                images = {item.name: [e.images[i] for e in episodes] for i, item in enumerate(self.contract.images)}
                delays = [_quantiles(episode) for episode in episodes]
                known = self._store.append(key, rows, source, fingerprint, content, images, delays)
            result += known
        return result


def columns(contract: Contract) -> tuple[dict[str, int | slice], int]:
    """Where each array of a batch lies in a packed row, and the row's width."""
    size, modalities, action = contract.observation_size, len(contract.modalities), contract.action.size
    parts: dict[str, int | slice] = {}
    at = 0
    widths = {"observation": size, "mask": modalities, "age": modalities, "action": action, "target": size}
    for name, width in widths.items():
        parts[name] = slice(at, at + width)
        at += width
    parts |= {"reward": at, "terminal": at + 1}
    return parts, at + 2


def pack(episode: Episode) -> Rows:
    """An episode as rows (T, width)."""
    terminal = np.zeros((len(episode), 1), np.float32)
    terminal[-1] = episode.terminal
    parts = (episode.observation, episode.mask, episode.age, episode.action, episode.target, episode.reward[:, None])
    return np.concatenate([*parts, terminal], axis=1).astype(np.float32)


def _quantiles(episode: Episode) -> tuple[tuple[float, ...], ...]:
    places = np.linspace(0.0, 1.0, QUANTILES)
    return tuple(tuple(np.quantile(delays, places).tolist()) for delays in episode.delays)


def cache_key(contract: Contract, options: Options) -> str:
    """Changes whenever aligned rows would: the contract's data-facing part, the reward and its code, the alignment."""
    function = contract.reward.function
    facts: dict[str, Any] = {
        "contract": contract.hash,
        "topics": [[o.topic, o.field] for o in contract.observations],
        "action": [contract.action.topic, contract.action.field, contract.action.delay_s],
        "reward": [contract.reward.topic, function, _source(function)],
        "options": options.key(),
    }
    if contract.images:
        facts["images"] = [image.topic for image in contract.images]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def default_cache() -> Path:
    """`robot_wm/rows` in the user's cache folder (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robot_wm" / "rows"


def _source(function: str) -> str:
    """Hash of the file a reward function lives in: what it calls may change as well."""
    if not function:
        return ""
    try:
        file = inspect.getfile(load_function(function))
    except TypeError:  # built into the interpreter
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _fingerprint(path: Path) -> list[Any]:
    if not path.exists():
        raise BagError(f"{path}: there is no such bag")
    try:
        stats = [(file.name, file.stat()) for file in data_files(path)]
    except FileNotFoundError as error:
        raise BagError(f"{path}: {Path(error.filename).name} is missing from this bag") from error
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
