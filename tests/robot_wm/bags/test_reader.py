"""Every kind of bag gives the same numbers; what cannot be trusted is refused by name, or dropped and counted on request."""

import shutil

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from bag_tools import JOINTS, MS, ROWS, START, drive, foreign, joint_state, record, robot, ros1, ros_state
from robot_wm.bags.reader import open_bag
from robot_wm.bags.series import Policy
from robot_wm.bags.storage import find_bags
from robot_wm.bags.types import JOINT_STATE, typestore
from robot_wm.errors import BagError
from robot_wm.messages import Event, JointState, Latent


def by_hand(path, rows=ROWS, topic="joint_states"):
    return record(path, [(topic, joint_state(stamp, values)) for stamp, values in rows])


def positions(bag, joints=JOINTS, policy=None):
    return bag.read_joints("joint_states", "position", joints, policy)


@pytest.mark.parametrize("kind", ["ours", "bare mcap", "mcap", "sqlite", "ros1", "mcap without metadata"])
def test_every_kind_of_bag_gives_the_same_numbers(tmp_path, kind):
    path = tmp_path / "bag"
    if kind == "ours":
        by_hand(path)
    elif kind == "bare mcap":
        path = by_hand(path) / "bag_0.mcap"
    elif kind == "ros1":
        path = ros1(tmp_path / "drive.bag")
    else:
        foreign(path, StoragePlugin.SQLITE3 if kind == "sqlite" else StoragePlugin.MCAP)
    if kind == "mcap without metadata":
        (path / "metadata.yaml").unlink()
    bag = open_bag(path)
    series = positions(bag)
    assert np.array_equal(series.stamps, [stamp for stamp, _ in ROWS])
    assert np.array_equal(series.values, [values for _, values in ROWS])
    assert bag.topics["/joint_states"].count == 50
    assert (bag.start, bag.end) == (ROWS[0][0], ROWS[-1][0])


def test_joints_are_looked_up_by_name_whatever_their_order(tmp_path):
    flipped = [
        ("joint_states", joint_state(stamp, values[::-1], JOINTS[::-1]) if i % 2 else joint_state(stamp, values))
        for i, (stamp, values) in enumerate(ROWS)
    ]
    mixed, plain = open_bag(record(tmp_path / "mixed", flipped)), open_bag(by_hand(tmp_path / "plain"))
    assert np.array_equal(positions(mixed).values, positions(plain).values)
    assert np.array_equal(positions(mixed, ("elbow",)).values[:, 0], positions(plain).values[:, 1])
    assert set(mixed.joints("joint_states")) == set(JOINTS)


def test_messages_of_another_publisher_on_the_same_topic_are_passed_over_and_counted(tmp_path):
    items = []
    for stamp, values in ROWS:
        items.append(("joint_states", joint_state(stamp, values)))
        items.append(("joint_states", joint_state(stamp + MS, [1.0], ("gripper",))))
    series = positions(open_bag(record(tmp_path / "bag", items)))
    assert len(series) == 50
    assert series.report == {"without these joints": 50}


def test_a_missing_topic_lists_those_that_are_there(tmp_path):
    with pytest.raises(BagError, match=r"no topic /odom; there are /joint_states \(sensor_msgs/msg/JointState\)"):
        open_bag(by_hand(tmp_path / "bag")).topic("odom")


def test_a_missing_joint_lists_those_that_are_there(tmp_path):
    with pytest.raises(BagError, match="/joint_states: no joint wrist; there are shoulder, elbow"):
        positions(open_bag(by_hand(tmp_path / "bag")), ("shoulder", "wrist"))


def test_a_missing_field_names_those_that_are_there(tmp_path):
    with pytest.raises(BagError, match="no effort; they have position, velocity"):
        open_bag(by_hand(tmp_path / "bag")).read_joints("joint_states", "effort", JOINTS)


def test_a_topic_of_another_type_is_refused(tmp_path):
    bag = open_bag(by_hand(tmp_path / "bag"))
    with pytest.raises(BagError, match="carries sensor_msgs/msg/JointState; sensor_msgs/msg/Image is needed"):
        bag.read_tensor("joint_states", slice(0, 1), ["x"])
    with pytest.raises(BagError, match="JointTrajectory is needed"):
        bag.plans(robot(), "joint_states")


def test_a_tensor_that_is_too_short_is_refused(tmp_path):
    bag = open_bag(record(tmp_path / "bag", [("latent", Latent(START, np.zeros(3), "abc"))]))
    with pytest.raises(BagError, match="4 components are needed, there are 3"):
        bag.read_tensor("latent", slice(2, 4), ["a", "b"])


