"""Read any bag: rosbag2 as MCAP (Jazzy) or SQLite (Humble), and ROS 1. Joints are looked up by name, times are stamps.

What cannot be trusted is refused with the topic, the joint and the stamp, or dropped and counted where the caller says so.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from robot_wm.bags import cdr
from robot_wm.bags.series import Policy, Series, clean
from robot_wm.bags.storage import Storage, find_storage
from robot_wm.bags.types import (
    EVENT,
    INFO,
    JOINT_STATE,
    OFF,
    PLAN,
    TENSOR,
    cdr_from_ros1,
    event_from_header,
    plan_from_ros,
)
from robot_wm.bags.writer import CONTRACT_KEY, absolute
from robot_wm.contract import Contract, parse_contract
from robot_wm.errors import BagError, MessageError
from robot_wm.info import Info, from_pairs
from robot_wm.messages import Event, FloatArray, Plan
from robot_wm.timebase import NS_PER_S
from robot_wm.yaml_text import read_yaml

BLOCK = 16384  # messages decoded at once
LAYOUTS = {JOINT_STATE: cdr.joint_state_layout, TENSOR: cdr.tensor_layout}


@dataclass(frozen=True)
class Topic:
    """One topic of a bag."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class Bag:
    """An opened bag; made by `open_bag`. Every read goes through the file again, except for rows already decoded."""

    storage: Storage
    topics: dict[str, Topic]
    start: int  # first and last receive stamp, ROS time [ns]
    end: int
    _blocks: dict[str, tuple[list[cdr.Block], NDArray[np.int64]]] = field(default_factory=dict, repr=False)

    @property
    def path(self) -> Path:
        return self.storage.path

    @property
    def custom_data(self) -> dict[str, str]:
        return self.storage.custom_data

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / NS_PER_S

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the data files, 16 hex digits: what a cache or a manifest knows the bag by."""
        digest = hashlib.sha256()
        for path in self.storage.files:
            with path.open("rb") as file:
                while data := file.read(1 << 20):
                    digest.update(data)
        return digest.hexdigest()[:16]

    @cached_property
    def contract(self) -> Contract | None:
        """The contract it was recorded with, where the recorder left one. Raises BagError, ContractError when it is damaged."""
        text = self.custom_data.get(CONTRACT_KEY)
        if text is None:
            return None
        try:
            data = read_yaml(text)
        except yaml.YAMLError as error:
            raise BagError(f"{self.path}: its contract: is not YAML: {str(error).splitlines()[0]}") from error
        return parse_contract(data, f"{self.path}: its contract")

    def find(self, name: str) -> Topic | None:
        """The topic called `name`, or the only one that ends with it (a namespaced robot)."""
        if absolute(name) in self.topics:
            return self.topics[absolute(name)]
        ends = [topic for key, topic in self.topics.items() if key.endswith(absolute(name))]
        return ends[0] if len(ends) == 1 else None

    def topic(self, name: str) -> Topic:
        """Like `find`. Raises BagError listing the topics that are there."""
        found = self.find(name)
        if found is None:
            there = ", ".join(f"{t.name} ({t.type})" for t in self.topics.values()) or "none"
            raise BagError(f"{self.path}: no topic {absolute(name)}; there are {there}")
        return found

    def read_joints(self, name: str, part: str, joints: Iterable[str], policy: Policy | None = None) -> Series:
        """Read `part` (position, velocity, effort) of a JointState topic, its columns in the order of `joints`.

        Messages that do not name all of the joints, or leave the part empty, are passed over and counted.

        Raises:
            BagError: missing topic, joint or part (listing those that are there), a number that is not finite, or a stamp
                that goes backwards.
        """
        topic, wanted = self.topic(name), tuple(joints)
        blocks, receive = self._decoded(topic, JOINT_STATE)
        usable = [b for b in blocks if set(wanted) <= set(b.names) and b.fields[part].shape[1]]
        if not usable:
            raise BagError(f"{self.path}: {topic.name}: {_nothing_there(blocks, part, wanted)}")
        columns = [b.fields[part][:, [b.names.index(joint) for joint in wanted]] for b in usable]
        series = _join(topic.name, usable, columns, receive)
        return clean(series, tuple(f"{part} of {joint}" for joint in wanted), policy or Policy(), str(self.path))

    def read_tensor(self, name: str, columns: slice, names: Iterable[str], policy: Policy | None = None) -> Series:
        """Read components of a 32FC1 tensor topic; `names` tells them apart in errors. Raises BagError as `read_joints`."""
        topic = self.topic(name)
        blocks, receive = self._decoded(topic, TENSOR)
        sizes = sorted({b.fields["data"].shape[1] for b in blocks})
        if not blocks or sizes[0] < columns.stop:
            there = ", ".join(map(str, sizes)) or "no messages"
            raise BagError(f"{self.path}: {topic.name}: {columns.stop} components are needed, there are {there}")
        series = _join(topic.name, blocks, [b.fields["data"][:, columns] for b in blocks], receive)
        return clean(series, tuple(names), policy or Policy(), str(self.path))

    def joints(self, name: str) -> tuple[str, ...]:
        """Every joint that a JointState topic names, in the order of first appearance."""
        blocks, _ = self._decoded(self.topic(name), JOINT_STATE)
        return tuple(dict.fromkeys(joint for block in blocks for joint in block.names))

    def frame_ids(self, name: str) -> list[str]:
        """The frame_id of every message of a JointState or tensor topic, in the order of the bag."""
        topic = self.topic(name)
        blocks, receive = self._decoded(topic, topic.type)
        result = [""] * len(receive)
        for block in blocks:
            for row, text in zip(block.rows.tolist(), block.frame_ids(), strict=True):
                result[row] = text
        return result

    def driven(self, name: str) -> NDArray[np.bool_]:
        """Whether the motors were powered, for every message of a topic such as `applied`, in the order of the bag."""
        topic = self.topic(name)
        blocks, receive = self._decoded(topic, topic.type)
        result = np.ones(len(receive), bool)
        mark = np.frombuffer(OFF.encode(), np.uint8)
        for block in blocks:
            if block.frames.shape[1] >= len(mark):
                result[block.rows] = (block.frames[:, -len(mark) :] != mark).any(axis=1)
        return result

    def events(self, name: str = "event") -> list[Event]:
        """Episode and operator marks by stamp; empty where the bag has none."""
        topic = self.find(name)
        if topic is None or topic.type != EVENT:
            return []
        found = [event_from_header(m.frame_id, _stamp(m.stamp) or receive) for receive, m in self.messages(topic.name)]
        return sorted(found, key=lambda event: event.stamp)

    def plans(self, contract: Contract, name: str = "plan") -> list[tuple[int, Plan]]:
        """Every recorded plan with its receive stamp; `start` is ROS time [ns]."""
        topic = self._of_type(name, PLAN)
        return [(receive, plan_from_ros(m, contract, topic.name)) for receive, m in self.messages(topic.name)]

    def infos(self, name: str, kind: type[Info]) -> list[tuple[int, Info]]:
        """Every PlanInfo or CorrectionInfo of a topic with its header stamp, ROS time [ns]."""
        topic = self._of_type(name, INFO)
        result = []
        for _, message in self.messages(topic.name):
            for status in message.status:
                try:
                    info = from_pairs(kind, [(pair.key, pair.value) for pair in status.values])
                except MessageError as error:
                    raise BagError(f"{self.path}: {topic.name}: {error}") from error
                result.append((_stamp(message.header.stamp), info))
        return result

    def messages(self, name: str) -> Iterator[tuple[int, Any]]:
        """Every message of one topic as (receive stamp [ns], object with the message's fields), in the order of the bag."""
        topic = self.topic(name)
        with self.storage.reader() as reader:
            connections = [c for c in reader.connections if c.topic == topic.name]
            for connection, receive, data in reader.messages(connections):
                yield receive, reader.deserialize(data, connection.msgtype)

    def arrivals(self) -> dict[str, NDArray[np.int64]]:
        """Receive stamps [ns] of every message, by topic."""
        stamps: dict[str, array[int]] = {topic.name: array("q") for topic in self.topics.values()}
        with self.storage.reader() as reader:
            for connection, receive, _ in reader.messages():
                stamps[connection.topic].append(receive)
        return {
            name: np.frombuffer(found, np.int64) if found else np.zeros(0, np.int64) for name, found in stamps.items()
        }

    def load(self, names: Iterable[str]) -> None:
        """Decode several JointState and tensor topics in one pass over the file; later reads of them cost nothing."""
        topics = [self.topic(name) for name in names]
        wanted = {t.name: t for t in topics if t.name not in self._blocks and t.type in LAYOUTS}
        if not wanted:
            return
        pending: dict[str, list[bytes]] = {name: [] for name in wanted}
        receives: dict[str, list[int]] = {name: [] for name in wanted}
        blocks: dict[str, list[cdr.Block]] = {name: [] for name in wanted}
        with self.storage.reader() as reader:
            for connection, receive, data in reader.messages([c for c in reader.connections if c.topic in wanted]):
                name = connection.topic
                pending[name].append(
                    data if reader.is2 else cdr_from_ros1(reader.deserialize(data, connection.msgtype))
                )
                receives[name].append(receive)
                if len(pending[name]) == BLOCK:
                    blocks[name] += self._decode(wanted[name], pending, len(receives[name]))
        for name, topic in wanted.items():
            blocks[name] += self._decode(topic, pending, len(receives[name]))
            self._blocks[name] = (cdr.merge(blocks[name]), np.array(receives[name], np.int64))

    def _decode(self, topic: Topic, pending: dict[str, list[bytes]], seen: int) -> list[cdr.Block]:
        messages, pending[topic.name] = pending[topic.name], []
        try:
            return cdr.decode(messages, LAYOUTS[topic.type], seen - len(messages))
        except cdr.DecodeError as error:
            raise BagError(f"{self.path}: {topic.name}: {error}") from error

    def _decoded(self, topic: Topic, msgtype: str) -> tuple[list[cdr.Block], NDArray[np.int64]]:
        if topic.type != msgtype or msgtype not in LAYOUTS:
            raise BagError(f"{self.path}: {topic.name} carries {topic.type}; {msgtype} is needed")
        self.load([topic.name])
        return self._blocks[topic.name]

    def _of_type(self, name: str, msgtype: str) -> Topic:
        topic = self.topic(name)
        if topic.type != msgtype:
            raise BagError(f"{self.path}: {topic.name} carries {topic.type}; {msgtype} is needed")
        return topic


def open_bag(path: Path | str) -> Bag:
    """Open a rosbag2 directory, a bare `.mcap` or `.db3` file, or a ROS 1 `.bag`.

    Raises:
        BagError: when there is none, when it was cut off (naming the command that salvages it), or when it is damaged.
    """
    storage = find_storage(Path(path))
    with storage.reader() as reader:
        topics: dict[str, Topic] = {}
        for connection in reader.connections:
            name = absolute(connection.topic)
            known = topics.get(name)
            count = connection.msgcount + (known.count if known else 0)
            topics[name] = Topic(connection.topic, connection.msgtype, count)
        empty = not sum(topic.count for topic in topics.values())
        start, end = (0, 0) if empty else (reader.start_time, reader.end_time - 1)
    return Bag(storage, topics, start, end)


def _join(topic: str, blocks: list[cdr.Block], values: list[FloatArray], receive: NDArray[np.int64]) -> Series:
    rows = np.concatenate([b.rows for b in blocks])
    order = np.argsort(rows, kind="stable")
    rows, skipped = rows[order], len(receive) - len(rows)
    stamps = np.concatenate([b.stamps for b in blocks])[order]
    report = {"without these joints": skipped} if skipped else {}
    return Series(topic, stamps, receive[rows], np.concatenate(values)[order], rows, report)


def _nothing_there(blocks: list[cdr.Block], part: str, wanted: tuple[str, ...]) -> str:
    if not blocks:
        return "it holds no messages"
    there = tuple(dict.fromkeys(joint for block in blocks for joint in block.names))
    missing = [joint for joint in wanted if joint not in there]
    if missing:
        return f"no joint {', '.join(missing)}; there are {', '.join(there) or 'none'}"
    parts = [name for name in ("position", "velocity", "effort") if any(b.fields[name].shape[1] for b in blocks)]
    if part not in parts:
        return f"its messages have no {part}; they have {', '.join(parts) or 'no numbers at all'}"
    return f"no message has {part} of all of {', '.join(wanted)} together"


def _stamp(time: Any) -> int:
    return int(time.sec) * NS_PER_S + int(time.nanosec)
