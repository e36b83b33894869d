"""Images of a bag reach the grid by stamp, like any measurement, with their delays beside them."""

import numpy as np
import pytest

from bag_tools import MS, START, drive, record, robot
from robot_wm.bags.align import Options, align, align_with_report, measurements
from robot_wm.bags.image_series import read_images
from robot_wm.bags.reader import open_bag
from robot_wm.errors import BagError
from robot_wm.messages import Measurement

SHAPE = (8, 9, 3)
EYE = {"name": "eye", "topic": "camera/image_raw", "shape": list(SHAPE), "rate_hz": 25.0}


def seeing(**changes):
    return robot(images=[EYE | changes])


def picture(stamp, shape=SHAPE):
    """Pixels that tell their stamp."""
    return np.random.default_rng(stamp // MS).integers(0, 256, shape).astype(np.uint8)


def images(stamps, delay=80 * MS, shape=SHAPE):
    """(topic, message, receive stamp) of an image for each stamp [ns after START]."""
    return [("camera/image_raw", Measurement("eye", START + s, picture(s, shape)), START + s + delay) for s in stamps]


def merged(*parts):
    """Messages of a bag in the order of arrival."""
    every = enumerate(item for part in parts for item in part)
    items = [(item[2] if len(item) == 3 else item[1].stamp, i, item) for i, item in every]
    return [item for _, _, item in sorted(items, key=lambda entry: entry[:2])]


STAMPS = [3 * MS + k * 40 * MS for k in range(12)]


@pytest.fixture
def bag(tmp_path):
    return record(tmp_path / "bag", merged(drive(0.6), images(STAMPS)), seeing())


def test_an_image_belongs_to_the_instant_nearest_its_stamp(bag):
    (episode,) = align(bag, seeing())
    assert episode.mask.shape == episode.age.shape == (31, 3)
    assert episode.images[0].shape == (31, *SHAPE)
    assert episode.images[0].dtype == np.uint8
    assert np.flatnonzero(episode.mask[:, 2]).tolist() == [0, *range(2, 24, 2)]
    for k, stamp in zip(range(0, 24, 2), STAMPS, strict=True):
        assert np.array_equal(episode.images[0][k], picture(stamp))
        assert episode.age[k, 2] == pytest.approx(-3 / 20)
    assert not episode.images[0][episode.mask[:, 2] == 0].any()


def test_what_is_no_image_is_aligned_as_without_any(bag, tmp_path):
    plain = record(tmp_path / "plain", drive(0.6), robot())
    (seen,), (blind,) = align(bag, seeing()), align(plain, robot())
    assert np.array_equal(seen.mask[:, :2], blind.mask)
    for name in ("observation", "action", "reward", "target"):
        assert np.array_equal(getattr(seen, name), getattr(blind, name))


def test_delays_are_measured_from_stamp_to_arrival(bag):
    (episode,), report = align_with_report(bag, seeing())
    assert episode.delays[0] == pytest.approx([0.08] * 12)
    assert report.streams["eye"].delay_ms_p50 == pytest.approx(80.0)
    assert report.masked["eye"] == pytest.approx(1 - 12 / 31)


def test_images_that_overtook_one_another_are_put_in_order(bag, tmp_path):
    late = images(STAMPS[:1], delay=200 * MS) + images(STAMPS[1:])
    path = record(tmp_path / "late", merged(drive(0.6), late), seeing())
    (episode,), report = align_with_report(path, seeing())
    assert np.array_equal(episode.images[0], align(bag, seeing())[0].images[0])
    assert report.streams["eye"].left_out == {"out of order": 1}
    assert episode.delays[0][0] == pytest.approx(0.2)


def test_images_do_not_hinder_reading_the_numbers_alone(bag):
    assert set(measurements(open_bag(bag), seeing())) == {"position", "velocity"}


def test_a_whole_multiple_is_shrunk_and_another_shape_refused_with_both(tmp_path):
    large = record(tmp_path / "large", merged(drive(0.6), images(STAMPS, shape=(16, 18, 3))), seeing())
    series = read_images(open_bag(large), seeing().images[0])
    assert series.pixels.shape == (12, *SHAPE)
    odd = record(tmp_path / "odd", merged(drive(0.6), images(STAMPS, shape=(8, 10, 3))), seeing())
    with pytest.raises(BagError, match="image_raw: message 0: an image of 8x10x3 is neither 8x9x3"):
        align(odd, seeing())


def test_a_bag_without_the_images_is_refused_naming_what_is_there(tmp_path):
    path = record(tmp_path / "bag", drive(0.6), robot())
    with pytest.raises(BagError, match="no topic /camera/image_raw; there are /"):
        align(path, seeing(), Options(any_contract=True))


def test_a_topic_of_another_type_is_refused(tmp_path):
    path = record(tmp_path / "bag", drive(0.6), robot())
    item = robot(images=[EYE | {"topic": "event"}]).images[0]
    with pytest.raises(BagError, match="carries std_msgs/msg/Header; sensor_msgs/msg/Image is needed"):
        read_images(open_bag(path), item)


def test_an_episode_in_which_the_camera_was_silent_is_left_out(tmp_path):
    far = images([STAMPS[0] + 5_000 * MS])
    path = record(tmp_path / "bag", merged(drive(0.6), far), seeing())
    with pytest.raises(BagError, match="1 without eye"):
        align(path, seeing())


def test_a_mono_image_survives_its_bag(tmp_path):
    shape = (8, 9, 1)
    contract = robot(images=[EYE | {"shape": list(shape)}])
    path = record(tmp_path / "bag", merged(drive(0.6), images(STAMPS, shape=shape)), contract)
    (episode,) = align(path, contract)
    assert np.array_equal(episode.images[0][0], picture(STAMPS[0], shape))
