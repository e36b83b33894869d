"""Are the logs complete up to a fault of the recorder: what no bag of the campaign holds of the time before it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robot_wm.bags.reader import Bag, open_bag
from robot_wm.bags.salvage import salvage
from robot_wm.errors import BagError
from robot_wm.timebase import NS_PER_S
from ros_nodes import topics

SALVAGED = "salvaged"


def lost_before(bag: Path, stamps: Sequence[int]) -> list[float]:
    """Seconds before each stamp [ns, ROS time] in which nothing of what the motors got reached a disk.

    `bag` and the numbered ones beside it are looked at; infinite where none holds anything from before.
    """
    heard = np.sort(np.concatenate([np.zeros(0, np.int64), *map(_arrivals, _bags(bag))]))
    lost = []
    for stamp in stamps:
        before = int(np.searchsorted(heard, stamp, "right"))
        lost.append(float((stamp - heard[before - 1]) / NS_PER_S) if before else float("inf"))
    return lost


def _bags(bag: Path) -> list[Path]:
    found = [path for path in bag.parent.glob(f"{bag.name}*") if path.is_dir()]
    return sorted(path for path in found if not path.name.endswith(SALVAGED))


def _arrivals(path: Path) -> np.ndarray:
    """When each applied command was recorded [ns, ROS time]."""
    try:
        found = _readable(path).arrivals()
    except BagError:  # nothing reached the disk at all
        return np.zeros(0, np.int64)
    return next(
        (stamps for topic, stamps in found.items() if topic.lstrip("/") == topics.APPLIED), np.zeros(0, np.int64)
    )


def _readable(path: Path) -> Bag:
    try:
        return open_bag(path)
    except BagError:
        whole = path.with_name(f"{path.name}_{SALVAGED}")
        salvage(path, whole)
        return open_bag(whole)
