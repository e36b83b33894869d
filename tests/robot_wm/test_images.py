"""Pixels come as the contract wants them, from any camera that can be understood, or not at all."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.errors import MessageError
from robot_wm.images import pixels_of, shrink

SHAPE = (8, 10, 3)


def image(pixels, encoding="rgb8", padding=0):
    """A sensor_msgs/Image of pixels (H, W, C), its rows padded."""
    height, width, channels = pixels.shape
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=99)
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, step=width * channels + padding, data=rows.reshape(-1)
    )


def picture(*shape):
    return np.random.default_rng(0).integers(0, 256, shape or SHAPE).astype(np.uint8)


@pytest.mark.parametrize("padding", [0, 6])
def test_the_order_of_colours_is_the_contracts(padding):
    pixels = picture()
    assert np.array_equal(pixels_of(image(pixels, "rgb8", padding), SHAPE), pixels)
    assert np.array_equal(pixels_of(image(pixels[..., ::-1], "bgr8", padding), SHAPE), pixels)
    grey = picture(8, 10, 1)
    assert np.array_equal(pixels_of(image(grey, "mono8", padding), (8, 10, 1)), grey)


@given(st.integers(1, 5))
def test_a_whole_multiple_is_averaged_over_its_squares(factor):
    pixels = picture(8 * factor, 10 * factor, 3)
    small = shrink(pixels, SHAPE)
    assert small.dtype == np.uint8
    for row, column in ((0, 0), (7, 9), (3, 4)):
        square = pixels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor].astype(float)
        assert np.abs(small[row, column] - square.mean((0, 1))).max() <= 0.5


def test_the_same_bytes_give_the_same_bytes_whatever_the_strides():
    assert pixels_of(image(picture()[..., ::-1], "bgr8"), SHAPE).flags.c_contiguous


@pytest.mark.parametrize("shape", [(9, 10, 3), (8, 20, 3), (16, 10, 3), (4, 5, 3)])
def test_any_other_shape_is_refused_with_both(shape):
    both = f"{'x'.join(map(str, shape))} is neither 8x10x3, as the contract says, nor a whole multiple of it"
    with pytest.raises(MessageError, match=both):
        pixels_of(image(picture(*shape)), SHAPE)


def test_a_grey_image_is_no_coloured_one():
    with pytest.raises(MessageError, match="8x10x1 is neither 8x10x3"):
        pixels_of(image(picture(8, 10, 1), "mono8"), SHAPE)


@pytest.mark.parametrize("encoding", ["yuv422", "16UC1", "rgba8", ""])
def test_an_encoding_that_is_not_understood_is_refused(encoding):
    with pytest.raises(MessageError, match=f"encoding '{encoding}' cannot be used: publish one of rgb8, bgr8, mono8"):
        pixels_of(image(picture(), encoding), SHAPE)


def test_a_short_message_is_refused():
    short = image(picture())
    short.data = short.data[:-1]
    with pytest.raises(MessageError, match="239 bytes in rows of 30 are too few for 8x10 pixels of rgb8"):
        pixels_of(short, SHAPE)
    narrow = image(picture())
    narrow.step = 10
    with pytest.raises(MessageError, match="rows of 10 are too few"):
        pixels_of(narrow, SHAPE)
