"""The bus of a robot behind ros2_control, over real DDS, against a controller and a joint state broadcaster played by the test."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

import rclpy
from rclpy.context import Context
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from robot_wm.contract import parse_contract
from robot_wm.errors import BusError
from robot_wm.timebase import MonotonicClock, RosOffset
from ros_nodes.convert import time_to_msg
from ros_nodes.ros2_control_bus import Ros2ControlBus
from ros_nodes.ros2_control_link import RosLink

pytestmark = pytest.mark.ros

JOINTS = ("shoulder", "elbow")


def arm(mode="effort"):
    observation = {"name": "position", "topic": "joint_states", "field": "position", "names": list(JOINTS)}
    action = {"names": list(JOINTS), "mode": mode, "low": [-9, -9], "high": [9, 9]}
    return parse_contract(
        {"name": "arm", "model_hz": 50, "motor_hz": 100, "observations": [observation], "action": action}
    )


class Robot:
    """A robot whose driver names the gripper first and the joints in another order than the contract."""

    def __init__(self, kind=Float64MultiArray, topic="/arm_controller/commands", node="driver"):
        self.link, self.got = RosLink(node), []
        self.states = self.link.advertise(JointStateMsg, "/joint_states")
        if topic:
            self.link.subscribe(kind, topic, self.got.append)
        self.link.node.create_timer(0.01, self.publish)
        self.names, self.position, self.effort = ["gripper", "elbow", "shoulder"], [0.5, 2.0, 1.0], [float("nan")] * 3
        self.behind_s, self.silent = 0.0, False

    def publish(self):
        if self.silent:
            return
        stamp = time_to_msg(MonotonicClock().now() - round(self.behind_s * 1e9), RosOffset.measure())
        msg = JointStateMsg(name=self.names, position=self.position, effort=self.effort)
        msg.velocity = [0.1, 0.2, 0.3]
        msg.header.stamp = stamp
        self.states.publish(msg)


@pytest.fixture
def robot(domain):
    """A function that starts a robot; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            made = Robot(**options)
            stack.callback(made.link.close)
            return made

        yield start


@pytest.fixture
def bus():
    """A function that opens the bus; it is closed with the test."""
    with contextlib.ExitStack() as stack:

        def opened(mode="effort", **options):
            made = Ros2ControlBus(arm(mode), "arm_controller", **{"open_timeout_s": 60.0, **options})
            stack.callback(made.close)
            made.open()
            return made

        yield opened


def until(condition, call=lambda: None):
    """Call again and again until the condition holds; a loaded machine takes its time."""
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        call()
        time.sleep(0.005)


def test_joints_come_by_name_with_the_drivers_stamp_and_commands_go_in_the_controllers_order(robot, bus):
    driver = robot()
    arm_ = bus(joints=["elbow", "shoulder"])
    joints = arm_.read()
    assert joints.names == JOINTS
    assert joints.position.tolist() == [1.0, 2.0] and joints.velocity.tolist() == [0.3, 0.2]
    assert joints.effort.size == 0  # the broadcaster's NaN: not measured
    assert 0 <= time.monotonic_ns() - joints.stamp < 10**9
    until(lambda: arm_.read().stamp > joints.stamp)
    arm_.enable()
    until(lambda: driver.got and list(driver.got[-1].data) == [0.0, 0.0])  # it asks for rest
    arm_.write(np.array([3.0, -4.0]))
    until(lambda: list(driver.got[-1].data) == [-4.0, 3.0])
    arm_.disable()
    until(lambda: list(driver.got[-1].data) == [0.0, 0.0])
    with pytest.raises(BusError, match="the bus is not enabled"):
        arm_.write(np.zeros(2))
    assert arm_.figures()["refused"] == 0 and arm_.figures()["listeners"] == 1 and arm_.fault() is None


def test_a_trajectory_controller_gets_one_point_due_after_a_period_and_rest_is_where_the_joints_stand(robot, bus):
    driver = robot(kind=JointTrajectory, topic="/arm_controller/joint_trajectory")
    arm_ = bus("position", kind="trajectory")
    arm_.enable()
    until(lambda: driver.got)
    (point,) = driver.got[0].points
    assert driver.got[0].joint_names == list(JOINTS) and driver.got[0].header.stamp.sec == 0
    assert list(point.positions) == [1.0, 2.0] and point.time_from_start.nanosec == 10_000_000
    arm_.disable()
    driver.position = [0.0, 1.5, 0.5]  # it sags
    until(lambda: arm_.read().position.tolist() == [0.5, 1.5])
    count = len(driver.got)
    until(lambda: len(driver.got) > count, arm_.disable)
    assert list(driver.got[-1].points[0].positions) == [1.0, 2.0]


