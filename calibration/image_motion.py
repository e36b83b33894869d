"""How much a camera's image moves from frame to frame, for its time offset: no board, no intrinsics, just texture in view."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.sync import Turns
from robot_wm.errors import CalibrationError

CORNERS, QUALITY, APART_PX = 200, 0.01, 8
LEAST_TRACKED = 12


def image_turns(frames: Iterable[tuple[float, NDArray[np.uint8]]], name: str = "camera") -> Turns:
    """Rotation about the optical axis plus shift, as the median motion of tracked corners [px], unsigned.

    Args:
        frames: stamp [s] and grey image (H, W) in the order of time.

    Raises:
        CalibrationError: fewer than three frames, or too little texture to track.
    """
    stamps: list[float] = []
    moved: list[float] = []
    before: NDArray[np.uint8] | None = None
    for stamp, image in frames:
        if before is not None:
            moved.append(_moved(before, image, f"{name}: frame at {stamp:.3f} s"))
        stamps.append(stamp)
        before = image
    if len(stamps) < 3:
        raise CalibrationError(f"{name}: {len(stamps)} frames are too few")
    return Turns(np.array(stamps), np.array(moved), unsigned=True)


def _moved(before: NDArray[np.uint8], after: NDArray[np.uint8], what: str) -> float:
    """Median distance [px] that corners of `before` have moved."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, QUALITY, APART_PX)
    if corners is None or len(corners) < LEAST_TRACKED:
        raise CalibrationError(
            f"{what}: {0 if corners is None else len(corners)} corners in view; point it at something textured"
        )
    found, tracked, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, np.zeros_like(corners))
    good = tracked.ravel() == 1
    if good.sum() < LEAST_TRACKED:
        raise CalibrationError(f"{what}: moved too far to be tracked; move slower, or raise the frame rate")
    return float(np.median(np.linalg.norm((found - corners).reshape(-1, 2)[good], axis=1)))
