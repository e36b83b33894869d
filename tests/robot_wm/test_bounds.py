"""Limits, rate and jerk of a plan: kept by every sequence, and always with a way on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bound_checks import ROUNDING, SEEDS, random_bounds, random_start, require_bounded
from conftest import slider_contract
from robot_wm.bounds import UNLIMITED_JERK, UNLIMITED_RATE, Bounds, stoppable


def bounds(low=-1.0, high=1.0, rate=UNLIMITED_RATE, jerk=UNLIMITED_JERK):
    return Bounds(*(np.full(1, x, np.float32) for x in (low, high, rate, jerk)))


def applied(to, targets, previous=(0.0, 0.0)):
    start = np.array(previous, np.float32)[:, None]
    return to.apply(np.array(targets, np.float32)[:, None], start)[:, 0]


def test_the_contract_s_bounds_become_normalised_ones_per_step():
    action = slider_contract().to_dict()["action"]
    limited = Bounds.of(slider_contract(action=action | {"limit_high": 5, "rate": 100, "jerk": 2500}))
    assert [float(x[0]) for x in vars(limited).values()] == pytest.approx([-1.0, 0.5, 0.2, 0.1])  # 10 N at 50 Hz
    assert vars(Bounds.of(slider_contract())) == vars(bounds())


def test_a_jerk_makes_a_ramp_of_a_step_and_the_rate_cuts_it():
    assert applied(bounds(jerk=0.1), [9.0] * 3) == pytest.approx([0.1, 0.3, 0.6])
    assert applied(bounds(jerk=0.1, rate=0.15), [9.0] * 3) == pytest.approx([0.1, 0.25, 0.4])


def test_motion_goes_on_until_the_jerk_has_stopped_it():
    rows = applied(bounds(jerk=0.1), [0.0] * 4, previous=(-0.25, 0.0))
    assert rows == pytest.approx([0.15, 0.2, 0.15, 0.0], abs=1e-6)


def test_an_action_takes_the_shortest_time_to_come_to_rest_at_its_limit():
    rows = applied(bounds(jerk=0.1), [9.0] * 9, previous=(-1.0, -1.0))
    assert rows == pytest.approx([-0.9, -0.7, -0.4, 0.0, 0.4, 0.7, 0.9, 1.0, 1.0], abs=1e-6)


@given(st.floats(1e-3, 4.0), st.floats(1e-3, 8.0))
def test_what_can_be_stopped_covers_the_room_exactly(room, jerk):
    change = float(stoppable(np.array([room]), np.array([jerk]))[0])
    way = sum(max(0.0, change - k * jerk) for k in range(100_000 if jerk < 1e-2 else 1000))
    assert way == pytest.approx(max(room, jerk), rel=1e-6)


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(1, 3), st.booleans())
def test_every_sequence_obeys_its_bounds_as_far_as_the_start_allows(seed, actions, feasible):
    rng = np.random.default_rng(seed)
    item = random_bounds(rng, actions)
    previous = random_start(rng, item, feasible)
    sequence = item.apply(rng.uniform(-3.0, 3.0, (8, actions)).astype(np.float32), previous)
    require_bounded(sequence[None], previous, item, feasible)
    again = item.apply(sequence, previous)
    np.testing.assert_allclose(again, sequence, atol=ROUNDING)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_from_any_sequence_there_is_a_way_to_rest(seed):
    rng = np.random.default_rng(seed)
    item = random_bounds(rng, 2)
    end = random_start(rng, item, feasible=True)
    at = end[1].astype(np.float64)
    change = at - end[0]
    for _ in range(5000):
        change = np.sign(change) * np.maximum(np.abs(change) - item.jerk, 0.0)
        at += change
    assert (at <= item.high + ROUNDING).all() and (at >= item.low - ROUNDING).all() and not change.any()


@given(SEEDS)
def test_without_a_jerk_limits_and_rate_are_all_there_is(seed):
    rng = np.random.default_rng(seed)
    item = random_bounds(rng, 2)
    free = Bounds(item.low, item.high, item.rate, np.full(2, UNLIMITED_JERK, np.float32))
    previous = random_start(rng, item, feasible=False)
    sequence = rng.normal(0.0, 2.0, (6, 2)).astype(np.float32)
    before = previous[1]
    for wished, got in zip(sequence, free.apply(sequence, previous), strict=True):
        before = np.clip(np.clip(wished, before - item.rate, before + item.rate), item.low, item.high)
        np.testing.assert_array_equal(got, before)


def test_where_a_start_allows_no_more_limits_go_before_rate_and_rate_before_jerk():
    assert applied(bounds(high=0.5, rate=0.05, jerk=0.01), [1.0], previous=(1.0, 1.0)) == 0.5
    assert applied(bounds(rate=0.2, jerk=0.1), [1.0], previous=(-0.8, 0.0)) == pytest.approx(0.2)
    assert applied(bounds(jerk=0.1), [1.0] * 3, previous=(0.3, 0.8)) == pytest.approx([0.95, 1.0, 1.0])
