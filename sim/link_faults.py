"""A bad cable: bytes of one direction, with seeded faults frame by frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from robot_wm.buses.framing import DELIMITER
from robot_wm.errors import RunError

LONGEST_DELAY = 3  # frames that overtake a delayed one

Split = Callable[[bytes], tuple[list[bytes], bytes]]  # bytes → whole frames, and what may still become one


def at_zeros(data: bytes) -> tuple[list[bytes], bytes]:
    """Frames that end with a zero byte, as those of our serial protocol do."""
    *frames, rest = data.split(DELIMITER)
    return [frame + DELIMITER for frame in frames], rest


@dataclass(frozen=True)
class FaultRates:
    """Probability of each fault, per frame; a frame has one fault at most."""

    corrupt: float = 0.0  # one to three bits flip, maybe of the delimiter
    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0  # up to three later frames overtake it
    truncate: float = 0.0  # its end is missing, the delimiter too

    def __post_init__(self) -> None:
        values = [getattr(self, field.name) for field in fields(self)]
        if min(values) < 0.0 or sum(values) > 1.0:
            raise RunError(f"rates of line faults must be at least 0 and at most 1 together, not {self}")


class FaultyLine:
    """One direction of a serial line; `counts` says what it did, `frames` among it. `rates` may be changed at any time."""

    def __init__(self, rates: FaultRates, rng: np.random.Generator, split: Split = at_zeros) -> None:
        self.rates = rates
        self._split = split
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._partial = b""
        self._delayed: list[tuple[int, bytes]] = []  # frames to go, frame

    def carry(self, data: bytes) -> bytes:
        """What comes out at the other end for `data`; bytes that are no whole frame yet wait for its end."""
        frames, self._partial = self._split(self._partial + data)
        return b"".join(map(self._carry, frames))

    def _carry(self, frame: bytes) -> bytes:
        if frame == DELIMITER:
            return frame
        self.counts["frames"] += 1
        kind = self._draw()
        if kind:
            self.counts[kind] += 1
        out = self._do(kind, frame)
        due = [held for left, held in self._delayed if left <= 1]
        self._delayed = [(left - 1, held) for left, held in self._delayed if left > 1]
        if kind == "delay":
            self._delayed.append((int(self._rng.integers(1, LONGEST_DELAY + 1)), frame))
        return out + b"".join(due)

    def _draw(self) -> str:
        """Which fault this frame has, or nothing."""
        left = self._rng.random()
        for field in fields(self.rates):
            left -= getattr(self.rates, field.name)
            if left < 0.0:
                return field.name
        return ""

    def _do(self, kind: str, frame: bytes) -> bytes:
        if kind in ("drop", "delay"):
            return b""
        if kind == "duplicate":
            return frame + frame
        if kind == "truncate":
            return frame[: int(self._rng.integers(1, len(frame)))]
        if kind == "corrupt":
            bits = np.unpackbits(np.frombuffer(frame, np.uint8))
            flipped = self._rng.choice(bits.size, int(self._rng.integers(1, 4)), replace=False)
            bits[flipped] ^= 1
            return np.packbits(bits).tobytes()
        return frame
