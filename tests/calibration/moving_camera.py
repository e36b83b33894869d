"""One joint and what a camera on it sees, late by a known time."""

import cv2
import numpy as np

from calibration.sync import Turns


def wave(seed=0, tones=8, highest=1.5):
    """A brisk, irregular motion [rad] as a function of time."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.2, highest, tones), rng.uniform(0, 2 * np.pi, tones)
    return lambda t: 0.25 * np.sin(2 * np.pi * np.multiply.outer(np.asarray(t), frequency) + phase).sum(axis=-1)


def joint(motion, seconds=20.0, rate=200.0):
    times = np.arange(0.0, seconds, 1 / rate)
    return times, np.round(motion(times) / (2 * np.pi / 4096)) * (2 * np.pi / 4096)


def camera(motion, offset, seconds=20.0, rate=30.0, noise=0.0, seed=0, unsigned=False):
    """Frames with irregular exposures, stamped `offset` late."""
    rng = np.random.default_rng(seed)
    exposed = np.arange(0.0, seconds, 1 / rate) + rng.uniform(0, 0.2 / rate, round(seconds * rate))
    angle = -2.5 * np.diff(motion(exposed)) + noise * rng.normal(size=len(exposed) - 1)
    return Turns(exposed + offset, np.abs(angle) if unsigned else angle, unsigned)


def pictures(motion, offset, seconds=12.0, rate=20.0, size=160):
    """A textured wall that turns before the camera, as grey images."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(0, 256, (2 * size, 2 * size)).astype(np.float32), (0, 0), 3)
    wall = cv2.normalize(wall, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    for exposed in np.arange(0.0, seconds, 1 / rate):
        turned = cv2.getRotationMatrix2D((size, size), float(np.degrees(motion(exposed))), 1.0)
        turned[:, 2] -= size / 2
        yield exposed + offset, cv2.warpAffine(wall, turned, (size, size))
