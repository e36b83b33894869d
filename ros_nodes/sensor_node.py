"""sensor_node: a stream of observations that are neither joints nor images, and a reward, from a `robot_wm.sensors` plug-in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sensor_msgs.msg import Image

from robot_wm.buses.base import open_sensors, read_options
from robot_wm.errors import BusError
from robot_wm.timebase import NS_PER_S
from ros_nodes import topics
from ros_nodes.base import ERROR, OK, WARN, Base, Status
from ros_nodes.convert import tensor_to_msg
from ros_nodes.node_process import run_node


class SensorNode(Base):
    """Publishes one stamped 32FC1 tensor per reading, on the topic that the plug-in names."""

    def __init__(self) -> None:
        super().__init__("sensor_node")
        self.text("sensors", "", "Plug-in of the entry-point group robot_wm.sensors")
        self.text("sensor_options", "{}", "Options of the plug-in, as a JSON object")
        self.number("rate_hz", 200.0, 1.0, 2000.0, "How often the plug-in is asked [Hz]")

    def configure(self) -> None:
        self.contract = self.read_contract()
        options = read_options(self.value("sensor_options"), "sensor_options")
        self._sensors = open_sensors(self.value("sensors"), self.contract, **options)
        self._tensors: dict[str, Any] = {}
        self._counts: Counter[str] = Counter()
        self._heard_at = 0
        self._problem = ""
        self.every(1.0 / float(self.value("rate_hz")), self._poll)

    def cleanup(self) -> None:
        sensors = getattr(self, "_sensors", None)
        if sensors is not None:
            sensors.close()

    def status(self) -> Status:
        values: dict[str, object] = {f"sent {topic}": count for topic, count in self._counts.items()}
        silent = (self.clock_.now() - self._heard_at) / NS_PER_S
        if self._problem:
            return ERROR, self._problem, values
        if silent > 1.0:
            return WARN, f"nothing from the sensors {f'for {silent:.0f} s' if self._heard_at else 'yet'}", values
        return OK, "streaming", values

    def _poll(self) -> None:
        if not self.active:
            return
        try:
            readings = self._sensors.poll()
        except BusError as error:
            self._problem = str(error)
            return
        for topic, stamp, values in readings:
            if topic not in self._tensors:
                self._tensors[topic] = self.advertise(Image, topic, topics.stream(self.contract.motor_hz))
            self._tensors[topic].publish(tensor_to_msg(stamp, values, topic, self.offset))
            self._counts[topic] += 1
            self._heard_at, self._problem = self.clock_.now(), ""


def main() -> None:
    run_node(SensorNode)


if __name__ == "__main__":
    main()
