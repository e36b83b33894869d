"""~/arm of a real motor_node refuses with the sentence of the check that fails, and arms once it is mended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Bool, Header

from bundleless import CONTRACT
from calibration.files import write
from calibration_samples import VALUES, made
from robot_wm.bundle import write_bundle
from robot_wm.contract import parse_contract
from robot_wm.errors import RunError
from robot_wm.messages import Event
from robot_wm.timebase import MonotonicClock, RosOffset
from ros_nodes import topics
from ros_nodes.convert import event_to_msg
from ros_nodes.processes import Command, Supervisor
from ros_nodes.session import Session
from test_bundle import filler, manifest_for

pytestmark = pytest.mark.ros


@pytest.fixture
def motor(domain, tmp_path):
    """A function that starts motor_node with a contract and gives a session with it, again and again."""
    supervisor = Supervisor(tmp_path / "logs", dict(os.environ))
    sessions = []

    def start(bundle="", parameters=(), **changes):
        path = tmp_path / "contract.yaml"
        safety = {"joint_stale_s": 10.0, **changes.pop("safety", {})}  # a loaded machine misses ticks
        path.write_text(yaml.safe_dump({**yaml.safe_load(CONTRACT), "safety": safety, **changes}))
        given = {"contract": path, "bus": "loopback", "autostart": "true", "priority": 0, "lock_memory": "false"}
        given |= {"bundle": bundle} if bundle else {}
        given |= dict(parameters)
        arguments = [item for key, value in given.items() for item in ("-p", f"{key}:={value}")]
        supervisor.stop(patience_s=20.0)
        supervisor.start(Command("motor_node", ("-m", "ros_nodes.motor_node", "--ros-args", *arguments)))
        while sessions:
            sessions.pop().__exit__(None, None, None)
        sessions.append(Session("", supervisor.check).__enter__())
        sessions[0].wait_active(["motor_node"])
        said(sessions[0], lambda arming: arming and "no joint state yet" not in arming)
        return sessions[0]

    yield start
    for session in sessions:
        session.__exit__(None, None, None)
    supervisor.stop(patience_s=20.0)


def said(session, condition=bool):
    """What motor_node's diagnostics say of arming, as soon as it meets the condition; a loaded machine takes its time."""
    deadline = time.monotonic() + 60.0
    while not condition(arming := session.diagnostics.get("motor_node", (0, "", {}))[2].get("arming", "")):
        assert time.monotonic() < deadline, arming
        session.spin(0.05)
    return arming


def refusal(session):
    with pytest.raises(RunError) as refused:
        session.trigger("motor_node/arm", 30.0)
    assert said(session).startswith("refused: ")
    assert session.diagnostics["motor_node"][2]["state"] == "disarmed"
    return str(refused.value)


def test_a_missing_calibration_is_refused_and_a_good_one_arms_after_a_restart(motor, tmp_path):
    file = tmp_path / "calibration" / "joints.yaml"
    asked = {"joints": {"file": "calibration/joints.yaml", "serial": "arm-7"}}
    session = motor(calibration=asked)
    said = refusal(session)
    assert f"cannot arm: calibration joints: {file}: no joints calibration here" in said
    assert "robot-wm calibrate joints --serial arm-7" in said
    true = {**VALUES["joints"]["elbow"], "direction": 1.0, "centre_rad": 0.0, "centre_position_rad": 0.0}
    write(file, made(serial="arm-8", values={"slider": true}))
    assert "belongs to arm-8, but arm-7 is connected" in refusal(motor(calibration=asked))
    write(file, made(values={"slider": true}))
    bounded = {"position": {"slider": [-0.9, 1.1]}}
    assert motor(calibration=asked, safety=bounded).trigger("motor_node/arm", 30.0).startswith("armed: ")


def test_a_bundle_that_is_none_is_refused(motor, tmp_path):
    assert "cannot arm: bundle: " in refusal(motor(bundle=str(tmp_path)))


def test_a_bundle_that_planner_node_says_it_plans_with_is_no_doubt_any_more(motor, tmp_path):
    contract = parse_contract(yaml.safe_load(CONTRACT))
    bundle = write_bundle(tmp_path / "bundle", manifest_for(contract), filler(contract))
    session = motor(bundle=str(bundle.path))
    assert "planner_node does not use it yet" in said(session)
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("planner_node", context=context)
    try:
        status = node.create_publisher(Header, topics.MODEL_STATUS, topics.latched(10))
        event = Event(MonotonicClock().now(), "using", f"planner_node {bundle.bundle_id}")
        status.publish(event_to_msg(event, RosOffset.measure()))
        assert said(session, lambda arming: "bundle" not in arming).startswith("ready")
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def test_without_word_from_the_estop_input_it_does_not_arm_and_when_that_falls_silent_it_stops(motor):
    session = motor(parameters=[("estop_clear_s", 5.0)])
    assert "the e-stop input has said nothing yet" in refusal(session)
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("button", context=context)
    try:
        button = node.create_publisher(Bool, topics.ESTOP_CLEAR, topics.latest())
        deadline = time.monotonic() + 60.0
        while not said(session).startswith("ready"):
            assert time.monotonic() < deadline
            button.publish(Bool(data=True))
            session.spin(0.05)
        assert session.trigger("motor_node/arm", 30.0).startswith("armed: ")
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    while "the e-stop input is silent" not in session.diagnostics["motor_node"][1]:
        assert time.monotonic() < deadline
        session.spin(0.05)
    assert session.diagnostics["motor_node"][2]["state"] == "estop"


def test_without_anything_asked_for_it_arms(motor):
    assert motor().trigger("motor_node/arm", 30.0).startswith("armed: holding until a plan or command comes")


def test_a_watchdog_that_is_gone_is_an_error_in_diagnostics(motor, tmp_path):
    session = motor()
    (node,) = [pid for pid in processes() if str(tmp_path) in command(pid)]
    (watchdog,) = [pid for pid in processes() if "robot_wm.watchdog" in command(pid) and parent(pid) == node]
    os.kill(watchdog, signal.SIGKILL)
    deadline = time.monotonic() + 60.0
    while "the watchdog process has ended" not in session.diagnostics["motor_node"][1]:
        assert time.monotonic() < deadline
        session.spin(0.05)


def processes():
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def command(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def parent(pid):
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
