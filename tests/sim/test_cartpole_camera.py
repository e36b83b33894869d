"""The cart-pole whose pole only a camera sees: what it shows, and that looking changes nothing."""

import subprocess
import sys

import numpy as np
import pytest

from camera_task import camera_task
from robot_wm.bags.align import align
from robot_wm.timebase import NS_PER_S
from sim.agents import RandomAgent
from sim.cartpole import CartpoleSwingup
from sim.evaluate import episode_bag
from sim.lockstep import run_episode
from sim.tasks import make_task


@pytest.fixture(scope="module")
def task():
    return camera_task()


def pose(task, position, angle):
    task.reset(0)
    task.data.qpos[:] = [position, angle]
    return task.capture("camera", 7)


def test_it_measures_the_slider_and_nothing_of_the_pole():
    task = make_task("cartpole_camera")
    task.data.qpos[:], task.data.qvel[:] = [0.3, 1.0], [0.5, 2.0]
    assert {m.name: m.values.tolist() for m in task.read()} == {"position": [0.3], "velocity": [0.5]}
    assert task.contract.modalities == ("position", "velocity", "camera")


def test_the_camera_sees_the_pole_wherever_the_cart_is(task):
    picture = pose(task, 0.0, 0.0)
    assert (picture.name, picture.stamp) == ("camera", 7)
    assert picture.values.shape == (48, 48, 3)
    assert picture.values.dtype == np.uint8
    for position in (-1.7, 0.0, 1.7):
        for angle, half in ((0.0, slice(0, 22)), (np.pi, slice(26, 48))):
            pixels = pose(task, position, angle).values[half].astype(int)
            orange = (pixels[..., 0] > pixels[..., 2] + 60).sum()
            assert orange > 15, (position, angle)


def test_a_small_turn_of_the_pole_is_visible(task):
    upright, tilted = (pose(task, 0.0, angle).values.astype(int) for angle in (0.0, 0.05))
    assert np.abs(upright - tilted).max() > 20


def test_looking_does_not_touch_the_physics(task):
    blind = CartpoleSwingup()
    for one in (task, blind):
        one.reset(4)
    for _ in range(20):
        task.capture("camera", 0)
        assert task.step(np.array([3.0])) == blind.step(np.array([3.0]))
    assert np.array_equal(task.data.qpos, blind.data.qpos)
    assert np.array_equal(task.data.qvel, blind.data.qvel)


def test_an_episode_becomes_a_bag_with_late_images(task, tmp_path):
    task.length = 40
    with episode_bag(tmp_path / "bag", task.contract) as writer:
        run_episode(task, RandomAgent(task.contract), 0, writer=writer)
    (episode,) = align(tmp_path / "bag", task.contract)
    assert episode.images[0].shape == (len(episode), 48, 48, 3)
    assert episode.delays[0] == pytest.approx(0.08)
    seen = np.flatnonzero(episode.mask[:, 2])
    assert len(seen) == 8
    assert set(np.diff(seen)) == {2}
    assert episode.images[0][seen].std() > 10
    assert episode.step == NS_PER_S // 50


@pytest.mark.parametrize("then", ["", "; make_task('dmc:reacher-easy')"])  # dm_control ends EGL, too
def test_a_process_that_drew_ends_quietly(task, then):
    code = (
        "import weakref; weakref.finalize(object, print); from sim.tasks import make_task; "
        f"task = make_task('cartpole_camera'); task.capture('camera', 0){then}"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
