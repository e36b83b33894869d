"""The cameras of a real-time plant: pictures of what was, at the contract's rate, as late as it says."""

import threading
import time

import numpy as np
import pytest

from robot_wm.contract import parse_contract
from robot_wm.errors import RunError
from robot_wm.messages import Measurement
from robot_wm.timebase import VirtualClock
from sim import plant_camera
from sim.cartpole_camera import CartpoleCamera
from sim.plant_camera import PlantCamera
from sim.plant_core import Plant
from sim.tasks import STATE_TOPIC, make_task

MS = 1_000_000
SHAPE = (8, 8, 1)


class Scene:
    """A task that draws the slider's position as a grey, when it is let."""

    control_dt = 0.01

    def __init__(self):
        data = make_task("cartpole_swingup").contract.to_dict()
        eye = {"name": "eye", "topic": "eye", "shape": list(SHAPE), "rate_hz": 25.0, "delay_s": 0.08}
        self.contract = parse_contract(data | {"images": [eye]})
        self.state = np.zeros(2)
        self.gate = threading.Semaphore(0)

    def show(self, state):
        self.state = state

    def capture(self, name, stamp):
        assert self.gate.acquire(timeout=60)
        return Measurement(name, stamp, np.full(SHAPE, self.state[0], np.uint8))


class Poses:
    """Stands for the plant's stream of poses: the slider moves by one per control step."""

    def __init__(self, *_):
        self.samples = []

    def open(self):
        pass

    def close(self):
        pass

    def run(self, steps):
        self.samples += [(topic, 10 * k * MS, np.array([k, 0.0])) for k in steps for topic in ("reward", STATE_TOPIC)]

    def poll(self):
        samples, self.samples = self.samples, []
        return samples


@pytest.fixture
def scene():
    return Scene()


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def camera(scene, clock, monkeypatch):
    monkeypatch.setattr(plant_camera, "make_task", lambda name: scene)
    monkeypatch.setattr(plant_camera, "PlantSensors", Poses)
    made = PlantCamera(scene.contract, "", clock=clock)
    made.open()
    yield made
    scene.gate.release(100)
    made.close()


def polled(camera, enough):
    """Every picture that arrives until `enough(pictures)`."""
    deadline, there = time.monotonic() + 60, []
    while not enough(there):
        there += camera.poll()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return there


def test_a_picture_arrives_as_late_as_the_contract_says_and_shows_its_capture(camera, scene, clock):
    camera._poses.run(range(4, 8))  # a picture at every fourth step
    scene.gate.release()
    assert polled(camera, lambda there: camera._waiting or there) == []
    clock.sleep_until(119 * MS)
    assert camera.poll() == []
    clock.sleep_until(120 * MS)
    ((name, stamp, pixels),) = camera.poll()
    assert (name, stamp, pixels.tolist()) == ("eye", 40 * MS, np.full(SHAPE, 4).tolist())
    assert camera.poll() == []


def test_a_renderer_that_is_too_slow_leaves_pictures_out_and_counts_them(camera, scene, clock):
    for first in (0, 4, 8, 12):
        camera._poses.run(range(first, first + 4))
        camera.poll()
    scene.gate.release(100)
    clock.sleep_until(1000 * MS)
    seen = [stamp for _, stamp, _ in polled(camera, lambda there: there and there[-1][1] == 120 * MS)]
    assert len(seen) <= 2  # the one that was begun, if any, and the newest
    assert len(seen) + camera.figures()["skipped eye"] == 4


def test_what_the_renderer_meets_reaches_whoever_asks_for_pictures(camera, scene):
    def fail(name, stamp):
        raise RunError("OpenGL (egl) cannot draw here")

    scene.capture = fail
    camera._poses.run([0])
    with pytest.raises(RunError, match="cannot draw here"):
        polled(camera, lambda there: False)


def test_a_task_without_a_camera_is_refused():
    with pytest.raises(RunError, match="task cartpole_swingup has no camera"):
        PlantCamera(make_task("cartpole_swingup").contract, "")


def test_the_plant_streams_what_is_drawn_from_only_where_there_are_images():
    plant = Plant(CartpoleCamera(), 0, 1000 * MS)
    plant.advance(1010 * MS)
    assert plant.streams == ("reward", STATE_TOPIC)
    assert [s.values.tolist() for s in plant.samples if s.stream == 1][-1] == plant.task.qpos().tolist()
    assert Plant(make_task("cartpole_swingup"), 0, 1000 * MS).streams == ("reward",)
