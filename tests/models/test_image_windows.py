"""Windows with images: the pixels of each row beside its numbers, and how late they came."""

import sys
from pathlib import Path

import numpy as np
import pytest

from models.dataset import QUANTILES, Dataset, cache_key
from robot_wm.bags.align import Options, align

sys.path.append(str(Path(__file__).resolve().parents[1] / "robot_wm"))

from bag_tools import MS, START, drive, record, robot
from robot_wm.messages import Measurement

SHAPE = (8, 9, 3)
EYE = {"name": "eye", "topic": "camera/image_raw", "shape": list(SHAPE), "rate_hz": 25.0, "delay_s": 0.05}


def seeing(**changes):
    return robot(images=[EYE | changes])


def seen(seconds, delay, seed=0):
    """A drive with an image every 40 ms, as late as `delay` [ms] says."""
    rng = np.random.default_rng(seed)
    items = [(m.stamp, i, (topic, m)) for i, (topic, m) in enumerate(drive(seconds))]
    for k in range(round(25 * seconds)):
        stamp = START + k * 40 * MS
        image = Measurement("eye", stamp, rng.integers(0, 256, SHAPE).astype(np.uint8))
        items.append((stamp + delay * MS, k, ("camera/image_raw", image, stamp + delay * MS)))
    return [item for _, _, item in sorted(items, key=lambda entry: entry[:2])]


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    return [record(folder / f"late_{ms}", seen(0.6, ms, ms), seeing()) for ms in (60, 100)]


def test_a_window_holds_the_images_of_its_rows(bags, tmp_path):
    dataset = Dataset(bags, seeing(), tmp_path)
    episodes = [episode for bag in bags for episode in align(bag, seeing())]
    pixels = np.concatenate([e.images[0] for e in episodes])
    mask = np.concatenate([e.mask for e in episodes])
    batch = dataset.sample(np.random.default_rng(0), 16, 5)
    assert batch.images[0].shape == (16, 5, *SHAPE)
    assert batch.images[0].dtype == np.uint8
    assert batch.mask.shape == batch.age.shape == (16, 5, 3)
    assert np.array_equal(batch.images[0], pixels[batch.rows])
    assert np.array_equal(batch.mask, mask[batch.rows])


def test_delays_are_kept_as_quantiles_over_all_bags_and_outlive_the_process(bags, tmp_path):
    for _ in range(2):
        dataset = Dataset(bags, seeing(), tmp_path)
        (quantiles,) = dataset.delays
        assert len(quantiles) == QUANTILES
        assert quantiles[0] == pytest.approx(0.06)
        assert quantiles[-1] == pytest.approx(0.1)


def test_the_cache_key_follows_the_images_topic_and_shape_alone():
    keys = [cache_key(contract, Options()) for contract in (robot(), seeing(), seeing(topic="eye"))]
    keys.append(cache_key(seeing(shape=[8, 10, 3]), Options()))
    assert len(set(keys)) == 4
    assert cache_key(seeing(delay_s=0.2, stale_s=1.0), Options()) == keys[1]
