"""A bundle of the state-based sibling drives a task that sees; the bag is the task's own robot's."""

from pathlib import Path

import numpy as np
import pytest

from robot_wm.bags.reader import open_bag
from robot_wm.bundle import load_bundle
from robot_wm.errors import ContractError
from robot_wm.messages import Measurement
from robot_wm.search import search_named
from sim.agents import RandomAgent, WorldModelAgent
from sim.cartpole_camera import CartpoleCamera
from sim.demonstrator import Demonstrator, driver
from sim.evaluate import episode_bag
from sim.lockstep import run_episode
from sim.reacher_camera import ReacherCamera
from sim.tasks import make_task

ZOO = Path(__file__).parents[2] / "models" / "zoo"
BUNDLES = {"cartpole_camera": "cartpole_swingup", "reacher_camera": "reacher_easy"}


def black(kind):
    """A task that sees, short, and needs nothing that draws."""

    class Black(kind):
        def capture(self, name, stamp):
            return Measurement(name, stamp, np.zeros(self.contract.image(name).shape, np.uint8))

    task = Black()
    task.length = 50
    return task


class Listener(RandomAgent):
    def reset(self, start, seed):
        super().reset(start, seed)
        self.heard = []

    def observe(self, measurement, now):
        self.heard.append((measurement.name, measurement.stamp == now, measurement.values.size))

    def published(self):
        return [("plan", None)]


@pytest.mark.parametrize(
    ("kind", "heard"),
    [
        (CartpoleCamera, [("position", True, 2), ("velocity", True, 2)]),
        (ReacherCamera, [("position", True, 2), ("to_target", True, 2), ("velocity", True, 2)]),
    ],
)
def test_the_agent_hears_what_the_sibling_measures_and_the_bag_holds_what_the_robot_does(kind, heard, tmp_path):
    task = black(kind)
    agent = Listener(make_task(task.sibling).contract)
    with episode_bag(tmp_path / "bag", task.contract) as writer:
        run_episode(task, Demonstrator(task, agent), 3, writer=writer)
    assert agent.heard == heard * 50
    assert {topic.strip("/") for topic in open_bag(tmp_path / "bag").topics} == {
        "joint_states", "camera/image_raw", "applied", "reward", "event", "sim_state"
    }  # fmt: skip


@pytest.mark.parametrize("kind", [CartpoleCamera, ReacherCamera])
def test_it_drives_as_it_drives_the_sibling(kind):
    task = black(kind)
    bundle = load_bundle(ZOO / BUNDLES[task.contract.name])
    sibling = make_task(task.sibling)
    sibling.length = task.length
    policy = search_named("policy")
    agent = driver(sibling, bundle, policy)
    assert isinstance(agent, WorldModelAgent)
    shown = run_episode(task, driver(task, bundle, policy), 3)
    assert np.array_equal(shown.rewards, run_episode(sibling, agent, 3).rewards)
    assert np.array_equal(task.qpos()[:2], sibling.qpos())


def test_a_bundle_for_neither_is_refused_by_name():
    with pytest.raises(
        ContractError, match="was made for dmc:reacher-easy; choose one for cartpole_camera or for its sibling cart"
    ):
        driver(make_task("cartpole_camera"), load_bundle(ZOO / "reacher_easy"))
    with pytest.raises(ContractError, match="was made for cartpole_swingup; choose one for dmc:reacher-easy$"):
        driver(make_task("reacher_easy"), load_bundle(ZOO / "cartpole_swingup"))
