"""Exploring agents: how strong, for how long, and that the safety filter has the last word."""

import numpy as np

from integrator import LIMIT, IntegratorTask
from robot_wm.timebase import NS_PER_S
from sim.agents import RandomAgent
from sim.exploration import ASTRAY, HOLD_S, SHORTEST, Exploring, HeldActions
from sim.lockstep import START, run_episode

STEP = NS_PER_S // 100


class Still(RandomAgent):
    """Asks for zero and remembers what was applied."""

    def reset(self, start, seed):
        super().reset(start, seed)
        self.sent = []

    def request(self, now):
        return np.zeros(1)

    def applied(self, applied):
        self.sent.append(float(applied.values[0]))


def requests(agent, seed, steps=400):
    agent.reset(START, seed)
    return np.array([agent.request(START + n * STEP)[0] for n in range(steps)])


def exploring(noise):
    contract = IntegratorTask().contract
    return Exploring(Still(contract), contract, noise)


def astray(seed):
    return bool(np.any(requests(exploring(0.0), seed, 1)))


def test_random_actions_hold_for_random_times_within_the_limits():
    values = requests(HeldActions(IntegratorTask().contract), 3, 4000)
    held = np.diff(np.flatnonzero(np.diff(values))) / 100
    assert np.abs(values).max() <= LIMIT
    assert np.ptp(values) > 1.8 * LIMIT
    assert SHORTEST * HOLD_S <= held.min() < 0.15 and 0.45 < held.max() <= HOLD_S + 0.01


def test_each_episode_has_a_strength_of_its_own_which_is_the_noises_share_of_the_range():
    agent, strengths, ratios = exploring(0.3), [], []
    for seed in range(100):
        values = requests(agent, seed)[200:]
        strengths.append(agent.strength)
        ratios.append(values.std() / (agent.strength * 2 * LIMIT))
    assert 0.0 < min(strengths) < 0.03 and 0.27 < max(strengths) < 0.3
    assert 0.8 < np.mean(ratios) < 1.1


def test_noise_that_holds_for_no_time_is_new_at_every_model_step():
    contract = IntegratorTask().contract
    values = requests(Exploring(Still(contract), contract, 0.3, hold_s=0.0), 2)[200:]
    same = round(100 / contract.model_hz)  # requests in a model step
    steps = values.reshape(-1, same)
    assert np.all(steps == steps[:, :1])
    assert np.all(np.diff(steps[:, 0]) != 0.0)
    assert abs(np.corrcoef(steps[1:, 0], steps[:-1, 0])[0, 1]) < 0.3


def test_some_episodes_begin_with_a_second_of_random_actions():
    begin = [seed for seed in range(400) if astray(seed)]
    assert abs(len(begin) / 400 - ASTRAY) < 0.05
    values = requests(exploring(0.0), begin[0])
    assert np.all(values[:100] != 0.0) and np.all(values[100:] == 0.0)


def test_a_seed_gives_one_exploration():
    assert np.array_equal(requests(exploring(0.3), 5), requests(exploring(0.3), 5))
    assert not np.array_equal(requests(exploring(0.3), 5), requests(exploring(0.3), 6))


def test_the_agent_below_hears_what_the_safety_filter_left_of_it():
    task, below = IntegratorTask(length=400), Still(IntegratorTask().contract)
    result = run_episode(task, Exploring(below, task.contract, 3.0), 1)
    assert result.clips > 0
    assert below.sent == task.commands
    assert max(np.abs(below.sent)) == LIMIT
