"""Teleoperation from the keyboard: keys move the wanted action, letting go brings it back to rest.

Wanted positions begin where the joints are when the first key is pressed, and stay where the keys have moved them.
"""

from __future__ import annotations

import contextlib
import os
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
from rclpy.executors import SingleThreadedExecutor
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
        self._stay = action.mode == "position"
        self._begun = not self._stay
        self._low, self._high = np.array(action.limit_low or action.low), np.array(action.limit_high or action.high)
        self._rest = np.clip(np.zeros(action.size), self._low, self._high)
        self._values = self._rest.copy()
        self.pairs = dict(zip(action.names, KEYS.split(), strict=False))

    def turn(self, keys: str, measured: FloatArray | None = None) -> FloatArray | None:
        """One period with these keys pressed; returns the action (A,).

        Of positions None, until a key is pressed and the joints' positions `measured` (A,) are known.
        """
        if not self._begun:
            if not keys or measured is None:
                return None
            self._values, self._begun = np.array(measured, float), True
        if not keys and not self._stay:
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
    measured: list[FloatArray] = []

    def hear(msg: JointStateMsg) -> None:
        places = dict(zip(msg.name, msg.position, strict=False))
        if all(name in places for name in contract.action.names):
            measured[:] = [np.array([places[name] for name in contract.action.names])]

    node.create_subscription(JointStateMsg, topics.JOINT_STATES, hear, topics.latest())
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    clock, offset = MonotonicClock(), RosOffset.measure()
    while not end.wait(1.0 / RATE_HZ):
        pressed = select.select([sys.stdin], [], [], 0.0)[0]
        keys = os.read(sys.stdin.fileno(), 1024).decode(errors="ignore") if pressed else ""
        executor.spin_once(0.0)
        values = sticks.turn(keys, measured[0] if measured else None)
        if values is not None:
            publisher.publish(command_to_msg(Command(clock.now(), values), contract, offset))
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    context.destroy()
