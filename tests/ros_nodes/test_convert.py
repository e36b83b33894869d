"""ROS messages and dataclasses: round trips as properties, and everything that is refused."""

from __future__ import annotations

import array
import math

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rclpy.serialization import deserialize_message, serialize_message

from robot_wm.contract import Contract, parse_contract
from robot_wm.errors import MessageError
from robot_wm.info import CorrectionInfo, PlanInfo
from robot_wm.messages import Applied, Command, Event, JointState, Latent, Plan
from robot_wm.timebase import NS_PER_S, Grid, RosOffset
from ros_nodes import convert

OFFSET = RosOffset(1_700_000_000 * NS_PER_S + 123)
FINITE = st.floats(-1e6, 1e6)
STAMPS = st.integers(1, 10**15)


def contract(mode: str = "effort", model_hz: float = 50.0) -> Contract:
    return parse_contract(
        {
            "name": "two",
            "model_hz": model_hz,
            "observations": [
                {"name": "angle", "topic": "joint_states", "field": "position", "names": ["b", "a"]},
                {"name": "touch", "topic": "task_observation", "field": "data", "names": ["left", "right"]},
                {"name": "target", "topic": "task_observation", "field": "data", "names": ["x"]},
            ],
            "action": {"names": ["a", "b"], "mode": mode, "low": -2.0, "high": 2.0},
        }
    )


def wire(message: object) -> object:
    """Through the middleware's own serialisation, as between two processes."""
    return deserialize_message(serialize_message(message), type(message))


def vector(size: int) -> st.SearchStrategy:
    return hnp.arrays(np.float64, size, elements=FINITE)


@given(STAMPS, vector(3), vector(3), st.booleans())
def test_a_joint_state_survives_the_wire_exactly(stamp, position, velocity, with_velocity):
    velocity = velocity if with_velocity else np.zeros(0)
    state = JointState(stamp, ("c", "a", "b"), position, velocity, np.zeros(0))
    back = convert.joint_state_from_msg(wire(convert.joint_state_to_msg(state, OFFSET)), OFFSET, "joint_states")
    assert (back.stamp, back.names) == (stamp, state.names)
    for name in ("position", "velocity", "effort"):
        assert np.array_equal(getattr(back, name), getattr(state, name))


@given(STAMPS, hnp.arrays(np.float32, st.integers(1, 64), elements=st.floats(-1e6, 1e6, width=32)))
def test_a_tensor_survives_the_wire_exactly(stamp, values):
    msg = wire(convert.tensor_to_msg(stamp, values, "bundle", OFFSET))
    assert isinstance(msg.data, array.array)
    back_stamp, back, frame_id = convert.tensor_from_msg(msg, OFFSET, "latent")
    assert (back_stamp, frame_id) == (stamp, "bundle")
    assert np.array_equal(back, values)


@given(st.integers(0, 10**9), st.integers(-400, 400))
def test_a_latent_returns_to_its_grid_instant_when_two_processes_measured_different_offsets(k, error_ns):
    grid = Grid(50.0)
    latent = Latent(grid.stamp(k), np.ones(4, np.float32), "abc")
    msg = wire(convert.latent_to_msg(latent, OFFSET))
    assert convert.latent_from_msg(msg, RosOffset(OFFSET.offset + error_ns), "latent", grid).stamp == latent.stamp


@given(STAMPS, vector(2), st.sampled_from(["plan:7", "hold", "damp"]), st.booleans())
@pytest.mark.parametrize("mode", ["position", "velocity", "effort"])
def test_applied_survives_the_wire_with_source_and_power(mode, stamp, values, source, driven):
    sent = Applied(stamp, values, source, driven)
    back = convert.applied_from_msg(
        wire(convert.applied_to_msg(sent, contract(mode), OFFSET)), contract(mode), OFFSET, "applied"
    )
    assert (back.stamp, back.source, back.driven) == (stamp, source, driven)
    assert np.array_equal(back.values, values)


@given(st.integers(0, 10**6), st.integers(1, 10**8), st.sampled_from([25.0, 30.0, 50.0]), st.data())
def test_a_plan_survives_the_wire_exactly(index, k, model_hz, data):
    agreed, grid = contract(model_hz=model_hz), Grid(model_hz)
    actions = data.draw(hnp.arrays(np.float64, (data.draw(st.integers(1, 8)), 2), elements=FINITE))
    plan = Plan(index, grid.stamp(k), grid.step, actions, "0123456789ab")
    back = convert.plan_from_msg(wire(convert.plan_to_msg(plan, agreed, OFFSET)), agreed, OFFSET, "plan")
    assert (back.index, back.start, back.step, back.bundle_id) == (index, plan.start, plan.step, plan.bundle_id)
    assert np.array_equal(back.actions, actions)


def test_commands_events_and_infos_survive_the_wire():
    command = Command(5 * NS_PER_S, np.array([0.25, -1.5]))
    back = convert.command_from_msg(
        wire(convert.command_to_msg(command, contract(), OFFSET)), contract(), OFFSET, "command"
    )
    assert (back.stamp, back.values.tolist()) == (command.stamp, [0.25, -1.5])
    for event in (Event(5, "start"), Event(7, "mark", "pole: was touched")):
        assert convert.event_from_msg(wire(convert.event_to_msg(event, OFFSET)), OFFSET, "event") == event
    info = PlanInfo(
        3, "b", "mppi", 4, 64, 0.1, 1 / 3, 2 / 3, 0.012, 0.02, 1, 0.004, (0.5, 1.0), ((0.1, 0.2),), 9, False
    )
    msg = wire(convert.info_to_msg(info, 11, "planner_node", OFFSET))
    assert convert.info_from_msg(PlanInfo, msg, OFFSET, "plan_info") == (11, info)
    with pytest.raises(MessageError, match="no key 'innovation'"):
        convert.info_from_msg(CorrectionInfo, msg, OFFSET, "plan_info")


