"""Whatever was whole in a broken bag is saved, and the saved bag reads everywhere."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2

from bag_tools import JOINTS, drive, record, robot
from robot_wm.bags.align import align
from robot_wm.bags.reader import open_bag
from robot_wm.bags.salvage import salvage
from robot_wm.bags.types import JOINT_STATE, encode, typestore
from robot_wm.errors import BagError
from robot_wm.messages import JointState
from robot_wm.timebase import RosOffset

SECONDS = 4.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bag in many chunks."""
    path = tmp_path_factory.mktemp("bags") / "bag"
    return record(path, drive(SECONDS), robot(), flush_s=0.0)


def cut(whole, folder, keep):
    """The bag as a recorder that was killed after `keep` bytes leaves it."""
    folder.mkdir(parents=True)
    data = (whole / "bag_0.mcap").read_bytes()
    (folder / "bag_0.mcap").write_bytes(data[:keep])
    (folder / "metadata.yaml").write_text((whole / "metadata.yaml").read_text())
    return folder


@given(st.floats(0.1, 1.0))
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_saved_of_a_cut_bag_is_its_beginning(whole, tmp_path_factory, fraction):
    folder = tmp_path_factory.mktemp("cut")
    size = (whole / "bag_0.mcap").stat().st_size
    saved = salvage(cut(whole, folder / "bag", int(fraction * size)), folder / "out")
    series = open_bag(folder / "out").read_joints("joint_states", "position", JOINTS)
    expected = open_bag(whole).read_joints("joint_states", "position", JOINTS)
    assert len(series) == saved.topics["/joint_states"] > 0
    assert np.array_equal(series.values, expected.values[: len(series)])
    assert np.array_equal(series.stamps, expected.stamps[: len(series)])


def test_a_whole_bag_is_copied_whole(whole, tmp_path):
    saved = salvage(whole, tmp_path / "out")
    assert (saved.damaged_chunks, saved.lost_bytes) == (0, 0)
    assert saved.topics == {"/event": 2, "/joint_states": 401, "/applied": 400, "/reward": 200}
    assert saved.messages == 1003
    assert saved.seconds == pytest.approx(SECONDS)
    assert [len(e) for e in align(tmp_path / "out", robot())] == [201]


def test_the_contract_and_where_it_came_from_are_kept(whole, tmp_path):
    folder = cut(whole, tmp_path / "bag", 60_000)
    for i, damage in enumerate(("none", "no metadata")):
        if damage == "no metadata":
            (folder / "metadata.yaml").unlink()
        salvage(folder, tmp_path / f"out{i}")
        bag = open_bag(tmp_path / f"out{i}")
        assert bag.contract == robot()
        assert bag.custom_data["salvaged_from"] == str(folder)


def test_a_damaged_chunk_costs_only_itself(whole, tmp_path):
    folder = cut(whole, tmp_path / "bag", (whole / "bag_0.mcap").stat().st_size)
    file = folder / "bag_0.mcap"
    data = bytearray(file.read_bytes())
    at = data.index(b"zstd", len(data) // 4) + 40
    data[at] ^= 0xFF
    file.write_bytes(data)
    saved = salvage(folder, tmp_path / "out")
    assert saved.damaged_chunks == 1
    assert 900 < saved.messages < 1003


@pytest.mark.parametrize("chunk", [100, 10_000_000])
def test_even_a_chunk_that_was_cut_in_two_gives_its_first_half(tmp_path, chunk):
    """Another recorder's bag: large chunks, all of it in one."""
    store = typestore()
    rng = np.random.default_rng(0)
    with Writer2(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/joint_states", JOINT_STATE, typestore=store)
        for i in range(2000):
            state = JointState(i + 1, JOINTS, rng.standard_normal(2), np.zeros(0), np.zeros(0))
            writer.write(connection, i + 1, encode(state, None, RosOffset(0))[1])
    file = tmp_path / "bag/bag.mcap"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    saved = salvage(tmp_path / "bag", tmp_path / "out")
    assert 200 < saved.messages < 1800
    with AnyReader([tmp_path / "out"]) as reader:
        assert sum(1 for _ in reader.messages()) == saved.messages


def test_what_cannot_be_salvaged_says_why(whole, tmp_path):
    with pytest.raises(BagError, match="there is no such bag"):
        salvage(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(BagError, match="only MCAP bags can be salvaged"):
        salvage(tmp_path / "old.bag", tmp_path / "out")
    with pytest.raises(BagError, match="exists already"):
        salvage(whole, whole)
    for keep in (0, 5, 30):
        with pytest.raises(BagError, match="no message in it can be read"):
            salvage(cut(whole, tmp_path / f"bag{keep}", keep), tmp_path / f"out{keep}")
