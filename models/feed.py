"""What the next update is made from, drawn while a device is busy with the one before."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """Calls `draw` for each `next`, or one call ahead of it on a thread of its own: in the same order, so with the same results."""

    def __init__(self, draw: Callable[[], T], ahead: bool) -> None:
        self._draw = draw
        self._pool = ThreadPoolExecutor(1, "feed") if ahead else None
        self._coming: Future[T] | None = None

    def next(self) -> T:
        """The next draw. Raises whatever `draw` raised."""
        if self._pool is None:
            return self._draw()
        coming = self._coming or self._pool.submit(self._draw)
        drawn = coming.result()
        self._coming = self._pool.submit(self._draw)
        return drawn

    def forget(self) -> None:
        """Drop what was drawn ahead."""
        if self._coming is not None:
            self._coming.result()
            self._coming = None
