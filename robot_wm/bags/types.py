"""Stamped dataclasses to ROS messages as bytes (CDR) and back, as bags hold them; the conventions are those of the ROS nodes.

| topic | type | convention |
|---|---|---|
| `joint_states` | sensor_msgs/JointState | |
| `applied` | sensor_msgs/JointState | only the field of the action mode; frame_id = source, `:off` appended while not driven |
| `latent`, `task_observation`, `reward` | sensor_msgs/Image 32FC1, height 1 | frame_id = bundle id, or the observation's name |
| images of the contract | sensor_msgs/Image rgb8 or mono8 | frame_id = the image's name |
| `plan` | trajectory_msgs/JointTrajectory | frame_id = `plan:<index>:<bundle id>`, row i holds from stamp + time_from_start |
| `plan_info`, `correction_info` | diagnostic_msgs/DiagnosticArray | one status, `robot_wm/info.py` as key/value pairs |
| `event`, `state` | std_msgs/Header | frame_id = `kind` or `kind: note` |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from robot_wm.contract import Contract
from robot_wm.errors import BagError
from robot_wm.images import encoding_of
from robot_wm.info import CorrectionInfo, PlanInfo, to_pairs
from robot_wm.messages import Applied, Event, FloatArray, JointState, Latent, Measurement, Plan
from robot_wm.timebase import NS_PER_S, RosOffset

JOINT_STATE = "sensor_msgs/msg/JointState"
TENSOR = "sensor_msgs/msg/Image"
PLAN = "trajectory_msgs/msg/JointTrajectory"
INFO = "diagnostic_msgs/msg/DiagnosticArray"
EVENT = "std_msgs/msg/Header"
OFF = ":off"  # suffix of an applied command's frame_id while the motors are not powered
TRAJECTORY_FIELDS = {"position": "positions", "velocity": "velocities", "effort": "effort"}
NOTHING = np.zeros(0)
INDEX = re.compile("[0-9]{1,18}")


@dataclass(frozen=True)
class Info:
    """One line of `plan_info` or `correction_info` with the stamp [ns] it belongs to."""

    stamp: int
    info: PlanInfo | CorrectionInfo


@lru_cache(maxsize=1)
def typestore() -> Any:
    """The message definitions of ROS 2 Jazzy (built once, 0.1 s)."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


@lru_cache(maxsize=64)
def schema(msgtype: str) -> str:
    """The ros2msg definition of a type with all it depends on; empty for a type this project does not know."""
    store = typestore()
    return str(store.generate_msgdef(msgtype, ros_version=2)[0]) if msgtype in store.fielddefs else ""


@lru_cache(maxsize=64)
def type_hash(msgtype: str) -> str:
    """The RIHS01 hash that rosbag2 stores beside a type's name; empty for an unknown type."""
    store = typestore()
    return str(store.hash_rihs01(msgtype)) if msgtype in store.fielddefs else ""


def encode(message: object, contract: Contract | None, offset: RosOffset) -> tuple[str, bytes, int]:
    """Turn one stamped dataclass into (message type, CDR bytes, stamp in ROS time [ns]).

    Raises:
        BagError: for a class that no topic carries, or an action without a contract to name its joints.
    """
    try:
        kind, make = _ENCODERS[type(message)]
    except KeyError:
        known = ", ".join(item.__name__ for item in _ENCODERS)
        raise BagError(f"{type(message).__name__} cannot be written to a bag; these can: {known}") from None
    ros, stamp = make(message, contract, offset)
    return kind, bytes(typestore().serialize_cdr(ros, kind)), stamp


def _header(stamp: int, frame_id: str) -> Any:
    types = typestore().types
    sec, nanosec = divmod(stamp, NS_PER_S)
    return types[EVENT](stamp=types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec), frame_id=frame_id)


def _doubles(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float64)


def _joint_state(message: JointState, contract: Contract | None, offset: RosOffset) -> tuple[Any, int]:
    stamp = offset.to_ros(message.stamp)
    fields = {name: _doubles(getattr(message, name)) for name in ("position", "velocity", "effort")}
    return typestore().types[JOINT_STATE](header=_header(stamp, ""), name=list(message.names), **fields), stamp


def _applied(message: Applied, contract: Contract | None, offset: RosOffset) -> tuple[Any, int]:
    action = _needed(contract, "Applied").action
    fields: dict[str, FloatArray] = dict.fromkeys(("position", "velocity", "effort"), NOTHING)
    fields[action.field or action.mode] = _doubles(message.values)
    stamp = offset.to_ros(message.stamp)
    source = message.source if message.driven else message.source + OFF
    return typestore().types[JOINT_STATE](header=_header(stamp, source), name=list(action.names), **fields), stamp


def _tensor(stamp: int, values: FloatArray, frame_id: str) -> tuple[Any, int]:
    data = np.ascontiguousarray(values, dtype="<f4").reshape(-1)
    return _image(stamp, frame_id, 1, data.size, "32FC1", data.view(np.uint8)), stamp


def _image(stamp: int, frame_id: str, height: int, width: int, encoding: str, data: Any) -> Any:
    """A sensor_msgs/Image of bytes (height * row,)."""
    return typestore().types[TENSOR](
        header=_header(stamp, frame_id),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.size // height,
        data=data,
    )


