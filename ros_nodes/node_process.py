"""One node as a process: its executor, the signals that end it, and an end that leaves the robot safe and nothing running."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from robot_wm.launched_by import launcher
from ros_nodes.base import SUCCESS, Base

SWITCH_S = 0.0005  # how long the executor may keep the interpreter from a control thread
WAKE_S = 0.2  # how soon a signal or a lost parent is noticed
FINISH_S = 0.02  # how often a node that ends is asked whether it has finished
GOODBYE_S = 5  # that taking leave of other processes may last


def run_node(make: Callable[[], Base]) -> NoReturn:
    """Run one node until it is told to end or its parent is gone, stop it safely, and end the process.

    No exit handlers run: that of Fast DDS may wait forever for a thread of its own, turning at our real-time priority.
    """
    status = 1
    try:
        status = _run(make)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(make: Callable[[], Base]) -> int:
    """Returns the exit status. Signals only set a flag, so that the node still has its publishers and its bus while it stops."""
    parent = launcher()
    sys.setswitchinterval(SWITCH_S)
    ending: list[str] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: ending.append(signal.Signals(received).name))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make()
    except ParameterException as error:
        print(f"{error}; check --params-file and -p", file=sys.stderr)
        return 1
    executor = _executor()
    executor.add_node(node)
    status = 0
    try:
        if node.value("autostart") and (node.trigger_configure() != SUCCESS or node.trigger_activate() != SUCCESS):
            status = 1
        while not ending and status == 0:
            executor.spin_once(WAKE_S)
            if os.getppid() != parent:
                ending.append("the process that started it is gone")
            if node.broken:
                node.get_logger().fatal(node.broken)
                status = 1
        if ending:
            node.get_logger().info(f"ending: {ending[0]}")
            while not node.finished():
                executor.spin_once(FINISH_S)
    finally:
        node.stop()
        node.report()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(GOODBYE_S)  # the robot is safe; what follows is politeness to other processes
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
        rclpy.get_default_context().destroy()
    return status


def _executor() -> Executor:
    """The events executor where there is one: rclpy's other executors take two to three times the processor time per message."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:  # before Jazzy
        return SingleThreadedExecutor()
    return EventsExecutor()