def joints(**change):
    state = JointState(NS_PER_S, ("a", "b"), np.array([1.0, 2.0]), np.zeros(0), np.zeros(0))
    msg = convert.joint_state_to_msg(state, OFFSET)
    for name, value in change.items():
        setattr(msg, name, value)
    return msg


def read(msg):
    state = convert.joint_state_from_msg(msg, OFFSET, "joint_states")
    return convert.measurements_from_joints(state, contract(), "joint_states")


def test_joints_are_looked_up_by_name_whatever_their_order():
    (measured,) = read(joints())
    assert measured.name == "angle"
    assert measured.values.tolist() == [2.0, 1.0]
    (swapped,) = read(joints(name=["b", "a"]))
    assert swapped.values.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": ["a", "c"]}, "no joint b; there are a, c"),
        ({"name": ["a", "a"]}, "named twice in a, a"),
        ({"position": array.array("d", [1.0])}, "position has 1 entries for 2 joints"),
        ({"position": array.array("d", [1.0, math.nan])}, "position of b is not finite"),
        ({"velocity": array.array("d", [math.inf, 0.0])}, "velocity of a is not finite"),
        ({"position": array.array("d")}, "position is empty"),
        ({"header": type(joints().header)()}, "has no stamp"),
    ],
)
def test_an_unusable_joint_state_is_refused_with_the_reason(change, says):
    with pytest.raises(MessageError, match=says):
        read(joints(**change))


def test_a_tensor_is_split_in_contract_order_and_refused_when_it_does_not_fit():
    left, target = convert.measurements_from_tensor(5, np.array([1.0, 2.0, 3.0]), contract(), "task_observation")
    assert (left.name, left.values.tolist(), target.name, target.values.tolist()) == (
        "touch",
        [1.0, 2.0],
        "target",
        [3.0],
    )
    with pytest.raises(MessageError, match=r"3 numbers are needed \(touch, target\), got 2"):
        convert.measurements_from_tensor(5, np.array([1.0, 2.0]), contract(), "task_observation")
    msg = convert.tensor_to_msg(5, np.array([1.0, math.nan]), "", OFFSET)
    with pytest.raises(MessageError, match="component 1 is not finite"):
        convert.tensor_from_msg(msg, OFFSET, "latent")
    for name, value, says in (("encoding", "mono8", "32FC1"), ("height", 2, "height 1"), ("width", 3, "do not make 3")):
        msg = convert.tensor_to_msg(5, np.ones(2), "", OFFSET)
        setattr(msg, name, value)
        with pytest.raises(MessageError, match=says):
            convert.tensor_from_msg(msg, OFFSET, "latent")
    with pytest.raises(MessageError, match="4 numbers are needed, got 2"):
        convert.tensor_from_msg(convert.tensor_to_msg(5, np.ones(2), "", OFFSET), OFFSET, "latent", size=4)


def plan_msg():
    return convert.plan_to_msg(Plan(1, 20_000_000, 20_000_000, np.ones((2, 2)), "id"), contract(), OFFSET)


def test_an_unusable_plan_is_refused_with_the_reason():
    def refused(says, change):
        msg = plan_msg()
        change(msg)
        with pytest.raises(MessageError, match=says):
            convert.plan_from_msg(msg, contract(), OFFSET, "plan")

    refused("no points", lambda m: setattr(m, "points", []))
    refused("no joint a; there are c, b", lambda m: setattr(m, "joint_names", ["c", "b"]))
    refused("must give effort", lambda m: setattr(m.points[1], "positions", array.array("d", [0.0, 0.0])))
    refused("point 1 has 1 effort", lambda m: setattr(m.points[1], "effort", array.array("d", [0.0])))
    refused("point 0 of a is not finite", lambda m: setattr(m.points[0], "effort", array.array("d", [math.nan, 0.0])))
    refused("the model's step", lambda m: setattr(m.points[1].time_from_start, "nanosec", 30_000_000))
    refused("must read plan:", lambda m: setattr(m.header, "frame_id", "odom"))


def test_a_plan_with_swapped_joints_keeps_each_value_with_its_joint():
    msg = plan_msg()
    msg.joint_names = ["b", "a"]
    msg.points[0].effort = array.array("d", [5.0, 6.0])
    assert convert.plan_from_msg(msg, contract(), OFFSET, "plan").actions[0].tolist() == [6.0, 5.0]


def test_stamps_may_not_go_backwards_or_come_from_the_future():
    guard = convert.StampGuard("joint_states")
    guard.check(10 * NS_PER_S, 10 * NS_PER_S)
    guard.check(10 * NS_PER_S, 10 * NS_PER_S)
    with pytest.raises(MessageError, match="goes backwards by 1.000000 s"):
        guard.check(9 * NS_PER_S, 10 * NS_PER_S)
    with pytest.raises(MessageError, match=r"0\.500 s in the future"):
        guard.check(10 * NS_PER_S + NS_PER_S // 2, 10 * NS_PER_S)


def test_a_driver_that_was_restarted_with_older_stamps_is_believed_after_a_second():
    guard = convert.StampGuard("joint_states")
    guard.check(10 * NS_PER_S, 10 * NS_PER_S)
    with pytest.raises(MessageError):
        guard.check(2 * NS_PER_S, 10 * NS_PER_S)
    guard.check(3 * NS_PER_S, 11 * NS_PER_S)
    guard.check(4 * NS_PER_S, 12 * NS_PER_S)
