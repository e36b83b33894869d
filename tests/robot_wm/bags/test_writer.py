"""The recorder loses little when it is killed, nothing of what was written when the disk is full, and writes what others read."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader

from bag_tools import JOINTS, MS, START, drive, joint_state, record, robot
from robot_wm.bags.reader import open_bag
from robot_wm.bags.salvage import salvage
from robot_wm.bags.types import Info
from robot_wm.bags.writer import BagWriter
from robot_wm.errors import BagError
from robot_wm.info import CorrectionInfo, PlanInfo
from robot_wm.messages import Applied, Event, Latent, Measurement, Plan
from robot_wm.timebase import NS_PER_S, RosOffset, VirtualClock

ROOT = Path(__file__).resolve().parents[3]
PLAN_INFO = PlanInfo(
    7, "abc", "mppi", 3, 64, 1.5, 0.25, 0.125, 0.01, 0.02, 1, 0.005, (0.5, 0.1 + 0.2), ((1.0, -1.0),), 0, False
)
CORRECTION = CorrectionInfo("abc", 0.125, 2, 0.01, 0.001, {"used": 3})


def messages_of(path):
    """Every message as `rosbags`, which knows nothing of us, reads it."""
    with AnyReader([path]) as reader:
        return [(c.topic, stamp, reader.deserialize(data, c.msgtype)) for c, stamp, data in reader.messages()]


def test_every_kind_of_message_is_read_by_an_independent_reader(tmp_path):
    plan = Plan(7, START, 20 * MS, np.array([[0.5, 1.0], [0.25, -1.0]]), "abc")
    path = record(
        tmp_path / "bag",
        [
            ("event", Event(START, "start", "by hand: run 3")),
            ("joint_states", joint_state(START, [0.1, 0.2])),
            ("applied", Applied(START, np.array([0.5, -0.5]), "plan:7")),
            ("latent", Latent(START, np.array([1.0, 2.0]), "abc")),
            ("reward", Measurement("reward", START, np.array([0.75]))),
            ("plan", plan),
            ("plan_info", Info(START, PLAN_INFO)),
            ("correction_info", Info(START, CORRECTION)),
        ],
        robot(),
    )
    found = {topic: message for topic, _, message in messages_of(path)}
    assert found["/event"].frame_id == "start: by hand: run 3"
    assert found["/joint_states"].name == list(JOINTS)
    assert found["/joint_states"].velocity.tolist() == [1.0, 2.0]
    assert found["/applied"].name == ["elbow", "shoulder"]
    assert found["/applied"].effort.tolist() == [0.5, -0.5]
    assert found["/applied"].header.frame_id == "plan:7"
    assert len(found["/applied"].position) == 0
    assert (found["/latent"].encoding, found["/latent"].height, found["/latent"].width) == ("32FC1", 1, 2)
    assert found["/latent"].data.view("<f4").tolist() == [1.0, 2.0]
    assert found["/plan"].points[1].effort.tolist() == [0.25, -1.0]
    assert found["/plan"].points[1].time_from_start.nanosec == 20 * MS
    assert found["/plan_info"].status[0].values[0].key == "index"


def test_what_was_written_comes_back_equal(tmp_path):
    contract = robot()
    plan = Plan(7, START, 20 * MS, np.array([[0.5, 1.0], [0.25, -1.0]]), "abc")
    items = [("plan", plan), ("plan_info", Info(START, PLAN_INFO)), ("correction_info", Info(START + 1, CORRECTION))]
    bag = open_bag(record(tmp_path / "bag", [*items, ("event", Event(START, "failure", "fell"))], contract))
    [(_, back)] = bag.plans(contract)
    assert (back.index, back.start, back.step, back.bundle_id) == (7, START, 20 * MS, "abc")
    assert np.array_equal(back.actions, plan.actions)
    assert bag.infos("plan_info", PlanInfo) == [(START, PLAN_INFO)]
    assert bag.infos("correction_info", CorrectionInfo) == [(START + 1, CORRECTION)]
    assert bag.events() == [Event(START, "failure", "fell")]
    assert bag.contract == contract


def test_a_command_that_no_motor_followed_says_so(tmp_path):
    contract = robot()
    items = [("applied", Applied(START + i, np.zeros(2), "disarmed", driven=i > 0)) for i in range(2)]
    assert open_bag(record(tmp_path / "bag", items, contract)).frame_ids("applied") == ["disarmed:off", "disarmed"]


def test_stamps_become_ros_time_and_arrival_is_kept_apart(tmp_path):
    with BagWriter(tmp_path / "bag", clock=VirtualClock(), offset=RosOffset(START)) as writer:
        writer.write("joint_states", joint_state(5 * MS, [0.0, 0.0]), receive_stamp=8 * MS)
    series = open_bag(tmp_path / "bag").read_joints("joint_states", "position", JOINTS)
    assert series.stamps.tolist() == [START + 5 * MS]
    assert series.receive.tolist() == [START + 8 * MS]


def test_metadata_is_that_of_jazzy_before_and_after(tmp_path):
    with BagWriter(tmp_path / "bag", robot(), {"operator": "Ada"}, VirtualClock()) as writer:
        before = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
        for topic, message in drive(1.0):
            writer.write(topic, message)
    after = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert before["version"] == after["version"] == 9
    assert before["custom_data"] == after["custom_data"]
    assert after["custom_data"]["operator"] == "Ada"
    assert after["custom_data"]["contract_hash"] == robot().hash
    assert after["message_count"] == 101 + 100 + 50 + 2
    assert after["duration"]["nanoseconds"] == NS_PER_S
    assert {t["topic_metadata"]["name"] for t in after["topics_with_message_count"]} == {
        "/joint_states",
        "/applied",
        "/reward",
        "/event",
    }
    assert after["topics_with_message_count"][0]["topic_metadata"]["type_description_hash"].startswith("RIHS01_")


def test_raw_bytes_of_a_foreign_type_are_kept_with_their_definition(tmp_path):
    with BagWriter(tmp_path / "bag", clock=VirtualClock()) as writer:
        data = b"\x00\x01\x00\x00" + (7).to_bytes(4, "little")
        writer.write_raw("battery", "my_robot/msg/Battery", data, START, definition="uint32 cells\n")
    [(topic, stamp, message)] = messages_of(tmp_path / "bag")
    assert (topic, stamp, message.cells) == ("/battery", START, 7)


def test_a_bag_is_never_written_over(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(BagError, match="exists already"):
        BagWriter(tmp_path / "bag")


def test_a_topic_keeps_its_type(tmp_path):
    with BagWriter(tmp_path / "bag", clock=VirtualClock()) as writer:
        writer.write("event", Event(START, "start"))
        with pytest.raises(BagError, match="/event carries std_msgs/msg/Header"):
            writer.write("event", joint_state(START, [0.0, 0.0]))


def test_an_action_needs_the_contract_that_names_its_joints(tmp_path):
    with BagWriter(tmp_path / "bag", clock=VirtualClock()) as writer:
        with pytest.raises(BagError, match="given the contract"):
            writer.write("applied", Applied(START, np.zeros(2), "hold"))
        with pytest.raises(BagError, match="dict cannot be written"):
            writer.write("applied", {})


def test_writing_after_close_is_refused_and_closing_twice_is_harmless(tmp_path):
    writer = BagWriter(tmp_path / "bag", clock=VirtualClock())
    writer.close()
    writer.close()
    with pytest.raises(BagError, match="is closed"):
        writer.write("event", Event(START, "start"))


def test_data_reaches_the_file_when_it_is_due_even_if_topics_fall_silent(tmp_path):
    clock = VirtualClock()
    writer = BagWriter(tmp_path / "bag", clock=clock)
    file = tmp_path / "bag/bag_0.mcap"
    writer.write("event", Event(START, "start"))
    before = file.stat().st_size
    clock.advance(249 * MS)
    writer.poll()
    assert file.stat().st_size == before
    clock.advance(1 * MS)
    writer.poll()
    assert file.stat().st_size > before
    writer.close()


RECORDER = """
import sys, time
from bag_tools import joint_state
from robot_wm.bags.writer import BagWriter
from robot_wm.timebase import MonotonicClock
clock = MonotonicClock()
writer = BagWriter(sys.argv[1])
begin = clock.now()
for i in range(1_000_000):
    clock.sleep_until(begin + i * 2_000_000)
    writer.write("joint_states", joint_state(time.time_ns(), [i, i]))
    sys.stdout.write(f"{i}\\n")
    sys.stdout.flush()
