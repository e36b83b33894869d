"""The closed loop on a virtual clock: who sees what when, what reaches the plant, and what the bag says of it."""

import numpy as np
import pytest

from integrator import LIMIT, IntegratorModel, IntegratorTask, integrator_contract
from robot_wm.actions import normalise
from robot_wm.bags.align import align
from robot_wm.bags.reader import open_bag
from robot_wm.bags.writer import BagWriter
from robot_wm.timebase import NS_PER_S, Grid, VirtualClock
from sim.agents import RandomAgent, WorldModelAgent
from sim.disturbance import Disturbance
from sim.lockstep import START, run_episode, with_actuation_delay
from sim.tasks import STATE_TOPIC

STEP = NS_PER_S // 100  # control step of the integrator


class Listener:
    """Sends a ramp and keeps everything it is told."""

    def __init__(self, slope=0.01):
        self.slope, self.seen, self.sent, self.started = slope, [], [], None

    def reset(self, start, seed):
        self.started = start

    def observe(self, measurement, now):
        self.seen.append((measurement.stamp, now))

    def request(self, now):
        return np.array([self.slope * (1 + (now - self.started) // STEP)])

    def applied(self, applied):
        self.sent.append((applied.stamp, float(applied.values[0])))

    def published(self):
        return []


def delays(agent):
    return [(now - stamp) / NS_PER_S for stamp, now in agent.seen]


def planner_on(task, delay_s=0.0, **options):
    model = IntegratorModel(task.contract)
    return model, WorldModelAgent(with_actuation_delay(task.contract, delay_s), model, **options)


def test_without_disturbance_everything_is_seen_at_once_and_takes_effect_at_once():
    task, agent = IntegratorTask(), Listener()
    run_episode(task, agent, 3)
    assert delays(agent) == [0.0] * task.length
    assert task.commands == [values for _, values in agent.sent]


def test_a_reading_arrives_after_the_perception_delay_and_keeps_its_capture_stamp():
    task, agent = IntegratorTask(), Listener()
    run_episode(task, agent, 3, Disturbance(perception_delay_s=0.04))
    assert delays(agent) == [0.04] * (task.length - 4)


def test_jitter_makes_readings_overtake_but_never_arrive_before_their_capture():
    task, agent = IntegratorTask(length=400), Listener()
    run_episode(task, agent, 3, Disturbance(perception_delay_s=0.03, jitter_s=0.02))
    late, stamps = delays(agent), [stamp for stamp, _ in agent.seen]
    assert min(late) >= 0.0 and np.std(late) > 0.01
    assert stamps != sorted(stamps)


@pytest.mark.parametrize(("dropout", "expected"), [(0.0, 1.0), (0.3, 0.7), (1.0, 0.0)])
def test_dropout_loses_that_share_of_the_readings(dropout, expected):
    task, agent = IntegratorTask(length=2000), Listener()
    run_episode(task, agent, 3, Disturbance(dropout=dropout))
    assert len(agent.seen) / task.length == pytest.approx(expected, abs=0.05)


def test_a_command_takes_effect_after_the_actuation_delay_and_nothing_before_the_first_one():
    task, agent = IntegratorTask(), Listener()
    run_episode(task, agent, 3, Disturbance(actuation_delay_s=0.03))
    assert task.commands[:3] == [0.0] * 3
    assert task.commands[3:] == [values for _, values in agent.sent[:-3]]


def test_the_safety_filter_stands_between_agent_and_plant_and_the_agent_learns_what_was_sent():
    task, agent = IntegratorTask(), Listener(slope=0.05)
    result = run_episode(task, agent, 3)
    assert max(task.commands) == LIMIT
    assert [values for _, values in agent.sent] == task.commands
    assert result.clips == sum(0.05 * n > LIMIT for n in range(1, task.length + 1))


@pytest.mark.parametrize("actuation", [0.0, 0.01, 0.02, 0.05])
@pytest.mark.parametrize("perception", [0.0, 0.02, 0.08])
@pytest.mark.parametrize("planning", [0.0, 0.03, 0.06])
def test_every_plan_begins_from_the_state_in_which_it_takes_effect(perception, actuation, planning):
    """Late readings are replayed, and what was sent or committed but has no effect yet is rolled through: with a true
    model exactly."""
    task = IntegratorTask(length=120)
    model, agent = planner_on(task, actuation, planning_delay_s=planning)
    run_episode(task, agent, 3, Disturbance(perception, actuation_delay_s=actuation))
    blind = round(perception / 0.02)  # plans made before the first reading arrived
    ahead = 2 * int(np.ceil((actuation + planning) / 0.02 - 1e-9))  # control steps from planning to the plan's start
    truth = [task.states[2 * k + ahead] for k in range(60 - ahead)]
    assert blind < len(truth)
    np.testing.assert_allclose(model.planned_from[blind : len(truth)], truth[blind:], atol=1e-5)


def test_without_compensation_a_plan_begins_from_a_state_that_has_passed_and_is_played_late():
    task = IntegratorTask(length=120)
    model, agent = planner_on(task, planning_delay_s=0.06, compensate=False)
    run_episode(task, agent, 3)
    np.testing.assert_allclose(model.planned_from, task.states[:120:2], atol=1e-5)
    assert task.commands[:6] == [0.0] * 6 and any(task.commands[6:8])


def test_a_delay_that_nobody_told_the_agent_of_is_what_makes_its_plans_begin_from_the_wrong_state():
    task = IntegratorTask(length=120)
    model, agent = planner_on(task)
    run_episode(task, agent, 3, Disturbance(actuation_delay_s=0.05, perception_delay_s=0.08))
    assert np.abs(np.array(model.planned_from[4:]) - task.states[8:120:2]).max() > 0.01


def test_a_plan_is_made_at_every_model_step_and_its_budget_is_kept():
    task = IntegratorTask()
    model, agent = planner_on(task)
    run_episode(task, agent, 3)
    assert len(model.planned_from) == task.length // 2
    assert agent.refinements == [2] * (task.length // 2)


def test_one_seed_gives_one_episode_and_another_seed_another():
    disturbance = Disturbance(0.03, 0.02, 0.2, 0.02)

    def play(seed):
        task = IntegratorTask()
        run_episode(task, planner_on(task, 0.02)[1], seed, disturbance)
        return task.states

    assert play(1) == play(1)
    assert play(1) != play(2)


@pytest.mark.parametrize("control_dt", [0.01, 0.015, 0.02, 0.025, 0.03, 0.04])
def test_an_episode_begins_on_the_model_grid_whatever_the_rate(control_dt):
    task = IntegratorTask(length=4, control_dt=control_dt)
    run_episode(task, Listener(), 0)
    grid = Grid(task.contract.model_hz)
    assert task.stamps[0] == grid.stamp(grid.nearest(task.stamps[0])) >= START


def test_the_score_counts_no_reward_after_a_terminal_state():
    task, agent = IntegratorTask(length=40, fails_after=10), Listener(slope=LIMIT)
    result = run_episode(task, agent, 0)
    assert result.terminated and len(result.rewards) == 10
    assert result.score == pytest.approx(1000.0 * 10 / 40)


def test_random_actions_change_once_per_model_step_and_stay_within_the_tightened_limits():
    task = IntegratorTask(length=200)
    contract = integrator_contract(
        action={"names": ["belt"], "mode": "velocity", "low": [-2], "high": [2], "limit_low": [-0.5], "limit_high": [1]}
    )
    run_episode(task, RandomAgent(contract), 5)
    pairs = np.array(task.commands).reshape(-1, 2)
    assert np.array_equal(pairs[:, 0], pairs[:, 1])
    assert -0.5 <= pairs.min() < -0.4 and 0.9 < pairs.max() <= 1.0
    assert len(np.unique(pairs)) == 100


@pytest.mark.parametrize("fails_after", [None, 30])
def test_the_bag_of_an_episode_aligns_to_what_happened(tmp_path, fails_after):
    task, agent = IntegratorTask(fails_after=fails_after), Listener()
    with BagWriter(tmp_path / "bag", task.contract, clock=VirtualClock(), sync=False) as writer:
        result = run_episode(task, agent, 7, writer=writer)
    (episode,) = align(tmp_path / "bag", task.contract)
    steps = len(result.rewards) // 2
    sent = np.array(task.commands).reshape(steps, 2, 1)
    assert episode.terminal is (fails_after is not None)
    assert len(episode) == steps + 1
    np.testing.assert_allclose(episode.observation[:, 0], task.states[::2], atol=1e-6)
    np.testing.assert_allclose(episode.action[:-1], normalise(task.contract, sent.mean(1)), atol=1e-6)
    np.testing.assert_allclose(episode.reward[:-1], result.rewards.reshape(steps, 2).mean(1), atol=1e-6)
    assert not episode.age.any() and episode.mask.all()
    bag = open_bag(tmp_path / "bag")
    assert next((e.kind, e.note) for e in bag.events()) == ("start", "seed 7")
    assert bag.topics[f"/{STATE_TOPIC}"].count == len(result.rewards)
