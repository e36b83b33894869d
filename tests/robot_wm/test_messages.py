"""A plan is a zero-order hold per model step."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.messages import Plan

STEP = 20_000_000
START = 7 * STEP


def plan(horizon=3):
    return Plan(index=0, start=START, step=STEP, actions=np.arange(horizon * 2.0).reshape(horizon, 2), bundle_id="b")


def test_each_row_holds_from_its_instant_until_the_next():
    assert plan().action_at(START).tolist() == [0, 1]
    assert plan().action_at(START + STEP - 1).tolist() == [0, 1]
    assert plan().action_at(START + STEP).tolist() == [2, 3]


def test_a_plan_says_nothing_before_its_start_and_after_its_end():
    assert plan().end == START + 3 * STEP
    assert plan().action_at(START - 1) is None
    assert plan().action_at(plan().end) is None
    assert plan(0).action_at(START) is None


@given(st.integers(1, 6), st.integers(START - STEP, START + 8 * STEP))
def test_an_action_is_known_exactly_within_the_plan(horizon, stamp):
    action = plan(horizon).action_at(stamp)
    assert (action is not None) == (START <= stamp < START + horizon * STEP)


def test_messages_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().start = 0