"""


def test_kill_9_at_500_messages_a_second_loses_at_most_half_a_second(tmp_path):
    path = tmp_path / "bag"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests/robot_wm'}", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", RECORDER, str(path)], stdout=subprocess.PIPE, env=environment, text=True
    )
    written = 0
    for line in child.stdout:
        written = int(line) + 1
        if written >= 700:
            break
    child.send_signal(signal.SIGKILL)
    written += sum(1 for _ in child.stdout)
    child.wait()
    with pytest.raises(BagError, match="robot-wm bags salvage"):
        open_bag(path)
    saved = salvage(path, tmp_path / "saved")
    lost = written - saved.topics["/joint_states"]
    assert lost <= 250
    positions = open_bag(tmp_path / "saved").read_joints("joint_states", "position", ["shoulder"]).values[:, 0]
    assert np.array_equal(positions, np.arange(saved.messages))
    assert len(messages_of(tmp_path / "saved")) == saved.messages


def fill(writer, rng, limit=20000):
    """Write what does not compress until the disk is full; return how many were accepted."""
    for i in range(limit):
        try:
            writer.write("latent", Latent(START + i * MS, rng.standard_normal(64), "abc"))
        except BagError as error:
            return i, error
    raise AssertionError("the disk never filled up")


def check_kept(path, accepted):
    bag = open_bag(path)
    series = bag.read_tensor("latent", slice(0, 64), [str(i) for i in range(64)])
    assert 0 < len(series) <= accepted
    expected = np.random.default_rng(1).standard_normal((len(series), 64))
    assert np.array_equal(series.values, expected.astype(np.float32))
    assert len(messages_of(path)) == len(series)
    return len(series)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 KiB; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_once_and_costs_nothing_that_was_written(small_disk):
    clock = VirtualClock()
    writer = BagWriter(small_disk / "bag", robot(), clock=clock, flush_s=0.0)
    accepted, error = fill(writer, np.random.default_rng(1))
    assert "No space left on device" in str(error)
    assert str(small_disk / "bag") in str(error)
    with pytest.raises(BagError, match="recording stopped"):
        writer.write("event", Event(START, "end"))
    writer.close()
    kept = check_kept(small_disk / "bag", accepted)
    assert accepted - kept < 300  # at most a chunk given up for the file's ending
    assert f"{kept} messages are kept" in str(error)
    assert open_bag(small_disk / "bag").contract == robot()


def test_a_disk_without_room_for_a_bag_is_told_at_once(small_disk):
    (small_disk / "ballast").write_bytes(bytes(200 * 1024 - 8192))
    with pytest.raises(BagError, match="a bag cannot be made here: No space left"):
        BagWriter(small_disk / "bag", robot(), {"text": "x" * 20000})


def test_a_file_that_may_not_grow_ends_readable(tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = BagWriter(tmp_path / "bag", clock=VirtualClock(), flush_s=0.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        accepted, error = fill(writer, np.random.default_rng(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert "File too large" in str(error)
    check_kept(tmp_path / "bag", accepted)


def test_a_disk_that_fills_up_at_the_very_end_is_told_by_close(tmp_path):
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    rng = np.random.default_rng(1)
    writer = BagWriter(tmp_path / "bag", clock=VirtualClock(), flush_s=0.0)
    for i in range(50):
        writer.write("latent", Latent(START + i * MS, rng.standard_normal(64), "abc"))
    size = (tmp_path / "bag/bag_0.mcap").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, old[1]))
    try:
        with pytest.raises(BagError, match="recording stopped"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert check_kept(tmp_path / "bag", 50) >= 49
