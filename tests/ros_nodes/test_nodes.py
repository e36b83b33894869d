"""Nodes as processes: parameters, failures in one sentence, and the lifecycle that ROS tools drive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

from bundleless import CONTRACT
from robot_wm.bags.reader import open_bag
from ros_nodes.processes import Command, Supervisor
from ros_nodes.session import Session

pytestmark = pytest.mark.ros


@pytest.fixture
def contract(tmp_path):
    path = tmp_path / "contract.yaml"
    path.write_text(CONTRACT)
    return path


def run(name, *parameters):
    """Run a node that is expected to end by itself; returns exit status and everything it said."""
    arguments = [item for parameter in parameters for item in ("-p", parameter)]
    command = [sys.executable, "-m", f"ros_nodes.{name}", "--ros-args", "-p", "autostart:=true", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("node", "parameters", "says"),
    [
        ("motor_node", ["priority:=200"], "Parameter priority out of range"),
        ("motor_node", ["contract:={contract}", "bus:=nonsense"], "unknown motor bus 'nonsense'; installed are"),
        ("planner_node", [], "planner_node: set the parameter `bundle` to a bundle's directory"),
        ("sensor_node", ["contract:={contract}", "sensor_options:='[1]'"], "a JSON object is needed"),
        (
            "recorder_node",
            ["contract:={contract}", "bag:=b", "extra_topics:='scan=sensor_msgs/Scan'"],
            "no message type",
        ),
    ],
)
def test_a_node_that_cannot_start_says_why_and_exits_with_1(domain, contract, node, parameters, says):
    status, said = run(node, *(parameter.format(contract=contract) for parameter in parameters))
    assert status == 1
    assert says in said


@pytest.mark.parametrize(
    ("hangs", "status"),
    [
        ("import atexit; atexit.register(time.sleep, 1000)", 1),
        ("from rclpy.context import Context; Context.destroy = lambda self: time.sleep(1000)", -signal.SIGALRM),
    ],
)
def test_a_node_ends_whatever_the_middleware_waits_for(domain, hangs, status):
    program = f"""
import sys, time
from ros_nodes import node_process
from ros_nodes.model_sync_node import ModelSyncNode
{hangs}
node_process.GOODBYE_S = 1
sys.argv += ["--ros-args", "-p", "autostart:=true"]
node_process.run_node(ModelSyncNode)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr


def test_the_recorder_lives_a_whole_lifecycle_marks_an_episode_and_leaves_a_bag(domain, contract, tmp_path):
    supervisor = Supervisor(tmp_path / "logs", dict(os.environ))
    parameters = ["-p", f"contract:={contract}", "-p", f"bag:={tmp_path}/bag", "-p", "autostart:=true"]
    arguments = ("-m", "ros_nodes.recorder_node", "--ros-args", "-r", "__ns:=/left", *parameters)
    supervisor.start(Command("recorder_node", arguments))
    try:
        with Session("left", supervisor.check) as session:
            session.wait_active(["recorder_node"])
            session.wait_listening("event", 1)
            assert session.trigger("recorder_node/start") == "marked start"
            session.wait_well(["recorder_node"])
            assert session.trigger("recorder_node/success") == "marked success"
            session.spin(0.3)
    finally:
        killed = supervisor.stop(patience_s=20.0)
    assert killed == []
    bag = open_bag(tmp_path / "bag")
    assert [event.kind for event in bag.events()] == ["start", "success"]
    assert "/event" in bag.topics  # relative names, whatever the namespace
    assert bag.contract.name == "one"


def test_a_recorder_that_is_behind_writes_what_was_sent_before_its_end(domain, contract, tmp_path):
    supervisor = Supervisor(tmp_path / "logs", dict(os.environ))
    parameters = ["-p", f"contract:={contract}", "-p", f"bag:={tmp_path}/bag", "-p", "autostart:=true"]
    supervisor.start(Command("recorder_node", ("-m", "ros_nodes.recorder_node", "--ros-args", *parameters)))
    try:
        with Session("", supervisor.check) as session:
            session.wait_active(["recorder_node"])
            session.wait_listening("event", 1)
            recorder = supervisor.processes["recorder_node"]
            recorder.send_signal(signal.SIGSTOP)
            for number in range(10):
                session.mark("mark", f"{number}")
            recorder.send_signal(signal.SIGINT)
            recorder.send_signal(signal.SIGCONT)
            recorder.wait(20)
    finally:
        supervisor.stop(patience_s=20.0)
    assert [event.note for event in open_bag(tmp_path / "bag").events()] == [f"{number}" for number in range(10)]


@pytest.mark.parametrize("kind", ["subscribe", "every", "serve"])
def test_an_unforeseen_exception_in_a_callback_ends_the_node_in_order(domain, kind):
    program = f"""
import sys
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from ros_nodes import base, node_process, topics

class Node(base.Base):
    def configure(self):
        publisher = self.advertise(Header, "event", topics.latched())
        client = self.create_client(Trigger, "verb")
        self.subscribe(Header, "event", self.fail if {kind!r} == "subscribe" else print, topics.latched())
        self.every(0.05, self.fail if {kind!r} == "every" else lambda: publisher.publish(Header()))
        self.serve(Trigger, "verb", self.fail if {kind!r} == "serve" else lambda request, response: response)
        self.every(0.05, lambda: client.call_async(Trigger.Request()))
    def fail(self, *arguments):
        raise ZeroDivisionError("unforeseen")
    def cleanup(self):
        print("cleaned up")

sys.argv += ["--ros-args", "-p", "autostart:=true"]
node_process.run_node(lambda: Node("failing"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "ZeroDivisionError: unforeseen" in done.stderr
    assert "cleaned up" in done.stdout
