"""The motor bus of a robot that runs ros2_control already: commands to one of its controllers, joints from its joint states.

The driver keeps its own loop, limits and emergency stop; docs/ros2_control.md says what is its business and what is ours.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
from rclpy.duration import Duration
from sensor_msgs.msg import JointState as JointStateMsg

from robot_wm.contract import Contract
from robot_wm.errors import BusError, MessageError
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S, RosOffset
from ros_nodes.ros2_control_link import MOTOR_NODE, RosLink
from ros_nodes.ros2_control_messages import COMMANDS, FORWARD, TRAJECTORY, command_of, joints_of

LEAVE_S = 0.2  # what was published last gets so long to reach the controller before the bus closes


class Ros2ControlBus:
    """See the module's first lines.

    Args:
        controller: its name or namespace, e.g. `effort_controller`; commands go to `/<controller>/commands`.
        kind: `forward` (forward_command_controller and those made of it), or `trajectory` (joint_trajectory_controller; position
            mode: one point, due after one motor period).
        joints: the controller's own order; None: the contract's actions.
        joint_states: the robot's joint states.
        silence_s: no usable joint state for so long is a fault.
        open_timeout_s: bound of `open`.
    """

    SHARED = True  # the watchdog process may have it open as well, before it is needed

    def __init__(
        self,
        contract: Contract,
        controller: str,
        kind: str = FORWARD,
        joints: Sequence[str] | None = None,
        joint_states: str = "/joint_states",
        silence_s: float = 1.0,
        open_timeout_s: float = 5.0,
    ) -> None:
        action = contract.action
        ordered = tuple(action.names if joints is None else joints)
        if kind not in COMMANDS:
            raise BusError(f"kind: {kind!r} is no kind of controller; there are {', '.join(COMMANDS)}")
        if kind == TRAJECTORY and action.mode != "position":
            raise BusError(f"kind: a trajectory is of positions, but the contract commands {action.mode}")
        if sorted(ordered) != sorted(action.names):
            raise BusError(f"joints: {', '.join(ordered)} are not the contract's actions {', '.join(action.names)}")
        self.names = contract.joints
        self._mode, self._kind = action.mode, kind
        self._joints, self._order = ordered, [action.names.index(name) for name in ordered]
        self._measured = [self.names.index(name) for name in action.names]
        self._states_topic = joint_states
        self._message, self._type, end = COMMANDS[kind]
        self._commands_topic = f"/{controller.strip('/')}/{end}"
        self._period = round(NS_PER_S / contract.motor_hz)
        self._silence = round(silence_s * NS_PER_S)
        self._open_timeout_s = open_timeout_s
        self._counts: Counter[str] = Counter(dict.fromkeys(("messages", "partial", "refused", "published"), 0))
        self._heard = threading.Event()
        self._newest: tuple[int, JointState] | None = None  # arrival [ns], joints: replaced as a whole
        self._problem = ""  # of the newest message, if it cannot be used
        self._resting: FloatArray | None = None  # what `disable` asks for, until the next `enable`
        self._enabled = False
        self._offset = RosOffset.measure()
        self._measured_at = time.monotonic_ns()
        self._link: RosLink | None = None

    def open(self) -> None:
        """Wait for the robot's joint states and its controller. Raises BusError naming the topic and what is there."""
        self.close()
        self._heard.clear()
        self._newest, self._problem = None, "no message yet"
        self._link = link = RosLink("robot_wm_ros2_control")
        try:
            link.subscribe(JointStateMsg, self._states_topic, self._take, best_effort=True)
            self._publisher = link.advertise(self._message, self._commands_topic)
            self._await(link)
        except BusError:
            self.close()
            raise

    def close(self) -> None:
        """Leave the controller at rest if it was driven, and the robot's driver as it is."""
        link, self._link = self._link, None
        if link is None:
            return
        if self._enabled:
            self._enabled = False
            with contextlib.suppress(BusError):
                self._publish(self._rest())
        if self._counts["published"]:
            self._publisher.wait_for_all_acked(Duration(seconds=LEAVE_S))
        link.close()

    def read(self) -> JointState:
        """The newest joints, with the driver's stamp; never waits. Raises BusError."""
        self._require_open()
        if self._problem or self._newest is None:
            raise BusError(f"{self._states_topic}: {self._problem}")
        return self._newest[1]

    def write(self, values: FloatArray) -> None:
        """Publish a command. Raises BusError when it is not finite, not enabled, or nobody listens."""
        given = np.asarray(values, np.float64)
        if given.shape != (len(self._joints),) or not np.isfinite(given).all():
            raise BusError(f"a command of {given.tolist()} is not {len(self._joints)} finite numbers; nothing was sent")
        if not self._enabled:
            raise BusError(f"{self._commands_topic}: the bus is not enabled")
        self._require_controller()
        self._publish(given)

    def enable(self) -> None:
        """Begin to command, with what asks for no motion. The controller must be active already. Raises BusError."""
        self._require_controller()
        self._require_alone(self._require_open())  # discovery may have told of it only after `open`
        self.read()
        self._resting = None
        self._publish(self._rest())
        self._enabled = True

    def disable(self) -> None:
        """Ask for rest and command no more: zero, or in position mode where the joints stand now. Raises BusError."""
        self._require_open()
        self._enabled = False
        if self._resting is None:
            self._resting = self._rest()  # kept: a robot that sags is not followed
        self._publish(self._resting)

    def fault(self) -> str | None:
        """Silence of the driver."""
        if self._link is None or self._newest is None:
            return None
        silent = time.monotonic_ns() - self._newest[0]
        if silent <= self._silence:
            return None
        why = f" ({self._problem})" if self._problem else ""
        return (
            f"no joint state on {self._states_topic} for {silent / NS_PER_S:.1f} s{why}; does the robot's driver run?"
        )

    def figures(self) -> dict[str, float | str]:
        link, newest = self._link, self._newest
        listeners = self._publisher.get_subscription_count() if link is not None else 0
        age = (time.monotonic_ns() - newest[1].stamp) / 1e6 if newest is not None else float("nan")
        return {**self._counts, "joint_state_age_ms": age, "listeners": float(listeners)}

    def _take(self, msg: JointStateMsg) -> None:
        """On the link's thread."""
        now = time.monotonic_ns()
        if now - self._measured_at > NS_PER_S:
            self._offset, self._measured_at = RosOffset.measure(), now
        self._counts["messages"] += 1
        missing = [name for name in self.names if name not in msg.name]
        if missing:  # several nodes may publish, each its own joints
            self._counts["partial"] += 1
            if self._newest is None:
                self._problem = f"no joint {', '.join(missing)}; there are {', '.join(msg.name) or 'none'}"
            return
        try:
            self._newest = now, joints_of(msg, self.names, now, self._offset)
        except MessageError as error:
            self._counts["refused"] += 1
            self._problem = str(error)
        else:
            self._problem = ""
            self._heard.set()

    def _rest(self) -> FloatArray:
        """What asks for no motion."""
        if self._mode != "position":
            return np.zeros(len(self._joints))
        if self._newest is None:
            raise BusError(f"{self._states_topic}: where the joints stand is not known ({self._problem})")
        return self._newest[1].position[self._measured]

    def _publish(self, values: FloatArray) -> None:
        try:
            self._publisher.publish(command_of(self._kind, self._joints, values[self._order], self._period))
        except RuntimeError as error:  # RCLError: the middleware refuses, or its context has been shut down
            raise BusError(f"{self._commands_topic}: nothing was sent: {error}") from error
        self._counts["published"] += 1

    def _await(self, link: RosLink) -> None:
        end = time.monotonic() + self._open_timeout_s
        heard = self._heard.wait(self._open_timeout_s)
        self._require_alone(link)
        if not heard:
            topics = link.topics_of("sensor_msgs/msg/JointState")
            there = ", ".join(name for name in topics if name != self._states_topic) or "none"
            from_whom = ", ".join(link.publishers(self._states_topic)) or "nobody"
            raise BusError(
                f"{self._states_topic}: {self._problem} within {self._open_timeout_s:g} s (published by {from_whom}; other "
                f"topics of joint states: {there}); start the robot's driver, or name its topic with the option joint_states"
            )
        while not self._publisher.get_subscription_count():
            if time.monotonic() >= end:
                raise BusError(self._no_controller(link))
            time.sleep(0.01)

    def _no_controller(self, link: RosLink) -> str:
        there = ", ".join(name for name in link.topics_of(self._type) if name != self._commands_topic) or "none"
        return (
            f"{self._commands_topic}: no controller listens (topics of its kind: {there}); load and activate it: "
            "ros2 control load_controller --set-state active NAME"
        )

    def _require_open(self) -> RosLink:
        if self._link is None:
            raise BusError(f"{self._states_topic}: the bus is not open")
        return self._link

    def _require_alone(self, link: RosLink) -> None:
        if MOTOR_NODE in link.publishers(self._states_topic):
            raise BusError(
                f"{self._states_topic}: motor_node publishes there as well as the robot; run it in a namespace of its own "
                "(--namespace wm)"
            )

    def _require_controller(self) -> None:
        link = self._require_open()
        if not self._publisher.get_subscription_count():
            raise BusError(self._no_controller(link))
