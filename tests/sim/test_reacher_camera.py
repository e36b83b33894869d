"""The reacher whose target only a camera sees: what it shows, and that everything else is the suite's."""

import numpy as np
import pytest

from camera_task import camera_task
from robot_wm.bags.align import align
from robot_wm.bags.reader import open_bag
from sim.agents import RandomAgent
from sim.evaluate import episode_bag
from sim.lockstep import run_episode
from sim.tasks import STATE_TOPIC, make_task
from sim.video import poses

CENTRE, METRE = 23.5, 48 / 0.613  # pixels of the picture; per metre of the arena


@pytest.fixture(scope="module")
def task():
    return camera_task("reacher_camera")


def red(pixels):
    """Where the target is drawn: (pixels, 2), row and column."""
    red, green, blue = np.moveaxis(pixels.astype(int), -1, 0)
    return np.argwhere((red > 150) & (red - green > 60) & (abs(green - blue) < 12))


def test_it_measures_the_arm_and_nothing_of_the_target():
    task, state = make_task("reacher_camera"), make_task("dmc:reacher-easy")
    task.reset(3)
    state.reset(3)
    whole = {reading.name: reading.values.tolist() for reading in state.read()}
    assert {m.name: m.values.tolist() for m in task.read()} == {n: whole[n] for n in ("position", "velocity")}
    assert task.contract.modalities == ("position", "velocity", "camera")
    assert task.contract.action.names == state.contract.action.names
    assert (task.contract.model_hz, task.contract.motor_hz) == (state.contract.model_hz, state.contract.motor_hz)


def test_physics_reward_and_start_are_the_suites_whoever_looks(task):
    state = make_task("dmc:reacher-easy")
    for one in (task, state):
        one.reset(4)
    for action in np.random.default_rng(0).uniform(-1.0, 1.0, (30, 2)):
        task.capture("camera", 0)
        assert task.step(action) == state.step(action)
        assert np.array_equal(task.data.qpos, state.data.qpos)


def test_the_target_is_visible_wherever_it_and_the_arm_may_be(task):
    for seed in range(40):
        task.reset(seed)
        x, y = task.qpos()[2:]
        if seed % 2:  # the arm straight across it
            task.data.qpos[:] = [np.arctan2(y, x), 0.0]
        picture = task.capture("camera", 7)
        assert (picture.name, picture.stamp, picture.values.shape) == ("camera", 7, (48, 48, 3))
        seen = red(picture.values)
        assert len(seen) > 35  # of a disc eight wide
        assert seen.mean(axis=0) == pytest.approx([CENTRE - METRE * y, CENTRE + METRE * x], abs=1.0)


def test_the_state_shows_the_same_picture_in_another_scene(task):
    task.reset(8)
    state, picture = task.qpos(), task.capture("camera", 0)
    other = make_task("reacher_camera")
    other.reset(9)
    other.show(state)
    assert np.array_equal(other.capture("camera", 0).values, picture.values)


def test_an_episode_becomes_a_bag_with_a_late_image_per_model_step(task, tmp_path):
    task.length = 40
    with episode_bag(tmp_path / "bag", task.contract) as writer:
        run_episode(task, RandomAgent(task.contract), 0, writer=writer)
    (episode,) = align(tmp_path / "bag", task.contract)
    assert episode.delays[0] == pytest.approx(0.08)
    seen = episode.mask[:, 2]
    assert seen[1:18].all() and not seen[19:].any()  # those of the last 80 ms are still on their way
    assert all(len(red(picture)) > 35 for picture in episode.images[0][1:18])
    bag = open_bag(tmp_path / "bag")
    assert {STATE_TOPIC, "joint_states", "applied", "reward"} <= {name.strip("/") for name in bag.topics}
    assert poses(bag, task)[1].shape == (40, 2)
