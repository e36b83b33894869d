"""The whole stack with a camera as real processes: an encoder slower than the camera costs the motors nothing, no image is lost
without a name, and the bag holds what the robot saw."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")
pytest.importorskip("mujoco", reason="needs the extra `sim`")
pytest.importorskip("onnx", reason="needs the extra `train`")

sys.path.append(str(Path(__file__).parents[1] / "robot_wm"))

from camera_task import camera_task
from robot_wm.backend import Model
from robot_wm.bags.image_series import delays, read_images
from robot_wm.bags.reader import open_bag
from robot_wm.bundle import load_bundle
from robot_wm.replay_plans import replay_plans
from robot_wm.timebase import NS_PER_S
from seeing_bundle import write_seeing_bundle

pytestmark = pytest.mark.ros


@pytest.fixture
def task():
    return camera_task()


def test_an_encoder_slower_than_the_camera_costs_the_motors_nothing(robot_wm, task, tmp_path):
    safety = replace(task.contract.safety, joint_stale_s=10.0, hold_s=60.0)  # a loaded machine
    images = tuple(replace(image, rate_hz=10.0, stale_s=10.0) for image in task.contract.images)
    contract = replace(task.contract, safety=safety, images=images)
    path = write_seeing_bundle(tmp_path / "bundle", contract).path
    options = ["--task", "cartpole_camera", "--bundle", path, "--seconds", 4, "--no-report", "--json"]
    status, figures, errors = robot_wm("sim", *options, "--encoder-busy-ms", 150)
    assert status == 0, errors
    images = figures["images"]["camera"]
    print(figures["ticks_missed"], "of", figures["ticks"], "ticks missed,", images)
    assert images["received"] == images["applied"] + sum(images["rejected"].values()) + images["under_way"]
    assert images["applied"] > 0
    assert images["rejected"]["replaced"] > 0  # ten images a second, 150 ms each
    assert (
        figures["ticks_missed"] < 0.5 * figures["ticks"]
    )  # a loaded machine; docs/benchmarks.md has the figure of an idle one

    bag = open_bag(figures["bag"])
    seen = read_images(bag, contract.images[0])
    late = delays(seen.series)
    assert late.min() >= contract.images[0].delay_s - 0.001  # ROS time is that of the recorder
    stamps = seen.series.stamps / NS_PER_S
    periods = np.diff(stamps) * contract.images[0].rate_hz
    np.testing.assert_allclose(periods, np.round(periods), atol=0.01)  # a slow renderer leaves out whole ones
    qpos = bag.read_tensor("sim_state", slice(0, 2), ["slider", "hinge"])
    row = len(stamps) // 2
    task.data.qpos[:] = qpos.values[np.argmin(np.abs(qpos.stamps - seen.series.stamps[row]))]
    drawn = task.capture("camera", 0).values
    assert np.abs(seen.pixels[row].astype(int) - drawn).mean() < 1.0  # the pole where it was at the capture, not later
    replayed = replay_plans([bag.path], {figures["bundles"][0]: Model(load_bundle(path), "cpu")})
    assert replayed["reproduced"] > 0.5 * replayed["plans"] > 0, (
        replayed
    )  # a loaded machine records some inputs too late