def with_nan(path):
    rows = [(stamp, list(values)) for stamp, values in ROWS]
    rows[7][1][1] = float("nan")
    return open_bag(by_hand(path, rows))


def test_a_nan_is_refused_with_topic_message_joint_and_stamp(tmp_path):
    match = r"/joint_states: message 7, stamp 1700000000\.014000000 s: position of elbow is nan; drop .* --drop-nan"
    with pytest.raises(BagError, match=match):
        positions(with_nan(tmp_path / "bag"))


def test_a_nan_is_dropped_and_counted_on_request(tmp_path):
    series = positions(with_nan(tmp_path / "bag"), policy=Policy(nan="drop"))
    assert len(series) == 49
    assert series.report == {"not finite": 1}
    assert 7 not in series.rows


def test_a_joint_that_nobody_asked_for_may_be_nan(tmp_path):
    assert len(positions(with_nan(tmp_path / "bag"), ("shoulder",))) == 50


def backwards(path):
    rows = list(ROWS)
    rows[20], rows[21] = rows[21], rows[20]
    items = [("joint_states", joint_state(stamp, values), START + i * 2 * MS) for i, (stamp, values) in enumerate(rows)]
    return open_bag(record(path, items))


def test_stamps_that_go_backwards_are_refused_with_topic_and_message(tmp_path):
    with pytest.raises(BagError, match=r"/joint_states: stamps go backwards at message 21: .*040000000 s after .*042"):
        positions(backwards(tmp_path / "bag"))


def test_stamps_that_go_backwards_are_sorted_and_counted_on_request(tmp_path):
    series = positions(backwards(tmp_path / "bag"), policy=Policy(backwards="sort"))
    assert series.report == {"out of order": 1}
    assert np.array_equal(series.values, [values for _, values in ROWS])


def test_of_messages_with_one_stamp_the_last_counts(tmp_path):
    rows = [(START, [0.0, 0.0]), (START, [1.0, 1.0]), (START + MS, [2.0, 2.0])]
    series = positions(open_bag(by_hand(tmp_path / "bag", rows)))
    assert series.values[:, 0].tolist() == [1.0, 2.0]
    assert series.report == {"same stamp": 1}


def test_a_driver_that_never_stamps_is_read_by_arrival(tmp_path):
    items = [("joint_states", joint_state(0, values), stamp) for stamp, values in ROWS]
    series = positions(open_bag(record(tmp_path / "bag", items)))
    assert np.array_equal(series.stamps, [stamp for stamp, _ in ROWS])
    assert series.report == {"stamped on arrival": 50}


def test_a_namespaced_robot_is_found_when_there_is_only_one(tmp_path):
    bag = open_bag(by_hand(tmp_path / "one", topic="/left/joint_states"))
    assert bag.topic("joint_states").name == "/left/joint_states"
    both = [(topic, joint_state(START, [0, 0])) for topic in ("/left/joint_states", "/right/joint_states")]
    with pytest.raises(BagError, match="no topic /joint_states"):
        open_bag(record(tmp_path / "two", both)).topic("joint_states")


def test_many_blocks_are_joined_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("robot_wm.bags.reader.BLOCK", 7)
    assert np.array_equal(positions(open_bag(by_hand(tmp_path / "bag"))).values, [values for _, values in ROWS])


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_bag_names_the_command_that_salvages_it(tmp_path, keep):
    path = record(tmp_path / "bag", drive(2.0), robot())
    file = path / "bag_0.mcap"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(BagError, match=r"bag_0.mcap is cut off: .*robot-wm bags salvage .*bag OUT"):
        open_bag(path)
    with pytest.raises(BagError, match="cut off"):
        open_bag(file)


def test_a_truncated_sqlite_or_ros1_bag_is_one_clear_sentence(tmp_path):
    sqlite = foreign(tmp_path / "bag", StoragePlugin.SQLITE3) / "bag.db3"
    old = ros1(tmp_path / "drive.bag")
    for file in (sqlite, old):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(BagError, match="cannot be read as a bag"):
            positions(open_bag(file))


def test_flipped_bytes_in_the_data_are_noticed(tmp_path):
    file = by_hand(tmp_path / "bag") / "bag_0.mcap"
    data = bytearray(file.read_bytes())
    data[len(data) // 4] ^= 0xFF
    file.write_bytes(data)
    with pytest.raises(BagError, match="cannot be read as a bag"):
        positions(open_bag(file))


def test_what_is_no_bag_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "fake.mcap").write_bytes(b"not an mcap file at all, but long enough")
    (tmp_path / "empty").mkdir()
    for name, match in (
        ("nothing", "there is no such bag"),
        ("notes.txt", "is no bag; a bag is a rosbag2 directory"),
        ("fake.mcap", "cut off"),
        ("empty", "holds no bag"),
    ):
        with pytest.raises(BagError, match=match):
            open_bag(tmp_path / name)


