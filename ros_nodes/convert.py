"""ROS messages to stamped dataclasses and back. Numbers pass as arrays, never as lists; what is not usable is refused here.

Stamps are ROS time in messages and monotonic nanoseconds in dataclasses; `RosOffset` is applied here and nowhere else.
Every `*_from_msg` raises MessageError, naming the topic and what is wrong with the message.
"""

from __future__ import annotations

import array
from collections.abc import Iterable

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robot_wm.contract import Contract
from robot_wm.errors import MessageError
from robot_wm.images import Pixels, encoding_of
from robot_wm.info import CorrectionInfo, Info, PlanInfo, from_pairs, to_pairs
from robot_wm.messages import Applied, Command, Event, FloatArray, JointState, Latent, Measurement, Plan
from robot_wm.timebase import NS_PER_S, Grid, RosOffset

TRAJECTORY_FIELDS = {"position": "positions", "velocity": "velocities", "effort": "effort"}
OFF = ":off"  # suffix of an applied command's frame_id while the motors are not powered


def time_to_msg(stamp: int, offset: RosOffset) -> Time:
    """Monotonic [ns] to a ROS stamp."""
    sec, nanosec = divmod(offset.to_ros(stamp), NS_PER_S)
    return Time(sec=sec, nanosec=nanosec)


def time_from_msg(stamp: Time, offset: RosOffset, topic: str) -> int:
    """ROS stamp to monotonic [ns]. Raises MessageError for a message that was never stamped."""
    if stamp.sec == 0 and stamp.nanosec == 0:
        raise MessageError(f"{topic}: the message has no stamp; its driver must fill header.stamp")
    return offset.to_monotonic(stamp.sec * NS_PER_S + stamp.nanosec)


def joint_state_to_msg(state: JointState, offset: RosOffset) -> JointStateMsg:
    """Joints in the order of `state.names`; a field that was not measured stays empty."""
    return JointStateMsg(
        header=Header(stamp=time_to_msg(state.stamp, offset)),
        name=list(state.names),
        position=_doubles(state.position),
        velocity=_doubles(state.velocity),
        effort=_doubles(state.effort),
    )


def joint_state_from_msg(msg: JointStateMsg, offset: RosOffset, topic: str) -> JointState:
    """Refuses repeated names, fields whose length is neither 0 nor the number of names, and non-finite numbers."""
    names = tuple(msg.name)
    if len(set(names)) != len(names):
        raise MessageError(f"{topic}: a joint is named twice in {', '.join(names)}")
    values = {}
    for field in ("position", "velocity", "effort"):
        numbers = np.array(getattr(msg, field), dtype=np.float64)
        if len(numbers) not in (0, len(names)):
            raise MessageError(f"{topic}: {field} has {len(numbers)} entries for {len(names)} joints")
        values[field] = _finite(numbers, names, f"{topic}: {field}")
    return JointState(stamp=time_from_msg(msg.header.stamp, offset, topic), names=names, **values)


def tensor_to_msg(stamp: int, values: FloatArray, frame_id: str, offset: RosOffset) -> Image:
    """A stamped vector as a 32FC1 image of height 1, which standard tools can show."""
    data = np.ascontiguousarray(values, dtype="<f4").ravel()
    return Image(
        header=Header(stamp=time_to_msg(stamp, offset), frame_id=frame_id),
        height=1,
        width=data.size,
        encoding="32FC1",
        is_bigendian=0,
        step=data.size * 4,
        data=array.array("B", data.tobytes()),
    )


def pixels_to_msg(stamp: int, pixels: Pixels, frame_id: str, offset: RosOffset) -> Image:
    """Pixels (H, W, C) uint8 as rgb8 or mono8."""
    height, width, channels = pixels.shape
    return Image(
        header=Header(stamp=time_to_msg(stamp, offset), frame_id=frame_id),
        height=height,
        width=width,
        encoding=encoding_of(pixels),
        is_bigendian=0,
        step=width * channels,
        data=array.array("B", np.ascontiguousarray(pixels).tobytes()),
    )


