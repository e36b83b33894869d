"""Damaged bags of every kind are read or refused by name, and salvaged or not: nothing else is raised, no length is believed.

ROBOT_WM_FUZZ_BYTES sets how many bytes each kind is damaged in, a file of some 10 000 at a time.
"""

import resource
import shutil
from contextlib import suppress

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from bag_tools import JOINTS, MS, START, drive, foreign, record, robot, ros1
from fuzz_tools import damaged, fuzz_bytes, refusal, report
from robot_wm.bags.image_series import read_images
from robot_wm.bags.reader import open_bag
from robot_wm.bags.salvage import salvage
from robot_wm.contract_images import ImageObservation
from robot_wm.errors import RobotWmError
from robot_wm.info import PlanInfo
from robot_wm.messages import Measurement, Plan

CAMERA = ImageObservation("camera", "camera/image_raw", (8, 8, 3))
LENGTHS = [(value).to_bytes(8, "little") for value in (0, 2**31 - 1, 2**33, 2**62, 2**64 - 1)]
MOST_MB = 1000  # more than this process had before: some length in the file was believed


def ours(path):
    """A bag as the recorder writes it, with everything in it."""
    items = drive(0.1)
    items += [(CAMERA.topic, Measurement("camera", START + i * MS, np.zeros(CAMERA.shape, np.uint8))) for i in range(3)]
    items += [("plan", Plan(i, START + i * MS, 20 * MS, np.ones((3, 2)), "abc")) for i in range(3)]
    return record(path, items, robot())


BAGS = {
    "ours": (ours, "bag_0.mcap"),
    "metadata": (ours, "metadata.yaml"),
    "mcap": (lambda path: foreign(path, StoragePlugin.MCAP), "bag.mcap"),
    "sqlite": (lambda path: foreign(path, StoragePlugin.SQLITE3), "bag.db3"),
    "ros1": (lambda path: ros1(path.with_suffix(".bag")), ""),
}


def read_everything(path):
    bag = open_bag(path)
    reads = [lambda: bag.contract, bag.arrivals, bag.events, lambda: bag.plans(robot())]
    reads.append(lambda: read_images(bag, CAMERA))
    for name in bag.topics:
        reads.append(lambda name=name: bag.read_joints(name, "position", JOINTS))
        reads.append(lambda name=name: bag.read_tensor(name, slice(0, 1), ["x"]))
        reads.append(lambda name=name: bag.infos(name, PlanInfo))
        reads.append(lambda name=name: (bag.frame_ids(name), bag.driven(name)))
        reads.append(lambda name=name: list(bag.messages(name)))
    for read in reads:
        with suppress(RobotWmError):
            read()


@pytest.mark.timeout(900 + fuzz_bytes() // 500)
@pytest.mark.parametrize("kind", BAGS)
def test_a_damaged_bag_is_read_or_refused_by_its_name(kind, tmp_path):
    make, name = BAGS[kind]
    path = make(tmp_path / "bag")
    file = path / name if name else path
    good, rng = file.read_bytes(), np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    seen = opened = saved = 0
    while seen < fuzz_bytes(50_000):
        data = bytearray(damaged(rng, good, every=len(good)) if rng.random() < 0.5 else good)
        for at in rng.integers(0, len(data) - 8, int(rng.integers(1, 4))):
            data[at : at + 8] = rng.choice(LENGTHS) if rng.random() < 0.5 else rng.bytes(1) + data[at + 1 : at + 8]
        file.write_bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.1 else data)
        refused = refusal(read_everything, path)
        assert refused is None or str(path) in refused
        opened += refused is None
        with suppress(RobotWmError):
            saved += salvage(path, tmp_path / "saved").messages > 0
        shutil.rmtree(tmp_path / "saved", ignore_errors=True)
        seen += len(data)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 - before
    report(f"bag: {kind}", bytes=seen, opened=opened, saved=saved, grown_mb=grown)
    assert grown < MOST_MB
