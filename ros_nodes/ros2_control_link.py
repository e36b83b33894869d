"""A ROS node on a thread of its own, beside the motor loop: subscriptions fill mailboxes, publishers are called from any thread.

It has its own context, so that a bus can be opened in a process that has none, and closing it ends nothing else.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

NEWEST = QoSProfile(depth=1)  # reliable: what ros2_control's controllers ask of a publisher
MOTOR_NODE = "motor_node"


class RosLink:
    """A node that spins from construction until `close`."""

    def __init__(self, name: str) -> None:
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(f"{name}_{os.getpid()}", context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def subscribe(self, kind: type, topic: str, callback: Callable[[Any], None], best_effort: bool = False) -> None:
        """Call `callback` on the link's thread. `best_effort` hears every publisher, reliable or not."""
        qos = rclpy.qos.qos_profile_sensor_data if best_effort else NEWEST
        self.node.create_subscription(kind, topic, callback, qos)

    def advertise(self, kind: type, topic: str) -> Any:
        return self.node.create_publisher(kind, topic, NEWEST)

    def publishers(self, topic: str) -> list[str]:
        """Names of the nodes that publish a topic."""
        return sorted(info.node_name for info in self.node.get_publishers_info_by_topic(topic))

    def topics_of(self, kind: str) -> list[str]:
        """Every topic of a message type, such as `sensor_msgs/msg/JointState`."""
        return sorted(name for name, types in self.node.get_topic_names_and_types() if kind in types)

    def close(self) -> None:
        """Harmless when closed."""
        self._end.set()
        self._thread.join()
        self._executor.shutdown(timeout_sec=0.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException, ShutdownException):
            while not self._end.is_set():
                self._executor.spin_once(timeout_sec=0.1)
