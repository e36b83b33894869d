"""`robot-wm guard` says that all is clear until a key is pressed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Bool

from ros_nodes import topics
from ros_nodes.guard import contact

pytestmark = pytest.mark.ros
PROGRAM = "from robot_wm.cli import main; main()"


def test_it_says_clear_until_a_key_is_pressed_and_never_again(domain):
    ours, theirs = os.openpty()
    guard = subprocess.Popen([sys.executable, "-c", PROGRAM, "guard"], stdin=theirs, stderr=subprocess.PIPE, text=True)
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    heard = []
    node.create_subscription(Bool, topics.ESTOP_CLEAR, lambda msg: heard.append(msg.data), topics.latest())

    def wait(condition):
        deadline = time.monotonic() + 60.0
        while not condition():
            assert time.monotonic() < deadline, heard
            executor.spin_once(0.05)

    try:
        wait(lambda: heard)
        assert all(heard)
        os.write(ours, b" ")
        wait(lambda: not heard[-1])
        heard.clear()
        wait(lambda: len(heard) >= 3)
        assert not any(heard)
    finally:
        guard.send_signal(2)
        _, said = guard.communicate(timeout=30)
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert "stopped: Ctrl-C, start this again" in said


def test_without_a_terminal_or_a_button_it_says_what_it_needs():
    assert "needs a terminal to read keys from, or --serial" in refused()
    assert "/dev/no_button: no e-stop button can be read there" in refused("--serial", "/dev/no_button")


def refused(*arguments):
    command = [sys.executable, "-c", PROGRAM, "guard", *arguments]
    guard = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert guard.returncode == 1
    return guard.stderr


def test_an_open_contact_is_no_leave_to_move(monkeypatch):
    """A pty has no modem lines, so the port's are played here."""

    class Port:
        cts, rts = True, False

        def __init__(self, path):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("serial.Serial", Port)
    with contact("/dev/button") as closed:
        assert closed()
        Port.cts = False
        assert not closed()