def tensor_from_msg(msg: Image, offset: RosOffset, topic: str, size: int | None = None) -> tuple[int, FloatArray, str]:
    """Return (stamp [ns], values (size,) float32, frame_id); refuses another encoding, shape or size, and non-finite numbers."""
    if msg.encoding != "32FC1" or msg.height != 1:
        raise MessageError(f"{topic}: a 32FC1 image of height 1 is needed, got {msg.encoding!r} of height {msg.height}")
    if len(msg.data) != 4 * msg.width:
        raise MessageError(f"{topic}: {len(msg.data)} bytes of data do not make {msg.width} float32 numbers")
    if size is not None and msg.width != size:
        raise MessageError(f"{topic}: {size} numbers are needed, got {msg.width}")
    raw = np.frombuffer(msg.data, dtype=">f4" if msg.is_bigendian else "<f4").astype(np.float32)
    values = _finite(raw, (), topic)
    return time_from_msg(msg.header.stamp, offset, topic), values, msg.header.frame_id


def latent_to_msg(latent: Latent, offset: RosOffset) -> Image:
    """The latent as a stamped tensor; frame_id names the bundle that made it."""
    return tensor_to_msg(latent.stamp, latent.values, latent.bundle_id, offset)


def latent_from_msg(msg: Image, offset: RosOffset, topic: str, grid: Grid) -> Latent:
    """Latents lie on the grid, so the stamp is snapped to it: clock conversion must not shift it by nanoseconds."""
    stamp, values, bundle_id = tensor_from_msg(msg, offset, topic)
    return Latent(stamp=grid.stamp(grid.nearest(stamp)), values=values, bundle_id=bundle_id)


def applied_to_msg(applied: Applied, contract: Contract, offset: RosOffset) -> JointStateMsg:
    """What was really sent, in the field of the contract's action mode; frame_id names its source."""
    source = applied.source if applied.driven else applied.source + OFF
    msg = JointStateMsg(
        header=Header(stamp=time_to_msg(applied.stamp, offset), frame_id=source), name=list(contract.action.names)
    )
    setattr(msg, _part(contract), _doubles(applied.values))
    return msg


def applied_from_msg(msg: JointStateMsg, contract: Contract, offset: RosOffset, topic: str) -> Applied:
    """The action joints are looked up by name, so their order in the message does not matter."""
    state = joint_state_from_msg(msg, offset, topic)
    field = _part(contract)
    source = msg.header.frame_id
    return Applied(
        stamp=state.stamp,
        values=pick(state, field, contract.action.names, topic),
        source=source.removesuffix(OFF),
        driven=not source.endswith(OFF),
    )


def command_from_msg(msg: JointStateMsg, contract: Contract, offset: RosOffset, topic: str) -> Command:
    """What an operator or external driver asks for; the action joints are looked up by name."""
    state = joint_state_from_msg(msg, offset, topic)
    return Command(stamp=state.stamp, values=pick(state, contract.action.mode, contract.action.names, topic))


def command_to_msg(command: Command, contract: Contract, offset: RosOffset) -> JointStateMsg:
    """For teleoperation."""
    msg = JointStateMsg(header=Header(stamp=time_to_msg(command.stamp, offset)), name=list(contract.action.names))
    setattr(msg, contract.action.mode, _doubles(command.values))
    return msg


