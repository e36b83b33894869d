"""camera_node: the contract's images from a `robot_wm.cameras` plug-in, where no ROS driver publishes them."""

from __future__ import annotations

from collections import Counter

from sensor_msgs.msg import Image

from robot_wm.buses.base import open_cameras, read_options
from robot_wm.errors import RobotWmError
from robot_wm.timebase import NS_PER_S
from ros_nodes import topics
from ros_nodes.base import ERROR, OK, WARN, Base, Status
from ros_nodes.convert import pixels_to_msg
from ros_nodes.node_process import run_node


class CameraNode(Base):
    """Publishes each image on its topic in the contract, stamped at its capture."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        self.text("cameras", "", "Plug-in of the entry-point group robot_wm.cameras")
        self.text("camera_options", "{}", "Options of the plug-in, as a JSON object")
        self.number("rate_hz", 200.0, 1.0, 2000.0, "How often the plug-in is asked [Hz]")

    def configure(self) -> None:
        contract = self.read_contract()
        options = read_options(self.value("camera_options"), "camera_options")
        self._cameras = open_cameras(self.value("cameras"), contract, **options)
        publishers = {topic: self.advertise(Image, topic, topics.foreign()) for topic in topics.images(contract)}
        self._outlets = {item.name: publishers[item.topic] for item in contract.images}
        self._counts: Counter[str] = Counter()
        self._heard_at = 0
        self._problem = ""
        self.every(1.0 / float(self.value("rate_hz")), self._poll)

    def cleanup(self) -> None:
        cameras = getattr(self, "_cameras", None)
        if cameras is not None:
            cameras.close()

    def status(self) -> Status:
        values: dict[str, object] = {f"sent {name}": count for name, count in self._counts.items()}
        values |= self._cameras.figures()
        silent = (self.clock_.now() - self._heard_at) / NS_PER_S
        if self._problem:
            return ERROR, self._problem, values
        if silent > 1.0:
            return WARN, f"nothing from the cameras {f'for {silent:.0f} s' if self._heard_at else 'yet'}", values
        return OK, "streaming", values

    def _poll(self) -> None:
        if not self.active:
            return
        try:
            pictures = self._cameras.poll()
        except RobotWmError as error:
            self._problem = str(error)
            return
        for name, stamp, pixels in pictures:
            self._outlets[name].publish(pixels_to_msg(stamp, pixels, name, self.offset))
            self._counts[name] += 1
            self._heard_at, self._problem = self.clock_.now(), ""


def main() -> None:
    run_node(CameraNode)


if __name__ == "__main__":
    main()
