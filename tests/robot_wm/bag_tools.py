"""A small robot and its recordings, for tests that need a bag."""

import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from robot_wm.bags.types import JOINT_STATE
from robot_wm.bags.writer import BagWriter
from robot_wm.contract import parse_contract
from robot_wm.messages import Applied, Event, JointState, Measurement
from robot_wm.timebase import NS_PER_S, VirtualClock

MS = 1_000_000
START = 1_700_000_000 * NS_PER_S
JOINTS = ("shoulder", "elbow")
ROWS = [(START + i * 2 * MS, [0.5 * i, -0.25 * i]) for i in range(50)]


def robot_data(**changes):
    """A two-joint arm, its contract as plain data: 50 Hz model, recorded at any rate."""
    data = {
        "name": "arm",
        "model_hz": 50.0,
        "observations": [
            {"name": "position", "topic": "joint_states", "field": "position", "names": list(JOINTS)},
            {"name": "velocity", "topic": "joint_states", "field": "velocity", "names": list(JOINTS)},
        ],
        "action": {"names": ["elbow", "shoulder"], "mode": "effort", "low": [-2.0, -4.0], "high": [2.0, 4.0]},
    }
    return data | changes


def robot(**changes):
    return parse_contract(robot_data(**changes))


def joint_state(stamp, position, names=JOINTS):
    position = np.asarray(position, float)
    return JointState(stamp, names, position, 10.0 * position, np.zeros(0))


def record(path, messages, contract=None, **options):
    """Write (topic, message) pairs or (topic, message, receive stamp) triples into a new bag."""
    with BagWriter(path, contract, clock=VirtualClock(), sync=False, **options) as writer:
        for item in messages:
            writer.write(*item)
    return path


def drive(seconds, rate=100.0, reward_hz=50.0, start=START, seed=0, marks=("start", "end")):
    """A recording of the arm as (topic, message): joint states, commands, rewards, and the marks of one episode."""
    rng = np.random.default_rng(seed)
    ticks = round(seconds * rate)
    items = []
    for i in range(ticks + 1):
        stamp = start + round(i * NS_PER_S / rate)
        time = i / rate
        items.append((stamp, 1, "joint_states", joint_state(stamp, [np.sin(time), np.cos(time)])))
        if i < ticks:
            items.append((stamp, 2, "applied", Applied(stamp, rng.uniform([-2.0, -4.0], [2.0, 4.0]), "plan:1")))
    for i in range(round(seconds * reward_hz)):
        stamp = start + round((i + 1) * NS_PER_S / reward_hz)
        items.append((stamp, 0, "reward", Measurement("reward", stamp, np.array([i / 100.0]))))
    if marks:
        end = start + round(seconds * NS_PER_S)
        items += [(start, -1, "event", Event(start, marks[0])), (end, 3, "event", Event(end, marks[1]))]
    return [(topic, message) for _, _, topic, message in sorted(items, key=lambda item: item[:2])]


def drives(lengths, marks=("start", "end"), pause=1.0, **options):
    """Several drives one after the other, with a pause [s] between them."""
    items, start = [], START
    for i, seconds in enumerate(lengths):
        items += drive(seconds, start=start, seed=i, marks=marks, **options)
        start += round((seconds + pause) * NS_PER_S)
    return items


def foreign(path, storage, rows=ROWS):
    """A rosbag2 as another program writes it."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    with Writer2(path, version=9, storage_plugin=storage) as writer:
        connection = writer.add_connection("/joint_states", JOINT_STATE, typestore=store)
        for stamp, values in rows:
            writer.write(connection, stamp, store.serialize_cdr(ros_state(store, stamp, values), JOINT_STATE))
    return path


def ros_state(store, stamp, values, **header):
    time = store.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return store.types[JOINT_STATE](
        header=store.types["std_msgs/msg/Header"](stamp=time, frame_id="", **header),
        name=list(JOINTS),
        position=np.array(values),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )


def ros1(path, rows=ROWS):
    store = get_typestore(Stores.ROS1_NOETIC)
    with Writer1(path) as writer:
        connection = writer.add_connection("/joint_states", JOINT_STATE, typestore=store)
        for i, (stamp, values) in enumerate(rows):
            message = ros_state(store, stamp, values, seq=i)
            writer.write(connection, stamp, store.serialize_ros1(message, JOINT_STATE))
    return path
