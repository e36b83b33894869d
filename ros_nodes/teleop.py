"""Teleoperation from the keyboard: keys move the wanted action, letting go brings it back to rest."""

from __future__ import annotations

import contextlib
import select
import sys
import termios
import tty
from collections.abc import Iterator
from threading import Event as Flag
from threading import Thread
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState as JointStateMsg

from robot_wm.contract import Contract
from robot_wm.errors import RunError
from robot_wm.messages import Command, FloatArray
from robot_wm.timebase import MonotonicClock, RosOffset
from ros_nodes import topics
from ros_nodes.convert import command_to_msg

RATE_HZ = 50.0
STEP = 0.1  # of the way to the limit, per key
DECAY = 0.9  # per period without a key
KEYS = "qa ws ed rf tg yh uj ik"  # one pair per action: more, less


class Sticks:
    """What the keys ask for, in SI units; one pair of keys per action."""

    def __init__(self, contract: Contract) -> None:
        action = contract.action
        self._low, self._high = np.array(action.limit_low or action.low), np.array(action.limit_high or action.high)
        self._rest = np.clip(np.zeros(action.size), self._low, self._high)
        self._values = self._rest.copy()
        self.pairs = dict(zip(action.names, KEYS.split(), strict=False))

    def turn(self, keys: str) -> FloatArray:
        """One period with these keys pressed; returns the action (A,)."""
        if not keys:
            self._values = self._rest + DECAY * (self._values - self._rest)
        for i, pair in enumerate(self.pairs.values()):
            change = STEP * (keys.count(pair[0]) - keys.count(pair[1]))
            self._values[i] += change * (self._high[i] - self._low[i]) / 2
        self._values = np.clip(self._values, self._low, self._high)
        return self._values.copy()


@contextlib.contextmanager
def keyboard(contract: Contract, namespace: str) -> Iterator[None]:
    """Publish `command` from the keys pressed while the block runs. Raises RunError without a terminal."""
    if not sys.stdin.isatty():
        raise RunError("--drive teleop needs a terminal to read keys from; use --drive command and publish `command`")
    sticks = Sticks(contract)
    keys = ", ".join(f"{pair[0]}/{pair[1]} {name}" for name, pair in sticks.pairs.items())
    print(f"teleoperation: {keys}; Ctrl-C ends", file=sys.stderr)
    before = termios.tcgetattr(sys.stdin)
    end = Flag()
    thread = Thread(target=_publish, args=(contract, namespace, sticks, end), name="teleop", daemon=True)
    try:
        tty.setcbreak(sys.stdin)
        thread.start()
        yield
    finally:
        end.set()
        thread.join()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _publish(contract: Contract, namespace: str, sticks: Sticks, end: Flag) -> None:
    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node: Any = rclpy.create_node("teleop", namespace=namespace, context=context)
    publisher = node.create_publisher(JointStateMsg, topics.COMMAND, topics.command())
    clock, offset = MonotonicClock(), RosOffset.measure()
    while not end.wait(1.0 / RATE_HZ):
        keys = ""
        while select.select([sys.stdin], [], [], 0.0)[0]:
            keys += sys.stdin.read(1)
        command = Command(clock.now(), sticks.turn(keys))
        publisher.publish(command_to_msg(command, contract, offset))
    node.destroy_node()
    rclpy.try_shutdown(context=context)
