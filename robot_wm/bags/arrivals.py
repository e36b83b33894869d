"""What the robot's processes heard, in the order in which it came: what a replay of the latent filter is fed with."""

from __future__ import annotations

import numpy as np

from robot_wm.bags.align import measurements, read_action
from robot_wm.bags.image_series import read_images
from robot_wm.bags.reader import Bag
from robot_wm.contract import Contract
from robot_wm.messages import Applied, Event, Latent, Measurement
from robot_wm.timebase import NS_PER_S

Arrival = tuple[int, Applied | Measurement | Event]


def arrivals(bag: Bag, contract: Contract) -> list[Arrival]:
    """Everything that the filter would have heard, by the time of its arrival [ns, ROS time]."""
    found: list[tuple[int, int, Applied | Measurement | Event]] = []
    topic, sent = read_action(bag, contract)
    sources = bag.frame_ids(topic)
    for row, (receive, stamp, values) in enumerate(zip(sent.receive, sent.stamps, sent.values, strict=True)):
        source = sources[sent.rows[row]] if len(sources) > sent.rows[row] else "plan"
        found.append((int(receive), 2, Applied(int(stamp), values, source)))
    for name, series in measurements(bag, contract).items():
        for receive, stamp, values in zip(series.receive, series.stamps, series.values, strict=True):
            found.append((int(receive), 1, Measurement(name, int(stamp), values)))
    for item in contract.images:
        images = read_images(bag, item)
        for receive, stamp, row in zip(images.series.receive, images.series.stamps, images.series.values, strict=True):
            found.append((int(receive), 1, Measurement(item.name, int(stamp), images.pixels[int(row[0])])))
    found += [(event.stamp, 0, event) for event in bag.events()]
    return [(at, what) for at, _, what in sorted(found, key=lambda entry: entry[:2])]


def recorded_latents(bag: Bag) -> list[tuple[int, Latent]]:
    """Every recorded latent with the time of its arrival [ns, ROS time]; those of different bundles may differ in size."""
    result = []
    for received, message in bag.messages("latent") if bag.find("latent") is not None else ():
        header = message.header
        stamp = header.stamp.sec * NS_PER_S + header.stamp.nanosec
        values = np.frombuffer(message.data, ">f4" if message.is_bigendian else "<f4").astype(np.float32)
        result.append((received, Latent(stamp, values, header.frame_id)))
    return result
