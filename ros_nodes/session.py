"""The launcher's own place in the graph: waits for nodes, calls their services, marks events, reads diagnostics."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.publisher import Publisher
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from robot_wm.errors import RunError
from robot_wm.messages import Event
from robot_wm.timebase import MonotonicClock, RosOffset
from ros_nodes import topics
from ros_nodes.convert import event_to_msg

STEP_S = 0.05
SILENT_S = 2.5  # every node says something once a second
ANSWER_S = 2.0  # then a request is sent again: one that went to a process which was killed is never answered


class Session:
    """A small node that lives in the launcher; use it as a context manager. `check` is called while it waits."""

    def __init__(self, namespace: str, check: Callable[[], None]) -> None:
        self._check = check
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("launcher", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._events = self._node.create_publisher(Header, topics.EVENT, topics.latched(10))
        self.diagnostics: dict[str, tuple[int, str, dict[str, str]]] = {}  # node → level, message, key/values
        self._heard: dict[str, float] = {}  # node → when last [s, monotonic]
        self._node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, 10)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        self._context.destroy()  # at exit it might wait forever for a thread of its own

    def spin(self, seconds: float) -> None:
        """Serve the node for a while."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._executor.spin_once(min(left, STEP_S))
            self._check()

    def wait_active(self, nodes: Sequence[str], timeout_s: float = 30.0) -> None:
        """Return when every node is active. Raises RunError naming those that are not in time."""
        deadline = time.monotonic() + timeout_s
        for name in nodes:
            state = ""
            while state != "active":
                left = deadline - time.monotonic()
                if left <= 0:
                    raise RunError(f"{name} is not active after {timeout_s:g} s ({state or 'no answer'})")
                answer = self._call(GetState, f"{name}/get_state", GetState.Request(), min(left, ANSWER_S))
                state = answer.current_state.label if answer is not None else ""

    def wait_well(self, nodes: Sequence[str], timeout_s: float = 20.0) -> None:
        """Return when every node says in its diagnostics that all is well, or that it can be armed.

        Raises RunError with what it says instead.
        """
        deadline = time.monotonic() + timeout_s
        self.diagnostics.clear()
        while ill := [name for name in nodes if not self._well(name)]:
            if time.monotonic() > deadline:
                said = self.diagnostics.get(ill[0], (1, "no diagnostics", {}))[1]
                raise RunError(f"{ill[0]} is not ready after {timeout_s:g} s: {said}")
            self.spin(STEP_S)

    def wait_listening(self, topic: str, count: int, timeout_s: float = 10.0) -> None:
        """Return when at least `count` subscribers of `topic` are connected."""
        deadline = time.monotonic() + timeout_s
        while self._node.count_subscribers(topic) < count:
            if time.monotonic() > deadline:
                raise RunError(f"{topic}: {self._node.count_subscribers(topic)} of {count} nodes listen")
            self.spin(STEP_S)

    def wait_recorded(self, topics: Sequence[str], timeout_s: float = 20.0) -> None:
        """Return when recorder_node has written something of every topic. Raises RunError naming those still silent."""
        deadline = time.monotonic() + timeout_s
        while silent := [topic for topic in topics if not self._recorded(topic)]:
            if time.monotonic() > deadline:
                raise RunError(f"recorder_node has heard nothing on {', '.join(silent)} in {timeout_s:g} s")
            self.spin(STEP_S)

    def _recorded(self, topic: str) -> bool:
        return f"recorded /{topic.lstrip('/')}" in self.diagnostics.get("recorder_node", (0, "", {}))[2]

    def subscribe(self, kind: type, topic: str, callback: Callable[[Any], None], qos: Any) -> Any:
        """Listen to one more topic; `destroy` ends it."""
        return self._node.create_subscription(kind, topic, callback, qos)

    def advertise(self, kind: type, topic: str, qos: Any) -> Any:
        """Publish on one more topic; `destroy` ends it."""
        return self._node.create_publisher(kind, topic, qos)

    def destroy(self, entity: Any) -> None:
        """End a subscription or publisher of ours."""
        if isinstance(entity, Publisher):
            self._node.destroy_publisher(entity)
        else:
            self._node.destroy_subscription(entity)

    def now(self) -> Time:
        """ROS time."""
        return self._node.get_clock().now()

    def silent(self, nodes: Sequence[str]) -> list[str]:
        """Those that have said something once and nothing for so long that they hang, or are gone."""
        now = time.monotonic()
        return [name for name in nodes if now - self._heard.get(name, now) > SILENT_S]

    def trigger(self, service: str, timeout_s: float = 5.0) -> str:
        """Call a std_srvs/Trigger and return its message. Raises RunError when it is refused or not answered."""
        answer = self._call(Trigger, service, Trigger.Request(), timeout_s)
        if answer is None:
            raise RunError(f"{service} does not answer")
        if not answer.success:
            raise RunError(f"{service}: {answer.message}")
        return str(answer.message)

    def mark(self, kind: str, note: str = "") -> int:
        """Publish an event now and return its stamp [ns, monotonic]."""
        event = Event(MonotonicClock().now(), kind, note)
        self._events.publish(event_to_msg(event, RosOffset.measure()))
        return event.stamp

    def _well(self, name: str) -> bool:
        """A node that warns may say that the robot can be armed all the same: of overruns, which a loaded machine may have all the
        time, or of a model to be trusted with care."""
        level, _, values = self.diagnostics.get(name, (1, "", {}))
        return level == 0 or values.get("arming", "").startswith("ready")

    def _call(self, kind: type, service: str, request: Any, timeout_s: float) -> Any:
        client = self._node.create_client(kind, service)
        try:
            deadline = time.monotonic() + timeout_s
            while not client.service_is_ready():
                if time.monotonic() > deadline:
                    return None
                self.spin(STEP_S)
            future = client.call_async(request)
            while not future.done():
                if time.monotonic() > deadline:
                    return None
                self._executor.spin_once(STEP_S)
                self._check()
            return future.result()
        finally:
            self._node.destroy_client(client)

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            values = {pair.key: pair.value for pair in status.values}
            name = status.name.rpartition("/")[2]
            self.diagnostics[name] = (status.level[0], status.message, values)
            self._heard[name] = time.monotonic()