def test_a_missing_data_file_and_unreadable_metadata_are_named(tmp_path):
    first, second = by_hand(tmp_path / "first"), by_hand(tmp_path / "second")
    (first / "first_0.mcap").unlink()
    (second / "metadata.yaml").write_text("rosbag2_bagfile_information: [1, 2")
    with pytest.raises(BagError, match="names first_0.mcap, which is not there"):
        open_bag(first)
    with pytest.raises(BagError, match="metadata.yaml: cannot be read"):
        open_bag(second)


def test_a_recorder_killed_before_its_last_metadata_left_a_bag_that_reads(tmp_path):
    path = tmp_path / "bag"
    empty = record(tmp_path / "empty", [])
    by_hand(path)
    text = (empty / "metadata.yaml").read_text().replace("empty_0", "bag_0")
    (path / "metadata.yaml").write_text(text)
    assert len(positions(open_bag(path))) == 50


def test_an_empty_bag_opens_and_has_nothing(tmp_path):
    bag = open_bag(record(tmp_path / "bag", []))
    assert (bag.topics, bag.seconds, bag.events()) == ({}, 0.0, [])
    with pytest.raises(BagError, match="there are none"):
        bag.topic("joint_states")


def test_events_are_read_by_stamp_and_a_foreign_event_topic_is_left_alone(tmp_path):
    marks = [Event(START + MS, "end", "done: well"), Event(START, "start")]
    bag = open_bag(record(tmp_path / "bag", [("event", mark) for mark in marks]))
    assert bag.events() == marks[::-1]
    assert open_bag(by_hand(tmp_path / "other", topic="event")).events() == []


def test_the_hash_follows_the_content_not_the_name(tmp_path):
    path = by_hand(tmp_path / "bag")
    copy = shutil.copytree(path, tmp_path / "copy")
    other = by_hand(tmp_path / "other", ROWS[:-1])
    assert open_bag(path).hash == open_bag(copy).hash != open_bag(other).hash


def test_bags_are_found_below_a_folder(tmp_path):
    names = ["b/two", "a", "b/one"]
    for name in names:
        by_hand(tmp_path / name)
    ros1(tmp_path / "b/old.bag")
    assert find_bags(tmp_path) == [tmp_path / name for name in ("a", "b/old.bag", "b/one", "b/two")]
    assert find_bags(tmp_path / "a") == [tmp_path / "a"]
    (tmp_path / "c").mkdir()
    with pytest.raises(BagError, match="no bag here or below"):
        find_bags(tmp_path / "c")


def test_a_message_that_does_not_fit_its_type_is_named(tmp_path):
    from robot_wm.bags.writer import BagWriter
    from robot_wm.timebase import VirtualClock

    store = typestore()
    good = bytes(store.serialize_cdr(ros_state(store, START, [0.0, 1.0]), JOINT_STATE))
    short = ros_state(store, START, [0.0])
    for i, (bad, match) in enumerate(
        (
            (good[:-20], "message 1 ends after"),
            (bytes(store.serialize_cdr(short, JOINT_STATE)), "has 1 entries of position for 2 joints"),
        )
    ):
        with BagWriter(tmp_path / f"bag{i}", clock=VirtualClock()) as writer:
            writer.write_raw("joint_states", JOINT_STATE, good, START)
            writer.write_raw("joint_states", JOINT_STATE, bad, START)
        with pytest.raises(BagError, match=match):
            positions(open_bag(tmp_path / f"bag{i}"))


def test_frame_ids_keep_the_order_of_the_bag(tmp_path):
    texts = ["a", "abcdef", "b", "", "zz"]
    items = [("latent", Latent(START + i, np.zeros(2), text)) for i, text in enumerate(texts)]
    assert open_bag(record(tmp_path / "bag", items)).frame_ids("latent") == texts


def test_a_field_may_be_empty_in_some_messages(tmp_path):
    empty = JointState(START + 99 * MS, JOINTS, np.zeros(0), np.ones(2), np.zeros(0))
    items = [("joint_states", joint_state(START, [1.0, 2.0])), ("joint_states", empty)]
    series = positions(open_bag(record(tmp_path / "bag", items)))
    assert series.values.tolist() == [[1.0, 2.0]]
    assert series.report == {"without these joints": 1}
