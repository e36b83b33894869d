"""Latest-wins mailboxes: how corrections, plans and commands reach a fast loop without a lock."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Keeps the newest `depth` items between any number of writers and one reader; neither ever waits.

    Safe between threads: `deque` appends and pops are atomic, and a full one drops its oldest item.
    """

    def __init__(self, depth: int = 1) -> None:
        self._items: deque[T] = deque(maxlen=depth)

    def put(self, item: T) -> None:
        """Leave an item; the oldest one makes room."""
        self._items.append(item)

    def take(self) -> T | None:
        """Take the newest item and empty the box; None when nothing has come since the last call."""
        newest = None
        for item in self.drain():
            newest = item
        return newest

    def drain(self) -> list[T]:
        """Take everything that is there, oldest first."""
        items: list[T] = []
        for _ in range(len(self._items)):  # bounded, whatever the writers do meanwhile
            try:
                items.append(self._items.popleft())
            except IndexError:  # a writer on a full box displaced what we counted
                break
        return items
