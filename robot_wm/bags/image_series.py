"""The images of one topic of a bag, in the contract's shape, by stamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_wm.bags.grid import nearest_rows
from robot_wm.bags.reader import Bag
from robot_wm.bags.series import Policy, Series, clean
from robot_wm.bags.types import TENSOR
from robot_wm.contract_images import ImageObservation
from robot_wm.errors import BagError, MessageError
from robot_wm.images import Pixels, pixels_of
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S


@dataclass(frozen=True)
class ImageSeries:
    """One topic's images: `series` has their stamps, its values (N, 1) are rows of `pixels` (messages, H, W, C)."""

    series: Series
    pixels: Pixels


def read_images(bag: Bag, item: ImageObservation) -> ImageSeries:
    """Read the topic of `item`; all its images are in memory, in the contract's shape. Images may have overtaken one another on
    their way: they are put in the order of their stamps, and the report counts them.

    Raises:
        BagError: there is no such topic, it carries no images, or one of them cannot be used (naming it).
    """
    topic = bag.topic(item.topic)
    where = f"{bag.path}: {topic.name}"
    if topic.type != TENSOR:
        raise BagError(f"{where} carries {topic.type}; {TENSOR} is needed")
    try:
        pixels = np.zeros((topic.count, *item.shape), np.uint8)
        stamps, receive = np.zeros((2, topic.count), np.int64)
    except (MemoryError, ValueError) as error:
        raise BagError(f"{where}: {topic.count} images of {item.name} do not fit into memory") from error
    count = 0
    for row, (received, message) in enumerate(bag.messages(topic.name)):
        count = row + 1
        try:
            pixels[row] = pixels_of(message, item.shape)
        except IndexError as error:
            raise BagError(f"{where}: holds more than the {topic.count} messages that its index names") from error
        except MessageError as error:
            raise BagError(f"{where}: message {row}: {error}") from error
        stamps[row] = message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec
        receive[row] = received
    rows = np.arange(count)
    series = Series(topic.name, stamps[:count], receive[:count], rows[:, None].astype(np.float64), rows)
    return ImageSeries(clean(series, ("image",), Policy(backwards="sort"), str(bag.path)), pixels[:count])


def nearest(
    source: ImageSeries, series: Series, origin: int, step: int, instants: int
) -> tuple[Pixels, NDArray[np.bool_], FloatArray]:
    """The image that each instant gets (instants, H, W, C), whether there is one, and its age, both (instants,); `series` is
    a stretch of the source's."""
    winner, age = nearest_rows(series.stamps, origin, step, instants)
    there = winner >= 0
    pixels = np.zeros((instants, *source.pixels.shape[1:]), np.uint8)
    pixels[there] = source.pixels[series.values[winner[there], 0].astype(np.int64)]
    return pixels, there, age


def delays(series: Series) -> FloatArray:
    """From capture to arrival (N,) [s]; a clock that runs ahead of the recorder's gives 0."""
    result: FloatArray = np.maximum(series.receive - series.stamps, 0) / NS_PER_S
    return result
