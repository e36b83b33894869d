"""What every node shares: lifecycle with spoken errors, parameters, diagnostics, the ROS time offset."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile

from robot_wm.bundle import Bundle, load_bundle
from robot_wm.contract import Contract, load_contract
from robot_wm.errors import MessageError, RobotWmError, RunError
from robot_wm.machine import MEMORY, resident_mb
from robot_wm.timebase import NS_PER_S, MonotonicClock, RosOffset
from ros_nodes.convert import time_to_msg

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
Status = tuple[bytes, str, dict[str, object]]  # level, message, key/values
CLOCK_STEP = NS_PER_S // 1000  # a smaller change of the offset is measuring noise or slewing

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Base(LifecycleNode):
    """A lifecycle node whose subclass implements `configure`, `activate`, `deactivate`, `cleanup` and `status`.

    These raise RobotWmError on bad input; the transition then fails and the error is logged and shown in diagnostics.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.clock_ = MonotonicClock()
        self.offset = RosOffset.measure()
        self.active = False
        self.fault = ""  # why the last transition failed
        self.broken = ""  # why the process has to end
        self.refused: dict[str, int] = {}  # topic → messages refused
        self.refusal = ""  # the newest reason
        self.remains: dict[str, object] = {}  # figures to tell when no longer active
        self._refused_at = 0
        self._reported: tuple[bytes, str] | None = None
        self._reported_at = 0
        self._ours: list[Any] = []  # what configure created
        self.text("contract", "", "Path of the contract file; empty: the bundle's own")
        self.text("bundle", "", "Directory of the model bundle")
        self.flag("autostart", False, "Configure and activate without being told")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(0.1, self._sound(self._report_on_change))
        self.create_timer(1.0, self._sound(self._track_clock))

    # What a subclass implements

    def configure(self) -> None:
        """Read parameters, load what is needed, create publishers and subscriptions."""

    def activate(self) -> None:
        """Start working."""

    def deactivate(self) -> None:
        """Stop working; must be safe to call twice."""

    def cleanup(self) -> None:
        """Let go of what `configure` acquired besides publishers, subscriptions, services and timers."""

    def finished(self) -> bool:
        """Whether a node that has been told to end may stop; until then it goes on receiving."""
        return True

    def status(self) -> Status:
        """Level, one sentence and figures for diagnostics, while active."""
        return OK, "active", {}

    # Parameters

    def text(self, name: str, default: str, description: str) -> None:
        self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True))

    def flag(self, name: str, default: bool, description: str) -> None:
        self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True))

    def number(self, name: str, default: float, low: float, high: float, description: str) -> None:
        allowed = [FloatingPointRange(from_value=low, to_value=high)]
        descriptor = ParameterDescriptor(description=description, floating_point_range=allowed, read_only=True)
        self.declare_parameter(name, default, descriptor)

    def count(self, name: str, default: int, low: int, high: int, description: str) -> None:
        allowed = [IntegerRange(from_value=low, to_value=high, step=1)]
        descriptor = ParameterDescriptor(description=description, integer_range=allowed, read_only=True)
        self.declare_parameter(name, default, descriptor)

    def value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def read_contract(self) -> Contract:
        """The contract of the `contract` parameter, or of the bundle. Raises RobotWmError when neither is given."""
        given = self.value("contract")
        return load_contract(given) if given else self.read_bundle(None).contract

    def read_bundle(self, contract: Contract | None) -> Bundle:
        if not self.value("bundle"):
            raise RunError(f"{self.get_name()}: set the parameter `bundle` to a bundle's directory")
        return load_bundle(self.value("bundle"), contract)

    # Topics

    def advertise(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        publisher = self.create_publisher(kind, topic, qos)
        self._ours.append((self.destroy_publisher, publisher))
        return publisher

    def subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        qos: QoSProfile,
        raw: bool = False,
        always: bool = False,
    ) -> None:
        """Call `callback` while active; a message it refuses with MessageError is counted and reported, never obeyed.

        Args:
            always: call it as soon as configured: what is latched comes once, perhaps before the node is active.
        """

        def guarded(msg: Any) -> None:
            if not (self.active or always):
                return
            try:
                callback(msg)
            except MessageError as error:
                self.refuse(topic, str(error))

        subscription = self.create_subscription(kind, topic, self._sound(guarded), qos, raw=raw)
        self._ours.append((self.destroy_subscription, subscription))

    def serve(self, kind: type, name: str, callback: Callable[[Any, Any], Any]) -> None:
        sound = self._sound(callback)
        service = self.create_service(kind, name, lambda request, response: sound(request, response) or response)
        self._ours.append((self.destroy_service, service))

    def every(self, seconds: float, callback: Callable[[], None]) -> None:
        self._ours.append((self.destroy_timer, self.create_timer(seconds, self._sound(callback))))

    def _sound(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """An unforeseen exception ends the node in order: the executor must not see it, it might crash the process."""

        def call(*arguments: Any) -> Any:
            try:
                return callback(*arguments)
            except Exception as error:  # noqa: BLE001
                self.get_logger().error(traceback.format_exc())
                self.broken = f"{type(error).__name__}: {error}"
                return None

        return call

    def refuse(self, topic: str, reason: str) -> None:
        """Count a message that was not used and remember why."""
        self.refused[topic] = self.refused.get(topic, 0) + 1
        self.refusal = reason
        self._refused_at = self.clock_.now()
        self.get_logger().warning(reason, throttle_duration_sec=1.0)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self.configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = self._transition(self.activate)
        self.active = result == SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.active = False
        return self._transition(self.deactivate)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition(self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        return SUCCESS

    def stop(self) -> None:
        """Deactivate and let go of everything, from whatever state."""
        if self.active:
            self.active = False
            self._transition(self.deactivate)
        self._transition(self._release)

    def _transition(self, work: Callable[[], None]) -> TransitionCallbackReturn:
        """rclpy swallows whatever a transition raises, so everything is caught, spoken and reported here."""
        try:
            work()
        except RobotWmError as error:
            self.fault = str(error)
        except Exception as error:  # noqa: BLE001
            self.fault = f"{type(error).__name__}: {error}"
            self.get_logger().error(traceback.format_exc())
        else:
            self.fault = ""
            return SUCCESS
        self.get_logger().error(self.fault)
        self.report()
        return FAILURE

    def _release(self) -> None:
        self.cleanup()
        while self._ours:
            destroy, entity = self._ours.pop()
            destroy(entity)

    # Diagnostics and time

    def report(self) -> None:
        """Publish this node's status now."""
        self._send_status(self._status())

    def _status(self) -> Status:
        if self.fault:
            return ERROR, self.fault, {}
        if not self.active:
            return OK, "not active", self.remains
        level, message, values = self.status()
        if self.refused:
            values = values | {f"refused {topic}": count for topic, count in self.refused.items()}
            values["refused last"] = self.refusal
            if level == OK and self.clock_.now() - self._refused_at < 2 * NS_PER_S:
                level, message = WARN, self.refusal
        return level, message, values

    def _report_on_change(self) -> None:
        status = self._status()
        due = self.clock_.now() - self._reported_at >= NS_PER_S - NS_PER_S // 20
        if self._reported is None or _gist(status[:2]) != _gist(self._reported):
            if status[0] == OK:  # rclpy allows one severity per line of code
                self.get_logger().info(status[1])
            else:
                self.get_logger().warning(status[1])
        if due or status[:2] != self._reported:
            self._send_status(status)

    def _send_status(self, status: Status) -> None:
        now = self.clock_.now()
        level, message, values = status
        self._reported, self._reported_at = (level, message), now
        if (memory := resident_mb()) is not None:
            values = values | {MEMORY: memory}
        pairs = [KeyValue(key=key, value=_shown(value)) for key, value in values.items()]
        entry = DiagnosticStatus(
            level=level, name=self.get_fully_qualified_name().lstrip("/"), message=message, hardware_id="", values=pairs
        )
        msg = DiagnosticArray(status=[entry])
        msg.header.stamp = time_to_msg(now, self.offset)
        self._diagnostics.publish(msg)

    def _track_clock(self) -> None:
        """The wall clock may be set while we run; stamps must follow it, and somebody must hear of it."""
        fresh = RosOffset.measure()
        moved = fresh.offset - self.offset.offset
        if abs(moved) > CLOCK_STEP:
            self.get_logger().warning(f"the system clock was set by {moved / NS_PER_S:.3f} s")
            self.offset = fresh


def _gist(reported: tuple[bytes, str]) -> tuple[bytes, str]:
    """Level and first word: what must change to be worth a line in the log; figures in the sentence do not."""
    level, message = reported
    return level, message.partition(" ")[0]


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
