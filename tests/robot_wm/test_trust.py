"""Surprise in units of what is usual: about 1 as fitted, whatever the unit; one outlier is no alarm, a lasting one soon is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.trust import (
    CEILING,
    LEAST,
    Scale,
    Surprise,
    Tail,
    fit_scale,
    fit_tail,
    normalised_square,
    residual,
    usual_error,
)

USUAL = Tail(2.7, 0.5, 10.0)
POSITIVE = st.floats(1e-6, 1e6)
TEN_MINUTES = 30_000  # corrections at 50 Hz


def test_the_statistic_is_one_on_average_on_what_it_was_fitted_on():
    errors = np.random.default_rng(0).standard_normal((4000, 3)) * [0.1, 5.0, 200.0]
    scale = np.sqrt(np.mean(errors**2, axis=0))
    assert np.mean([normalised_square(row, scale) for row in errors]) == pytest.approx(1.0)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), POSITIVE, POSITIVE), min_size=1, max_size=5))
def test_the_statistic_does_not_know_units(rows):
    error, scale, unit = np.array(rows).T
    plain = normalised_square(error, scale)
    assert normalised_square(error * unit, scale * unit) == pytest.approx(plain)


def test_an_angle_is_surprised_the_short_way_round():
    observations = [
        {"name": "p", "topic": "t", "field": "position", "names": ["a", "b"], "encoding": ["angle", "linear"]}
    ]
    (item,) = slider_contract(observations=observations).observations
    found = residual(item, np.array([3.1, 3.1]), np.array([-3.1, -3.1]))
    np.testing.assert_allclose(found, [6.2 - 2 * np.pi, 6.2])


def test_the_usual_error_grows_with_the_time_since_the_last_correction():
    scales = {k: Scale((1.0,), (row,)) for k, row in {1: (0.1, 1.0), 4: (0.4, 1.0), 16: (0.8, 3.0)}.items()}
    np.testing.assert_allclose(usual_error(scales, 1, 0.5), [0.1, 1.0])
    np.testing.assert_allclose(usual_error(scales, 2, 0.5), [0.2, 1.0])
    np.testing.assert_allclose(usual_error(scales, 100, 0.5), [0.8, 3.0])


def test_the_usual_error_grows_with_the_motion_that_is_predicted():
    rng = np.random.default_rng(2)
    motion = np.exp(rng.uniform(-5, 1, 20_000))
    scale = fit_scale(motion, (motion * rng.standard_normal((2, 20_000))).T)
    for moved in (0.02, 0.2, 1.0):
        np.testing.assert_allclose(scale.at(moved), [moved, moved], rtol=0.3)
    assert (scale.at(1e-6) == scale.at(1e-9)).all() and (scale.at(1e6) == scale.at(1e9)).all()


def test_errors_of_a_robot_that_never_moves_are_one_scale():
    assert fit_scale(np.zeros(5), np.full((5, 1), 0.1)).at(1.0) == pytest.approx(0.1)


@given(st.floats(0, allow_nan=False, allow_infinity=True))
def test_a_single_outlier_however_large_is_no_alarm(outlier):
    surprise = Surprise(USUAL)
    assert surprise.add(outlier) < 1.0


def test_a_lasting_surprise_is_an_alarm_within_a_few_corrections_and_forgotten_in_bounded_time():
    surprise = Surprise(USUAL)
    levels = [surprise.add(100.0) for _ in range(4)]
    assert levels[1] < 1.0 <= levels[3]
    for _ in range(10_000):
        surprise.add(100.0)
    assert surprise.level == CEILING
    for _ in range(round(CEILING * USUAL.limit / -LEAST)):
        surprise.add(1e-3)
    assert surprise.level == 0.0


@pytest.mark.parametrize("kind", ["gauss", "heavy tails", "correlated"])
def test_a_fitted_limit_is_not_reached_in_the_next_ten_minutes_of_health(kind):
    rng = np.random.default_rng(7)

    def healthy():
        if kind == "heavy tails":
            return rng.standard_t(3, TEN_MINUTES) ** 2
        x = rng.standard_normal(TEN_MINUTES)
        if kind == "correlated":
            for i in range(1, len(x)):
                x[i] = 0.8 * x[i - 1] + 0.6 * x[i]
        return x**2

    tail = fit_tail([healthy()], 600.0, 0.1 / 600.0)
    surprise, alarms = Surprise(tail), 0
    for statistic in healthy():
        if surprise.add(statistic) >= 1.0:
            alarms += 1
            surprise.reset()
    assert alarms <= 1
    assert max(surprise.add(100.0 * tail.usual) for _ in range(25)) >= 1.0  # ten times the usual deviation


def test_episodes_without_any_surprise_still_give_a_limit_that_one_outlier_does_not_reach():
    tail = fit_tail([np.ones(500)], 10.0, 1e-3)
    assert Surprise(tail).add(1e12) < 1.0
