"""Every task obeys one interface, and our cart-pole is the suite's."""

import math

import numpy as np
import pytest
from dm_control import suite

from robot_wm.errors import RunError
from sim.cartpole import CartpoleSwingup, reward
from sim.tasks import make_task

SUITE = [f"dmc:{domain}-{task}" for domain, task in suite.ALL_TASKS]


@pytest.mark.parametrize("name", SUITE)
def test_every_suite_task_runs_without_code_of_its_own(name):
    task = make_task(name)
    contract = task.contract
    middle = 0.5 * (np.array(contract.action.low) + np.array(contract.action.high))
    task.reset(3)
    first = [m.values for m in task.read()]
    got = task.step(middle)
    assert np.isfinite(got)
    assert [m.name for m in task.read(5)] == [o.name for o in contract.observations]
    assert all(m.stamp == 5 and m.values.shape == (contract.observation(m.name).size,) for m in task.read(5))
    task.reset(3)
    assert all(np.array_equal(a, m.values) for a, m in zip(first, task.read(), strict=True))


@pytest.mark.parametrize(
    ("name", "angles"),
    [("dmc:reacher-easy", ["position_0"]), ("dmc:cheetah-run", ["position_1"]), ("dmc:walker-run", [])],
)
def test_the_angle_of_a_joint_without_limits_ignores_whole_turns(name, angles):
    contract = make_task(name).contract
    kinds = {n: kind for o in contract.observations for n, kind in zip(o.names, o.encoding, strict=True)}
    assert [n for n, kind in kinds.items() if kind == "angle"] == angles


def test_an_unknown_task_is_refused_with_the_nearest_names():
    with pytest.raises(RunError, match="dmc:reacher-easy"):
        make_task("dmc:reacher-eazy")
    with pytest.raises(RunError, match="cartpole_swingup"):
        make_task("cartpole_swing")


def test_the_cartpole_moves_and_is_rewarded_as_the_suites():
    ours, theirs = CartpoleSwingup(), suite.load("cartpole", "swingup")
    theirs.reset()
    ours.reset(0)
    with theirs.physics.reset_context():
        theirs.physics.data.qpos[:], theirs.physics.data.qvel[:] = ours.data.qpos, ours.data.qvel
    rng = np.random.default_rng(0)
    for _ in range(300):
        effort = rng.uniform(-1, 1)
        step = theirs.step(np.array([effort]))
        assert ours.step(np.array([10.0 * effort])) == pytest.approx(step.reward, abs=1e-6)
        np.testing.assert_allclose(ours.data.qpos, theirs.physics.data.qpos, atol=1e-6)
        np.testing.assert_allclose(ours.data.qvel, theirs.physics.data.qvel, atol=1e-5)


def test_the_reward_is_one_at_rest_upright_in_the_middle_and_zero_hanging():
    assert reward(0.0, 0.0, 0.0, 0.0) == pytest.approx(1.0)
    assert reward(0.0, math.pi, 0.0, 0.0) == pytest.approx(0.0)


def test_seeds_choose_the_start():
    task = CartpoleSwingup()
    starts = []
    for seed in (1, 2, 1):
        task.reset(seed)
        starts.append(task.qpos())
    assert np.array_equal(starts[0], starts[2]) and not np.array_equal(starts[0], starts[1])
