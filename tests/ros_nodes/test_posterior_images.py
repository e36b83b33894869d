"""posterior_node with a camera: latents go on however slow the image encoder, and every image is accounted for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")
pytest.importorskip("onnx", reason="needs the extra `train`")

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg

sys.path.append(str(Path(__file__).parents[1] / "robot_wm"))

from robot_wm.contract import load_contract
from robot_wm.messages import JointState
from robot_wm.timebase import NS_PER_S, Grid, MonotonicClock, RosOffset
from ros_nodes import topics
from ros_nodes.convert import joint_state_to_msg, latent_from_msg, pixels_to_msg
from ros_nodes.processes import Command, Supervisor
from ros_nodes.session import Session
from seeing_bundle import write_seeing_bundle

pytestmark = pytest.mark.ros
CONTRACT = load_contract(Path(__file__).parents[2] / "sim" / "contracts" / "cartpole_camera.yaml")
SHAPE = CONTRACT.images[0].shape
PREFIX = "image camera "
BRIGHTNESS, SEEN = 2, 3  # components of the latent


class Robot:
    """Publishes joints at every instant, and images; hears latents."""

    def __init__(self):
        self._context = Context()
        rclpy.init(context=self._context)
        node = rclpy.create_node("robot", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._clock, self._offset, self._grid = MonotonicClock(), RosOffset.measure(), Grid(CONTRACT.model_hz)
        self._joints = node.create_publisher(JointStateMsg, topics.JOINT_STATES, topics.stream(50))
        self._images = node.create_publisher(Image, "camera/image_raw", topics.foreign())
        node.create_subscription(Image, topics.LATENT, self._on_latent, topics.stream(50))
        self.latents = []
        self.instants = 0

    def close(self):
        self._executor.shutdown()
        rclpy.try_shutdown(context=self._context)

    def _on_latent(self, msg):
        self.latents.append(latent_from_msg(msg, self._offset, topics.LATENT, self._grid))

    def instant(self):
        """Wait for the next instant, and publish the joints at it."""
        stamp = self._grid.stamp(self._grid.ceil(self._clock.now() + 1))
        while (left := stamp - self._clock.now()) > 0:
            self._executor.spin_once(left / NS_PER_S)
        self.instants += 1
        zero = np.zeros(1)
        self._joints.publish(joint_state_to_msg(JointState(stamp, ("slider",), zero, zero, zero), self._offset))
        return stamp

    def is_seen(self):
        return self._images.get_subscription_count() > 0

    def look(self, stamp):
        """Publish a white image."""
        self._images.publish(pixels_to_msg(stamp, np.full(SHAPE, 255, np.uint8), "camera", self._offset))

    def look_unstamped(self, stamp):
        self._images.publish(Image())

    def until(self, condition, look=lambda stamp: None):
        """Publish joints at every instant, and `look` at it, until it is true; images may be lost on their way."""
        end = self._clock.now() + 300 * NS_PER_S
        while not condition():
            assert self._clock.now() < end, "waited too long"
            look(self.instant())


@pytest.fixture
def robot(domain):
    made = Robot()
    yield made
    made.close()


def test_latents_go_on_while_an_image_is_encoded_and_every_image_is_accounted_for(robot, tmp_path):
    bundle = write_seeing_bundle(tmp_path / "bundle", CONTRACT)
    supervisor = Supervisor(tmp_path / "logs", dict(os.environ))
    parameters = (f"bundle:={bundle.path}", "autostart:=true", "encoder_busy_s:=0.4", "history_s:=10.0")
    arguments = [item for parameter in parameters for item in ("-p", parameter)]
    supervisor.start(Command("posterior_node", ("-m", "ros_nodes.posterior_node", "--ros-args", *arguments)))
    try:
        with Session("", supervisor.check) as session:
            session.wait_active(["posterior_node"])

            def figures():
                session.spin(0.001)
                said = session.diagnostics.get("posterior_node", (0, "", {}))[2]
                return {
                    k.removeprefix("image camera "): int(v)
                    for k, v in said.items()
                    if k.startswith("image camera") and v.isdigit()
                }

            robot.until(lambda: robot.latents and robot.is_seen())
            begun = robot.instants
            robot.until(lambda: robot.latents[-1].values[SEEN] > 0, robot.look)
            published = robot.instants - begun
            seen = [latent.values[SEEN] > 0 for latent in robot.latents]
            corrected = robot.latents[-1].values
            robot.until(lambda: figures().get("rejected malformed"), robot.look_unstamped)
            killed = supervisor.stop(patience_s=20.0)
            session.spin(0.5)
            counted = figures()
    finally:
        supervisor.stop()
    assert killed == []
    assert (
        seen.index(True) > published // 2
    )  # the encoding took 20 instants, and the latents of that time came before its correction
    assert corrected[BRIGHTNESS] == corrected[SEEN]
    assert counted["applied"] > 0
    assert counted["received"] == sum(n for key, n in counted.items() if key not in ("received", "under way"))
    assert counted["under way"] == 0
