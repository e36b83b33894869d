import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.contract import load_contract
from robot_wm.messages import Measurement
from sim.cartpole import CONTRACT
from sim.plant_core import CommandHold, Plant
from sim.tasks import make_task

MS = 1_000_000
DT = 10 * MS
START = 1_000 * MS


class Integrator:
    """A task that only remembers: the slider is the integral of the action, the reward counts steps."""

    control_dt = 0.01

    def __init__(self):
        self.contract = load_contract(CONTRACT)
        task = make_task("cartpole_swingup")
        self.model, self.data = task.model, task.data
        self.actions = []

    def run_on(self):
        pass

    def reset(self, seed):
        self.position = float(seed)

    def step(self, action):
        self.actions.append(action[0])
        self.position += action[0] * self.control_dt
        return 0.5

    def read(self):
        return [
            Measurement("position", 0, np.array([self.position, 0.0])),
            Measurement("velocity", 0, np.array([self.actions[-1] if self.actions else 0.0, 0.0])),
        ]


@pytest.fixture
def plant():
    return Plant(Integrator(), 0, START)


def test_physics_keeps_the_clocks_time_whoever_is_there(plant):
    plant.advance(START + 9 * MS)
    assert plant.steps == 0
    plant.advance(START + 10 * MS)
    assert (plant.steps, plant.stamp) == (1, START + DT)
    plant.advance(START + 105 * MS)
    assert (plant.steps, plant.stamp) == (10, START + 10 * DT)


def test_a_step_gets_the_time_average_of_what_was_commanded_during_it(plant):
    plant.enable(START)
    plant.command(START, np.array([4.0]), START)
    plant.command(START + 15 * MS, np.array([-2.0]), START + 15 * MS)
    plant.advance(START + 30 * MS)
    assert plant.task.actions == pytest.approx([4.0, 1.0, -2.0])


def test_a_command_cannot_change_what_has_happened(plant):
    plant.enable(START)
    plant.advance(START + 20 * MS)
    plant.command(START + 5 * MS, np.array([4.0]), START + 20 * MS)
    plant.advance(START + 30 * MS)
    assert plant.task.actions == pytest.approx([0, 0, 4.0])


def test_without_power_commands_do_nothing(plant):
    plant.command(START, np.array([4.0]), START)
    plant.advance(START + DT)
    plant.enable(START + DT)
    plant.advance(START + 2 * DT)
    plant.command(START + 2 * DT, np.array([4.0]), START + 2 * DT)
    plant.disable(START + 2 * DT + 5 * MS)
    plant.advance(START + 4 * DT)
    assert plant.task.actions == pytest.approx([0, 0, 2.0, 0])


def test_a_command_runs_out_like_a_servos(plant):
    plant.enable(START)
    plant.command(START, np.array([4.0]), START)
    plant.advance(START + 200 * MS)
    assert plant.task.actions == pytest.approx([4.0] * 10 + [0.0] * 10)
    assert plant.tripped()
    assert plant.enabled


@pytest.mark.parametrize("values", [[np.nan], [np.inf], [1.0, 2.0]])
def test_a_command_that_is_no_finite_vector_is_refused(plant, values):
    plant.enable(START)
    assert "1 finite numbers" in plant.command(START, np.array(values), START)
    plant.advance(START + DT)
    assert plant.task.actions == [0.0]
    assert plant.status()["refused_commands"] == 1


def test_commands_are_clipped_to_the_actuators_range(plant):
    plant.enable(START)
    plant.command(START, np.array([1e9]), START)
    plant.advance(START + DT)
    assert plant.task.actions == pytest.approx([10.0])


def test_rewards_are_stamped_at_the_end_of_their_step(plant):
    plant.samples.clear()
    plant.advance(START + 3 * DT)
    assert [(s.stream, s.stamp, s.values[0]) for s in plant.samples] == [(0, START + k * DT, 0.5) for k in (1, 2, 3)]
    assert plant.status()["reward_mean"] == 0.5


def test_time_that_is_too_far_behind_is_skipped_and_counted(plant):
    plant.advance(START + 10_000 * MS)
    assert plant.steps == 50
    assert plant.stamp == START + 10_000 * MS
    assert plant.status()["skipped_steps"] == 950


def test_a_reset_starts_an_episode_at_the_present_instant(plant):
    plant.advance(START + 5 * DT)
    plant.reset(3, START + 5 * DT + 4 * MS)
    status = plant.status()
    assert (status["seed"], status["steps"], status["began"]) == (3, 0, START + 5 * DT)
    assert plant.joints().position[0] == 3.0
    assert plant.joints().stamp == START + 5 * DT


@given(st.lists(st.tuples(st.integers(0, 120), st.floats(-5, 5)), min_size=1, max_size=12))
def test_the_mean_of_a_hold_is_its_integral(changes):
    hold, changes = CommandHold(1, 50 * MS), sorted(changes, key=lambda c: c[0])
    for at, value in changes:
        hold.add(at * MS, np.array([value]))
    expected = np.zeros(120)
    for ms in range(120):
        last = [c for c in changes if c[0] <= ms]
        if last and ms - last[-1][0] < 50:
            expected[ms] = last[-1][1]
    for start in range(0, 120, 20):
        mean = hold.mean(start * MS, (start + 20) * MS)
        assert mean[0] == pytest.approx(expected[start : start + 20].mean(), abs=1e-9)


def test_a_suite_task_has_a_joint_per_actuator_and_streams_its_observation_and_runs_on():
    task = make_task("dmc:reacher-easy")
    plant = Plant(task, 0, START)
    step = plant.grid.step
    for k in range(1, task.length + 20):
        plant.advance(plant.grid.stamp(plant.grid.floor(START)) + k * step)
    joints = plant.joints()
    assert joints.names == task.contract.action.names
    assert joints.position == pytest.approx(task.qpos()[:2])
    assert plant.streams == ("reward", "task_observation")
    observation = [s for s in plant.samples if s.stream == 1][-1]
    assert observation.stamp == plant.stamp
    assert observation.values == pytest.approx(np.concatenate([m.values for m in task.read()]))
    assert plant.steps == task.length + 19
