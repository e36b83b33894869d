"""What the next update is made from, drawn while the one before is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_pool = ThreadPoolExecutor(1, "feed")


def ahead(draw: Callable[[], T], count: int) -> Iterator[T]:
    """The results of `count` calls of `draw`, in order; each but the first is made on another thread while the caller is busy with
    the one before. None is outstanding at the end. Raises whatever `draw` raises."""
    coming = [_pool.submit(draw)] if count else []
    for left in reversed(range(count)):
        drawn = coming.pop().result()
        if left:
            coming.append(_pool.submit(draw))
        yield drawn
