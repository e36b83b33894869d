"""Alignment's numerics against the definitions, written out slowly here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_wm.actions import ActionHistory
from robot_wm.bags.grid import fill_forward, hold_means, interpolate, nearest_rows, step_means
from robot_wm.contract import parse_contract
from robot_wm.messages import Applied
from robot_wm.timebase import Grid

STEP = 20
ORIGIN = 1_700_000_000_000
stamp_lists = st.lists(st.integers(-60, 260), min_size=1, max_size=40, unique=True).map(sorted)


def stamps_of(numbers):
    return np.array(numbers, np.int64) + ORIGIN


@given(stamp_lists)
@settings(deadline=None)
def test_each_instant_gets_the_measurement_nearest_to_it(numbers):
    stamps, grid = stamps_of(numbers), Grid(1e9 / STEP, ORIGIN)
    rows, ages = nearest_rows(stamps, ORIGIN, STEP, 10)
    for k in range(10):
        mine = [i for i, stamp in enumerate(stamps.tolist()) if grid.nearest(stamp) == k]
        if not mine:
            assert (rows[k], ages[k]) == (-1, 0.0)
            continue
        nearest = min(mine, key=lambda i: (abs(grid.stamp(k) - stamps[i]), -stamps[i]))
        assert rows[k] == nearest
        assert ages[k] == grid.age(int(stamps[nearest]), k)
        assert -0.5 <= ages[k] <= 0.5


def test_a_measurement_halfway_between_two_instants_belongs_to_the_later():
    rows, ages = nearest_rows(stamps_of([30]), ORIGIN, STEP, 4)
    assert rows.tolist() == [-1, -1, 0, -1]
    assert ages[2] == 0.5


def test_of_two_measurements_equally_near_the_later_wins():
    rows, ages = nearest_rows(stamps_of([37, 43]), ORIGIN, STEP, 4)
    assert rows[2] == 1
    assert ages[2] == pytest.approx(-0.15)


@st.composite
def holds(draw):
    numbers = draw(stamp_lists)
    values = draw(st.lists(st.floats(-10, 10), min_size=len(numbers), max_size=len(numbers)))
    return numbers, np.array(values)[:, None], draw(st.floats(-10, 10))


@given(holds())
@settings(deadline=None)
def test_the_mean_of_a_hold_is_exact(hold):
    numbers, values, before = hold
    means = hold_means(stamps_of(numbers), values, ORIGIN, STEP, 10, np.array([before]))
    signal = np.full(10 * STEP, before)
    for number, value in zip(numbers, values[:, 0], strict=True):
        signal[max(number, 0) :] = value
    assert np.allclose(means[:, 0], signal.reshape(10, STEP).mean(axis=1), atol=1e-9)


@given(holds())
@settings(deadline=None)
def test_the_trainer_averages_as_the_robot_does(hold):
    numbers, values, _ = hold
    contract = parse_contract(
        {
            "name": "one",
            "model_hz": 1e9 / STEP,
            "observations": [{"name": "x", "topic": "joint_states", "field": "position", "names": ["a"]}],
            "action": {"names": ["a"], "mode": "effort", "low": -1.0, "high": 1.0},
        }
    )
    history = ActionHistory(contract, history_s=1.0)
    for number, value in zip(numbers, values, strict=True):
        history.add(Applied(number + ORIGIN, value, "hold"))
    ours = hold_means(stamps_of(numbers), values, ORIGIN, STEP, 10, np.zeros(1))
    theirs = [history.mean(ORIGIN + k * STEP, ORIGIN + (k + 1) * STEP) for k in range(10)]
    assert np.allclose(ours, theirs, atol=1e-9)


def test_a_long_recording_does_not_wear_the_mean_out():
    stamps = np.arange(2_000_000, dtype=np.int64) * 2_000_000  # 500 Hz, more than an hour
    values = np.tile([[1.0], [3.0]], (1_000_000, 1))
    means = hold_means(stamps, values, 0, 20_000_000, 199_999, np.zeros(1))
    assert np.abs(means - 2.0).max() < 1e-6


@given(stamp_lists)
@settings(deadline=None)
def test_a_reward_belongs_to_the_step_it_ends(numbers):
    stamps = stamps_of(numbers)
    values = np.arange(len(numbers), dtype=float)
    means, present = step_means(stamps, values, ORIGIN, STEP, 10)
    for k in range(10):
        mine = [v for v, n in zip(values, numbers, strict=True) if k * STEP < n <= (k + 1) * STEP]
        assert present[k] == bool(mine)
        assert means[k] == pytest.approx(np.mean(mine) if mine else 0.0)


def test_interpolation_is_linear_between_and_constant_beyond_measurements():
    stamps = stamps_of([10, 50])
    values = np.array([[0.0, 1.0], [4.0, 1.0]])
    result = interpolate(stamps, values, ORIGIN, STEP, 5, np.array([False, False]))
    assert result[:, 0].tolist() == [0.0, 1.0, 3.0, 4.0, 4.0]
    assert (result[:, 1] == 1.0).all()


def test_a_wrapped_angle_is_interpolated_the_short_way():
    stamps = stamps_of([0, 40])
    values = np.array([[3.1, 3.1], [-3.1, -3.1]])
    middle = interpolate(stamps, values, ORIGIN, STEP, 2, np.array([True, False]))[1]
    assert abs(np.cos(middle[0]) + 1.0) < 1e-9
    assert middle[1] == 0.0


def test_absent_entries_are_filled_from_before_and_the_first_from_behind():
    values = np.array([0.0, 5.0, 0.0, 0.0, 7.0, 0.0])
    present = np.array([False, True, False, False, True, False])
    assert fill_forward(values, present).tolist() == [5.0, 5.0, 5.0, 5.0, 7.0, 7.0]