def plan_to_msg(plan: Plan, contract: Contract, offset: RosOffset) -> JointTrajectory:
    """Row i holds from header.stamp + time_from_start of point i on; frame_id is `plan:<index>:<bundle id>`."""
    field = TRAJECTORY_FIELDS[contract.action.mode]
    points = []
    for i, row in enumerate(plan.actions):
        sec, nanosec = divmod(i * plan.step, NS_PER_S)
        point = JointTrajectoryPoint(time_from_start=Duration(sec=sec, nanosec=nanosec))
        setattr(point, field, _doubles(row))
        points.append(point)
    header = Header(stamp=time_to_msg(plan.start, offset), frame_id=f"plan:{plan.index}:{plan.bundle_id}")
    return JointTrajectory(header=header, joint_names=list(contract.action.names), points=points)


def plan_from_msg(msg: JointTrajectory, contract: Contract, offset: RosOffset, topic: str) -> Plan:
    """Refuses missing joints, more than one action mode, another time step than the model's, and non-finite numbers."""
    grid = Grid(contract.model_hz)
    field = TRAJECTORY_FIELDS[contract.action.mode]
    columns = _columns(tuple(msg.joint_names), contract.action.names, topic)
    if not msg.points:
        raise MessageError(f"{topic}: the plan has no points")
    rows = []
    for i, point in enumerate(msg.points):
        given = [name for name in TRAJECTORY_FIELDS.values() if len(getattr(point, name))]
        if given != [field]:
            raise MessageError(
                f"{topic}: point {i} must give {field} and nothing else, got {', '.join(given) or 'none'}"
            )
        row = np.array(getattr(point, field), dtype=np.float64)
        if len(row) != len(msg.joint_names):
            raise MessageError(f"{topic}: point {i} has {len(row)} {field} for {len(msg.joint_names)} joints")
        at = point.time_from_start.sec * NS_PER_S + point.time_from_start.nanosec
        if at != i * grid.step:
            raise MessageError(f"{topic}: point {i} lies at {at} ns, the model's step puts it at {i * grid.step} ns")
        rows.append(_finite(row, tuple(msg.joint_names), f"{topic}: point {i}")[columns])
    index, bundle_id = _plan_name(msg.header.frame_id, topic)
    start = time_from_msg(msg.header.stamp, offset, topic)
    return Plan(
        index=index,
        start=grid.stamp(grid.nearest(start)),
        step=grid.step,
        actions=np.stack(rows),
        bundle_id=bundle_id,
    )


def event_to_msg(event: Event, offset: RosOffset) -> Header:
    """Events and states travel as std_msgs/Header: a stamp, and `kind` or `kind: note` as frame_id."""
    text = f"{event.kind}: {event.note}" if event.note else event.kind
    return Header(stamp=time_to_msg(event.stamp, offset), frame_id=text)


def event_from_msg(msg: Header, offset: RosOffset, topic: str) -> Event:
    kind, _, note = msg.frame_id.partition(": ")
    if not kind:
        raise MessageError(f"{topic}: an event without a kind")
    return Event(stamp=time_from_msg(msg.stamp, offset, topic), kind=kind, note=note)


def info_to_msg(info: PlanInfo | CorrectionInfo, stamp: int, name: str, offset: RosOffset) -> DiagnosticArray:
    """Statistics of a plan or a correction; `stamp` is the plan's start or the latent's stamp [ns]."""
    pairs = [KeyValue(key=key, value=value) for key, value in to_pairs(info)]
    status = DiagnosticStatus(level=DiagnosticStatus.OK, name=name, message=info.bundle_id, values=pairs)
    return DiagnosticArray(header=Header(stamp=time_to_msg(stamp, offset)), status=[status])


def info_from_msg(kind: type[Info], msg: DiagnosticArray, offset: RosOffset, topic: str) -> tuple[int, Info]:
    """Return (stamp [ns], info)."""
    if len(msg.status) != 1:
        raise MessageError(f"{topic}: one status is needed, got {len(msg.status)}")
    pairs = [(pair.key, pair.value) for pair in msg.status[0].values]
    return time_from_msg(msg.header.stamp, offset, topic), from_pairs(kind, pairs)


