"""The action of a model step is the time average of what was applied over it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.actions import ActionHistory, denormalise, normalise
from robot_wm.messages import Applied, Plan

MS = 1_000_000


def history(commands, **action):
    contract = slider_contract()
    if action:
        data = contract.to_dict()
        data["action"].update(action)
        contract = slider_contract(action=data["action"])
    result = ActionHistory(contract, history_s=10.0)
    for stamp, value in commands:
        result.add(Applied(stamp, np.array([value]), "command"))
    return result


def brute_force(commands, start, end):
    """Average over every microsecond of the step."""
    ordered = sorted(dict(commands).items())
    total = 0.0
    for at in range(start, end):
        held = [value for stamp, value in ordered if stamp <= at] or [0.0]
        total += held[-1]
    return total / (end - start) / 10.0


@given(st.floats(-10, 10))
def test_normalising_there_and_back_gives_the_same_value(value):
    contract = slider_contract()
    assert denormalise(contract, normalise(contract, np.array([value]))) == pytest.approx([value], abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(0, 300), st.floats(-10, 10)), min_size=1, max_size=12),
    st.integers(0, 200),
    st.integers(1, 100),
)
def test_mean_equals_the_average_over_every_instant(commands, start, length):
    got = history(commands).mean(start, start + length)
    assert got == pytest.approx([brute_force(commands, start, start + length)], abs=1e-9)


@given(st.permutations([(i * 7, float(i % 5)) for i in range(10)]))
def test_order_of_arrival_does_not_matter(commands):
    assert history(commands).mean(3, 60) == pytest.approx(history(sorted(commands)).mean(3, 60))


def test_before_the_first_command_of_all_the_action_is_zero():
    assert history([]).mean(0, 20) == pytest.approx([0.0])


def test_a_command_counts_from_the_time_it_takes_effect():
    delayed = history([(0, 0.0), (10 * MS, 10.0)], delay_s=0.01)
    assert delayed.mean(0, 20 * MS) == pytest.approx([0.0])
    assert delayed.mean(20 * MS, 40 * MS) == pytest.approx([1.0])


def test_after_the_last_command_the_plan_holds_where_it_reaches():
    actions = history([(0, 10.0)])
    plan = Plan(0, start=20 * MS, step=20 * MS, actions=np.array([[-10.0], [5.0]]), bundle_id="b")
    assert actions.mean(0, 20 * MS, [plan]) == pytest.approx([1.0])
    assert actions.mean(10 * MS, 30 * MS, [plan]) == pytest.approx([0.0])
    assert actions.mean(40 * MS, 60 * MS, [plan]) == pytest.approx([0.5])


def test_of_several_committed_plans_each_holds_until_the_next_one_starts():
    actions = history([(0, 10.0)])
    first, second = (Plan(i, (20 + 20 * i) * MS, 20 * MS, np.full((3, 1), v), "b") for i, v in enumerate((-10.0, 5.0)))
    assert actions.mean(20 * MS, 40 * MS, [first, second]) == pytest.approx([-1.0])
    assert actions.mean(40 * MS, 60 * MS, [first, second]) == pytest.approx([0.5])


def test_what_was_applied_wins_over_what_was_planned():
    actions = history([(0, 10.0), (30 * MS, 0.0)])
    plan = Plan(0, start=20 * MS, step=20 * MS, actions=np.array([[-10.0], [-10.0]]), bundle_id="b")
    assert actions.mean(20 * MS, 40 * MS, [plan]) == pytest.approx([0.5 * 1.0 + 0.5 * -1.0])