def _measurement(message: Measurement, contract: Contract | None, offset: RosOffset) -> tuple[Any, int]:
    stamp, values = offset.to_ros(message.stamp), message.values
    if values.ndim != 3:
        return _tensor(stamp, np.asarray(values, np.float32), message.name)
    pixels = np.ascontiguousarray(values, np.uint8)
    height, width, _ = pixels.shape
    return _image(stamp, message.name, height, width, encoding_of(pixels), pixels.reshape(-1)), stamp


def _latent(message: Latent, contract: Contract | None, offset: RosOffset) -> tuple[Any, int]:
    return _tensor(offset.to_ros(message.stamp), message.values, message.bundle_id)


def _plan(message: Plan, contract: Contract | None, offset: RosOffset) -> tuple[Any, int]:
    action = _needed(contract, "Plan").action
    types = typestore().types
    point, duration = types["trajectory_msgs/msg/JointTrajectoryPoint"], types["builtin_interfaces/msg/Duration"]
    points = []
    for i, row in enumerate(message.actions):
        sec, nanosec = divmod(i * message.step, NS_PER_S)
        fields: dict[str, FloatArray] = dict.fromkeys(("positions", "velocities", "accelerations", "effort"), NOTHING)
        fields[TRAJECTORY_FIELDS[action.mode]] = _doubles(row)
        points.append(point(**fields, time_from_start=duration(sec=sec, nanosec=nanosec)))
    stamp = offset.to_ros(message.start)
    header = _header(stamp, f"plan:{message.index}:{message.bundle_id}")
    return types[PLAN](header=header, joint_names=list(action.names), points=points), stamp


def _info(message: Info, contract: Contract | None, offset: RosOffset) -> tuple[Any, int]:
    types = typestore().types
    pair = types["diagnostic_msgs/msg/KeyValue"]
    kind = "plan" if isinstance(message.info, PlanInfo) else "correction"
    status = types["diagnostic_msgs/msg/DiagnosticStatus"](
        level=0,
        name=kind,
        message="",
        hardware_id=message.info.bundle_id,
        values=[pair(key=key, value=value) for key, value in to_pairs(message.info)],
    )
    stamp = offset.to_ros(message.stamp)
    return types[INFO](header=_header(stamp, message.info.bundle_id), status=[status]), stamp


def _event(message: Event, contract: Contract | None, offset: RosOffset) -> tuple[Any, int]:
    stamp = offset.to_ros(message.stamp)
    return _header(stamp, f"{message.kind}: {message.note}" if message.note else message.kind), stamp


def _needed(contract: Contract | None, what: str) -> Contract:
    if contract is None:
        raise BagError(f"{what} can be written only by a BagWriter that was given the contract, which names the joints")
    return contract


_ENCODERS: dict[type, tuple[str, Callable[[Any, Contract | None, RosOffset], tuple[Any, int]]]] = {
    JointState: (JOINT_STATE, _joint_state),
    Applied: (JOINT_STATE, _applied),
    Measurement: (TENSOR, _measurement),
    Latent: (TENSOR, _latent),
    Plan: (PLAN, _plan),
    Info: (INFO, _info),
    Event: (EVENT, _event),
}


def event_from_header(frame_id: str, stamp: int) -> Event:
    """Read `kind` or `kind: note`."""
    kind, _, note = frame_id.partition(": ")
    return Event(stamp=stamp, kind=kind, note=note)


def cdr_from_ros1(message: Any) -> bytes:
    """A stamped ROS 1 message as ROS 2 bytes: the same fields but for `header.seq`, which ROS 2 does not have."""
    store, kind = typestore(), message.__msgtype__
    values = {name: getattr(message, name) for name, _ in store.fielddefs[kind][1]}
    values["header"] = store.types[EVENT](stamp=message.header.stamp, frame_id=message.header.frame_id)
    return bytes(store.serialize_cdr(store.types[kind](**values), kind))


def plan_from_ros(message: Any, contract: Contract, topic: str) -> Plan:
    """A recorded plan, its joints looked up by name; `start` stays ROS time.

    Raises:
        BagError: naming the missing joint, the foreign frame_id or the missing field.
    """
    names = list(message.joint_names)
    missing = [name for name in contract.action.names if name not in names]
    if missing:
        raise BagError(f"{topic}: no joint {', '.join(missing)} in a plan; there are {', '.join(names) or 'none'}")
    parts = str(message.header.frame_id).split(":", 2)
    if len(parts) != 3 or parts[0] != "plan" or not INDEX.fullmatch(parts[1]):
        raise BagError(f"{topic}: frame_id must read plan:<index>:<bundle id>, got {message.header.frame_id!r}")
    field = TRAJECTORY_FIELDS[contract.action.mode]
    columns = [names.index(name) for name in contract.action.names]
    rows = [np.asarray(getattr(point, field), np.float64) for point in message.points]
    if not rows or any(len(row) != len(names) for row in rows):
        raise BagError(f"{topic}: plan {parts[1]} lacks {field} for its {len(names)} joints")
    return Plan(
        index=int(parts[1]),
        start=message.header.stamp.sec * NS_PER_S + message.header.stamp.nanosec,
        step=round(NS_PER_S / contract.model_hz),
        actions=np.stack(rows)[:, columns],
        bundle_id=parts[2],
    )