def measurements_from_joints(state: JointState, contract: Contract, topic: str) -> list[Measurement]:
    """Every observation of the contract that `topic` carries, its joints looked up by name."""
    return [
        Measurement(o.name, state.stamp, pick(state, o.field, o.names, topic))
        for o in contract.observations
        if o.topic == topic and o.field != "data"
    ]


def measurements_from_tensor(stamp: int, values: FloatArray, contract: Contract, topic: str) -> list[Measurement]:
    """Split a tensor into the observations it carries: its components are their concatenation in contract order."""
    carried = [o for o in contract.observations if o.topic == topic and o.field == "data"]
    needed = sum(o.size for o in carried)
    if len(values) != needed:
        raise MessageError(
            f"{topic}: {needed} numbers are needed ({', '.join(o.name for o in carried)}), got {len(values)}"
        )
    result, start = [], 0
    for item in carried:
        result.append(Measurement(item.name, stamp, values[start : start + item.size]))
        start += item.size
    return result


def pick(state: JointState, field: str, names: Iterable[str], topic: str) -> FloatArray:
    """Values (len(names),) of one field of a joint state, by name."""
    values: FloatArray = getattr(state, field)
    if not len(values):
        raise MessageError(f"{topic}: {field} is empty; the contract needs it")
    return values[_columns(state.names, tuple(names), topic)]


def require_past(stamp: int, now: int, topic: str, tolerance_s: float = 0.1) -> None:
    """Raise MessageError for a stamp [ns] in the future, as while the system clock is being set: what came after it would count
    as older."""
    if stamp > now + tolerance_s * NS_PER_S:
        raise MessageError(f"{topic}: stamp lies {(stamp - now) / NS_PER_S:.3f} s in the future; check the clocks")


class StampGuard:
    """Refuses stamps of one topic that go backwards or lie in the future.

    After `patience_s` of refusals in a row the newest stamp is believed: a driver that was restarted must not stay locked out.
    """

    def __init__(self, topic: str, future_s: float = 0.1, patience_s: float = 1.0) -> None:
        self.topic = topic
        self.future_s = future_s
        self.patience = round(patience_s * NS_PER_S)
        self.last: int | None = None
        self.refusing_since: int | None = None

    def check(self, stamp: int, now: int) -> None:
        """Raise MessageError unless `stamp` [ns] may follow the previous one at time `now` [ns]."""
        require_past(stamp, now, self.topic, self.future_s)
        if self.last is not None and stamp < self.last:
            self.refusing_since = now if self.refusing_since is None else self.refusing_since
            if now - self.refusing_since < self.patience:
                raise MessageError(f"{self.topic}: stamp goes backwards by {(self.last - stamp) / NS_PER_S:.6f} s")
        self.last, self.refusing_since = stamp, None


def _part(contract: Contract) -> str:
    """Field of a JointState that carries the action; a contract whose logs had a tensor instead says only the mode."""
    action = contract.action
    return action.mode if action.field in ("", "data") else action.field


def _columns(there: tuple[str, ...], needed: tuple[str, ...], topic: str) -> list[int]:
    missing = [name for name in needed if name not in there]
    if missing:
        raise MessageError(f"{topic}: no joint {', '.join(missing)}; there are {', '.join(there) or 'none'}")
    return [there.index(name) for name in needed]


def _finite(values: FloatArray, names: tuple[str, ...], where: str) -> FloatArray:
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        which = names[first] if names else f"component {first}"
        raise MessageError(f"{where} of {which} is not finite ({values[first]})")
    return values


def _doubles(values: FloatArray) -> array.array[float]:
    return array.array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def _plan_name(frame_id: str, topic: str) -> tuple[int, str]:
    parts = frame_id.split(":")
    if len(parts) != 3 or parts[0] != "plan" or not parts[1].isdigit():
        raise MessageError(f"{topic}: frame_id must read plan:<index>:<bundle id>, got {frame_id!r}")
    return int(parts[1]), parts[2]