def test_what_is_not_there_is_named_with_what_is(robot, bus):
    driver = robot(topic="/other_controller/commands")
    with pytest.raises(
        BusError, match=r"^/arm_controller/commands: no controller listens .*/other_controller/commands"
    ):
        bus(open_timeout_s=3.0)
    with pytest.raises(BusError, match=r"^/arm/joint_states: no message yet .* nobody; .*: /joint_states\)"):
        bus(joint_states="/arm/joint_states", open_timeout_s=3.0)
    driver.names = ["gripper", "elbow", "wrist"]
    with pytest.raises(BusError, match="no joint shoulder; there are gripper, elbow, wrist"):
        bus(open_timeout_s=3.0)
    driver.names, driver.behind_s = ["gripper", "elbow", "shoulder"], 100.0
    with pytest.raises(BusError, match="stamps are 100 s behind this machine's clock"):
        bus(open_timeout_s=3.0)


def test_our_own_joint_states_are_not_taken_for_the_robots(robot, bus):
    robot()
    context = Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("motor_node", context=context)
    node.create_publisher(JointStateMsg, "/joint_states", 1)
    try:
        with pytest.raises(BusError, match=r"motor_node publishes there as well as the robot; .*--namespace"):
            until(lambda: False, bus().enable)  # until discovery has told of it
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def test_silence_is_a_fault_and_a_number_that_is_none_is_an_error(robot, bus):
    driver = robot()
    arm_ = bus(silence_s=0.3)
    driver.position = [0.5, float("inf"), 1.0]

    def read():
        with contextlib.suppress(BusError):
            arm_.read()

    until(lambda: arm_.figures()["refused"], read)
    with pytest.raises(BusError, match="position of elbow is not finite"):
        arm_.read()
    until(lambda: arm_.fault() is not None)
    assert "position of elbow is not finite" in arm_.fault()
    driver.position = [0.5, 2.0, 1.0]
    until(lambda: arm_.fault() is None)
    driver.silent = True
    until(lambda: arm_.fault() is not None)
    assert "no joint state on /joint_states for" in arm_.fault()


def test_a_controller_that_has_gone_refuses_commands(robot, bus):
    driver = robot()
    arm_ = bus()
    arm_.enable()
    driver.link.node.destroy_subscription(next(iter(driver.link.node.subscriptions)))
    with pytest.raises(BusError, match="no controller listens"):
        until(lambda: False, lambda: arm_.write(np.zeros(2)))


def test_a_second_process_may_stop_what_the_first_has_left_running(robot, bus):
    """As the watchdog process does, which has the bus open before it is needed."""
    driver = robot()
    first, second = bus("velocity"), bus("velocity")
    first.enable()
    first.write(np.array([1.0, 1.0]))
    until(lambda: driver.got and list(driver.got[-1].data) == [1.0, 1.0])
    second.disable()
    until(lambda: list(driver.got[-1].data) == [0.0, 0.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "gripper"}, "kind: 'gripper' is no kind of controller; there are forward, trajectory"),
        ({"kind": "trajectory"}, "kind: a trajectory is of positions, but the contract commands effort"),
        ({"joints": ["elbow"]}, "joints: elbow are not the contract's actions shoulder, elbow"),
    ],
)
def test_options_that_do_not_fit_the_contract_are_refused(options, message):
    with pytest.raises(BusError, match=message):
        Ros2ControlBus(arm(), "arm_controller", **options)


def test_commands_need_an_open_bus_and_finite_numbers():
    closed = Ros2ControlBus(arm(), "arm_controller")
    for call in (closed.read, closed.enable, closed.disable):
        with pytest.raises(BusError, match="the bus is not open"):
            call()
    with pytest.raises(BusError, match="is not 2 finite numbers"):
        closed.write(np.array([1.0, np.nan]))
    closed.close()
