"""Pixels of a sensor_msgs/Image as a contract wants them: the same function for the robot and for recorded bags."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.errors import MessageError

Pixels = NDArray[np.uint8]
Shape = tuple[int, int, int]  # height, width, channels

CHANNELS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


def encoding_of(pixels: Pixels) -> str:
    """The encoding of pixels (H, W, C) in a contract's order of channels."""
    return "rgb8" if pixels.shape[2] == 3 else "mono8"


def pixels_of(message: Any, shape: Shape) -> Pixels:
    """Pixels (H, W, C) of a sensor_msgs/Image (an object with its fields), in the contract's shape, red before blue.

    Raises:
        MessageError: another encoding than rgb8, bgr8 and mono8, too few bytes, or a shape that is neither the contract's nor a
            whole multiple of it.
    """
    encoding, height, width = str(message.encoding), int(message.height), int(message.width)
    channels = CHANNELS.get(encoding)
    if channels is None:
        raise MessageError(f"encoding {encoding!r} cannot be used: publish one of {', '.join(CHANNELS)}")
    data, step = np.frombuffer(bytes(message.data), np.uint8), int(message.step)
    if step < width * channels or len(data) < height * step:
        raise MessageError(f"{len(data)} bytes in rows of {step} are too few for {height}x{width} pixels of {encoding}")
    pixels = data[: height * step].reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    return shrink(pixels[..., ::-1] if encoding == "bgr8" else pixels, shape)


def shrink(pixels: Pixels, shape: Shape) -> Pixels:
    """Pixels (H, W, C) averaged over squares of a whole number of pixels a side, rounded to the nearest; as they are where the
    shape is right. Raises MessageError for any other shape: interpolation would be a choice, and not the same one everywhere."""
    height, width, channels = shape
    factor = pixels.shape[0] // height
    if pixels.shape != (factor * height, factor * width, channels) or not factor:
        raise MessageError(
            f"an image of {_text(pixels.shape)} is neither {_text(shape)}, as the contract says, nor a whole multiple of it: "
            "let the camera publish one that is"
        )
    if factor == 1:
        return np.ascontiguousarray(pixels)
    squares = pixels.reshape(height, factor, width, factor, channels).astype(np.uint32)
    area = factor * factor
    result: Pixels = ((squares.sum(axis=(1, 3)) + area // 2) // area).astype(np.uint8)
    return result


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
