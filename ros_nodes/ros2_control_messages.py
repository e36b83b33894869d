"""Joint states of a ros2_control robot to our joints, and commands to the messages of its controllers.

Sources: ros2_controllers, "forward_command_controller" (`~/commands`) and "joint_trajectory_controller" (`~/joint_trajectory`).
"""

from __future__ import annotations

import array
from collections.abc import Sequence

import numpy as np
from builtin_interfaces.msg import Duration
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robot_wm.errors import MessageError
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S, RosOffset
from ros_nodes.convert import time_from_msg

FORWARD, TRAJECTORY = "forward", "trajectory"
# Kind of controller → its message, the type's name, the topic's end.
COMMANDS: dict[str, tuple[type, str, str]] = {
    FORWARD: (Float64MultiArray, "std_msgs/msg/Float64MultiArray", "commands"),
    TRAJECTORY: (JointTrajectory, "trajectory_msgs/msg/JointTrajectory", "joint_trajectory"),
}
SKEW = NS_PER_S  # a stamp that far from its arrival is of another clock


def joints_of(msg: JointStateMsg, names: Sequence[str], arrival: int, offset: RosOffset) -> JointState:
    """The joints `names`, all of which the message has; `arrival` [ns, monotonic]. Raises MessageError."""
    stamp = time_from_msg(msg.header.stamp, offset, "joint states")
    if abs(arrival - stamp) > SKEW:
        raise MessageError(
            f"its stamps are {(arrival - stamp) / NS_PER_S:.3g} s behind this machine's clock; synchronise the clocks, and "
            "run the driver without use_sim_time"
        )
    columns, values = [list(msg.name).index(name) for name in names], {}
    for field in ("position", "velocity", "effort"):
        numbers = np.array(getattr(msg, field), np.float64)
        if len(numbers) not in (0, len(msg.name)):
            raise MessageError(f"{field} has {len(numbers)} entries for {len(msg.name)} joints")
        chosen = numbers[columns] if len(numbers) else numbers
        # joint_state_broadcaster publishes NaN for a state interface that the hardware does not have.
        values[field] = np.zeros(0) if np.isnan(chosen).all() else chosen
        bad = [name for name, number in zip(names, values[field], strict=False) if not np.isfinite(number)]
        if bad:
            raise MessageError(f"{field} of {', '.join(bad)} is not finite")
    if not len(values["position"]):
        raise MessageError(f"no position of {', '.join(names)}")
    return JointState(stamp, tuple(names), **values)


def command_of(
    kind: str, joints: Sequence[str], values: FloatArray, period: int
) -> Float64MultiArray | JointTrajectory:
    """What asks the controller for `values` (joints,); `period` [ns]: when a trajectory's point is due."""
    numbers = array.array("d", values)
    if kind == FORWARD:
        return Float64MultiArray(data=numbers)
    sec, nanosec = divmod(period, NS_PER_S)
    point = JointTrajectoryPoint(positions=numbers, time_from_start=Duration(sec=sec, nanosec=nanosec))
    return JointTrajectory(joint_names=list(joints), points=[point])  # no stamp: it starts now
