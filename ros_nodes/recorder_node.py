"""recorder_node: every topic of the stack, as serialised bytes, into a crash-safe bag; episode marks as services."""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from rclpy.qos import QoSProfile
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from robot_wm.bags.writer import BagWriter
from robot_wm.errors import BagError, RunError
from robot_wm.messages import Event
from robot_wm.timebase import NS_PER_S
from ros_nodes import topics
from ros_nodes.base import ERROR, OK, WARN, Base, Status
from ros_nodes.convert import event_to_msg
from ros_nodes.node_process import run_node

MARKS = ("start", "end", "success", "failure", "mark")
POLL_S = 0.1
BEHIND = 100  # images that may wait for a recorder that is behind
QUIET = NS_PER_S // 5  # without a message: what was sent before the end has been written
CATCH_UP = 3 * NS_PER_S  # longest time for that


class RecorderNode(Base):
    """Records under the relative topic names of the contract, whatever namespace the robot runs in."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        self.text("bag", "", "Directory of the bag to write; numbered when it exists")
        self.text("extra_topics", "", "More topics, as `name=package/msg/Type` separated by commas")
        self.flag("sync", True, "Wait for the disk at every flush, against power cuts")
        self._received = self._sent = 0  # the newest message: when it came and when it was stamped [ns, ROS time]
        self._ending_since = 0

    def configure(self) -> None:
        contract = self.read_contract()
        if not self.value("bag"):
            raise RunError("recorder_node: set the parameter `bag` to the directory of the bag to write")
        wanted, extra = topics.recorded(contract), _extra(self.value("extra_topics"))
        custom = {"bundle": self.value("bundle"), "middleware": get_rmw_implementation_identifier()}
        self._writer = BagWriter(_unused(Path(self.value("bag"))), contract, custom, sync=self.value("sync"))
        self._problem = ""
        for topic, kind in wanted.items():
            qos = topics.foreign(BEHIND) if topic in topics.images(contract) else topics.recording(topic)
            self._record(topic, kind, qos)
        for topic, kind in extra.items():
            if topic not in wanted:
                self._record(topic, kind, topics.foreign())
        self._events = self.advertise(Header, topics.EVENT, topics.latched(10))
        for mark in MARKS:
            self.serve(Trigger, f"~/{mark}", self._marker(mark))
        self.every(POLL_S, self._poll)

    def cleanup(self) -> None:
        writer = getattr(self, "_writer", None)
        if writer is not None:
            writer.close()

    def finished(self) -> bool:
        """On a loaded machine the recorder may be behind: what was sent before the end is still written."""
        now = self.offset.to_ros(self.clock_.now())
        self._ending_since = self._ending_since or now
        quiet = now - max(self._received, self._ending_since) > QUIET
        return quiet or self._sent > self._ending_since or now - self._ending_since > CATCH_UP

    def status(self) -> Status:
        counts = self._writer.counts
        values: dict[str, object] = {f"recorded {topic}": count for topic, count in counts.items()}
        values["bag"] = str(self._writer.path)
        if self._problem:
            return ERROR, self._problem, values
        if not any(counts.values()):
            return WARN, "nothing to record yet", values
        return OK, f"recording {sum(count > 0 for count in counts.values())} topics", values

    def _record(self, topic: str, kind: type, qos: QoSProfile) -> None:
        name = _type_name(kind)
        first = next(iter(kind.get_fields_and_field_types().values()), "")  # type: ignore[attr-defined]
        stamped = first in ("std_msgs/Header", "builtin_interfaces/Time")

        def write(data: bytes) -> None:
            self._received = received = self.offset.to_ros(self.clock_.now())
            self._sent = stamp = _stamp(data) if stamped else received
            self._guarded(lambda: self._writer.write_raw(topic, name, data, stamp, received))

        self.subscribe(kind, topic, write, qos, raw=True)

    def _guarded(self, work: Callable[[], None]) -> None:
        """A full disk ends the recording, never the robot."""
        if self._problem:
            return
        try:
            work()
        except BagError as error:
            self._problem = str(error)
            self.get_logger().error(self._problem)

    def _poll(self) -> None:
        self._guarded(self._writer.poll)

    def _marker(self, kind: str) -> Callable[[Any, Any], Any]:
        def mark(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            event = Event(self.clock_.now(), kind)
            self._events.publish(event_to_msg(event, self.offset))
            response.success, response.message = True, f"marked {kind}"
            return response

        return mark


def _unused(path: Path) -> Path:
    """The path, numbered when a recorder before this one has used it: a bag is never written over."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}_{number}")
    return candidate


def _stamp(data: bytes) -> int:
    """ROS time [ns] of a serialised message that starts with a stamp (CDR: 4 bytes of encapsulation, then the fields)."""
    order = "<" if data[1] & 1 else ">"
    sec, nanosec = struct.unpack_from(f"{order}iI", data, 4)
    return int(sec) * NS_PER_S + int(nanosec)


def _extra(text: str) -> dict[str, type]:
    """Raises RunError naming the topic whose type cannot be had."""
    result: dict[str, type] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        topic, _, name = item.partition("=")
        package, _, kind = name.partition("/msg/")
        try:
            result[topic] = getattr(import_module(f"{package}.msg"), kind)
        except (ImportError, AttributeError, ValueError) as error:
            raise RunError(f"extra_topics: {topic}: {name!r} is no message type that is installed here") from error
    return result


def _type_name(kind: type) -> str:
    package, _, _ = kind.__module__.partition(".")
    return f"{package}/msg/{kind.__name__}"


def main() -> None:
    run_node(RecorderNode)


if __name__ == "__main__":
    main()
