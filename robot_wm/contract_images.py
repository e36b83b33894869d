"""The contract's list `images`: camera images that a model corrects itself with, late and more rarely than with anything else."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from robot_wm.field_reader import FieldReader, short

CHANNELS = (1, 3)  # mono8; rgb8 or bgr8
REACH = 1.5  # periods
SMALLEST = 8  # pixels of a side
NAME = re.compile(r"\w+")  # names a graph, hence a file


@dataclass(frozen=True)
class ImageObservation:
    """One camera image: 8 bits per channel, as the model gets it."""

    name: str
    topic: str  # sensor_msgs/Image
    shape: tuple[int, int, int]  # height, width [pixels], channels: 3 (red, green, blue) or 1
    rate_hz: float = 0.0  # expected rate of the topic; 0: unknown
    delay_s: float = 0.0  # expected delay from capture to arrival; training expects it where no bag has measured it
    stale_s: float = 0.5  # older than this: posterior_node warns that it is missing
    delay_range_s: tuple[
        float, ...
    ] = ()  # shortest and longest delay to train for, whatever bags measured; empty: that
    outage_s: float = 0.0  # longest time without an image to train for
    history: int = 1  # frames that a correction sees: 2 adds the one before, and with it motion

    def reach(self, model_hz: float) -> int:
        """How far back the frame before may be [model steps]: one that was lost in between would look like slower motion."""
        return math.floor(REACH * model_hz / self.rate_hz) if self.history > 1 else 0


def parse_images(reader: FieldReader, data: Any, names: Collection[str]) -> tuple[ImageObservation, ...]:
    """The list from plain data; `names` are those of the observations, which differ from an image's. Raises as `reader` does."""
    images: list[ImageObservation] = []
    for i, given in enumerate(reader.listing(data, "images")):
        image = _image(reader, given, f"images[{i}]")
        if image.name in {*names, *(other.name for other in images)}:
            raise reader.fail(f"images[{i}].name", f"{image.name} is taken by another observation; names must differ")
        images.append(image)
    return tuple(images)


def _image(reader: FieldReader, data: Any, where: str) -> ImageObservation:
    table = reader.table(data, where, ImageObservation, required=("name", "topic", "shape"))
    name = reader.text(table["name"], f"{where}.name")
    if not NAME.fullmatch(name):
        raise reader.fail(f"{where}.name", f"must be letters, digits and underscores, got {short(name)}")
    rate, history = reader.number(table.get("rate_hz", 0.0), f"{where}.rate_hz", at_least=0.0), table.get("history", 1)
    if history not in (1, 2) or isinstance(history, bool):
        raise reader.fail(f"{where}.history", f"must be 1 or 2 frames, got {short(history)}")
    if history > 1 and not rate:
        raise reader.fail(f"{where}.rate_hz", "is needed with a history: how long ago the frame before was taken")
    return ImageObservation(
        name=name,
        topic=reader.text(table["topic"], f"{where}.topic"),
        shape=_shape(reader, table["shape"], f"{where}.shape"),
        rate_hz=rate,
        delay_s=reader.number(table.get("delay_s", 0.0), f"{where}.delay_s", at_least=0.0),
        delay_range_s=_range(reader, table.get("delay_range_s", ()), f"{where}.delay_range_s"),
        outage_s=reader.number(table.get("outage_s", 0.0), f"{where}.outage_s", at_least=0.0),
        history=history,
        stale_s=reader.number(table.get("stale_s", ImageObservation.stale_s), f"{where}.stale_s", above=0.0),
    )


def _range(reader: FieldReader, data: Any, where: str) -> tuple[float, ...]:
    bounds = reader.numbers(data, where, at_least=0.0)
    if bounds and not (len(bounds) == 2 and bounds[0] <= bounds[1]):
        raise reader.fail(where, f"must be [shortest, longest] in s, got {short(list(bounds))}")
    return bounds


def _shape(reader: FieldReader, data: Any, where: str) -> tuple[int, int, int]:
    sides = reader.listing(data, where)
    if len(sides) != 3 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        raise reader.fail(where, f"must be [height, width, channels] in whole numbers, got {short(data)}")
    height, width, channels = sides
    if min(height, width) < SMALLEST or channels not in CHANNELS:
        raise reader.fail(where, f"must be {SMALLEST} pixels or more a side with 1 or 3 channels, got {short(data)}")
    return height, width, channels
