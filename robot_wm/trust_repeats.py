"""A camera that repeats its last frame under new stamps, while the latent says that the scene moves."""

from __future__ import annotations

import numpy as np

from robot_wm.backend import Float32
from robot_wm.images import Pixels
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import FloatArray


class Repeats:
    """Counts equal frames in a row, once the latent has moved since the first of them by more than leaves a frame the same."""

    def __init__(self, name: str, still: float, limit: int) -> None:
        """`still`: latent motion (rms) since the first frame up to which equal ones are no wonder; `limit`: equal frames that are
        an alarm."""
        self.name = name
        self.still = still
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self._frame: Pixels | None = None
        self._stamp = -1
        self._latent: Float32 | None = None  # at the first of the equal frames

    @property
    def level(self) -> float:
        return self.count / self.limit

    def see(self, filter_: LatentFilter, k: int) -> tuple[bool, float] | None:
        """Look at the frame of instant `k`; whether it equals the one before, and how far the latent has moved since the first
        that did; None without a pair."""
        now = filter_.estimate(k)
        image = None if now is None else now.measured.get(self.name)
        if now is None or image is None or image.stamp <= self._stamp:
            return None
        frame, before, latent = np.asarray(image.values, np.uint8), self._frame, self._latent
        self._frame, self._stamp = frame, image.stamp
        if before is None or latent is None:
            self._latent = now.prior
            return None
        same, moved = bool(np.array_equal(frame, before)), _rms(now.prior - latent)
        if not same:
            self.count, self._latent = 0, now.prior
        elif moved > self.still:
            self.count += 1
        return same, moved


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
