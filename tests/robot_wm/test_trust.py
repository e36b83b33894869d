"""Surprise in units of what is usual: about 1 as fitted, whatever the unit; one outlier is no alarm, a lasting one soon is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.trust import (
    CEILING,
    LASTING,
    WINDOW,
    Scale,
    Surprise,
    Tail,
    fit_scale,
    fit_tail,
    normalised_square,
    residual,
    usual_error,
)

USUAL = Tail(2.0, 20.0, 9.0)
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
def test_a_wild_reading_however_large_is_no_alarm_though_it_spoils_the_next_too(outlier):
    surprise = Surprise(USUAL)
    levels = [surprise.add(value) for value in (1.0, 1.0, outlier, outlier, 1.0, 1.0, 1.0)]
    assert max(levels) < 1.0


def test_a_lasting_surprise_is_an_alarm_within_a_few_corrections_and_forgotten_in_bounded_time():
    surprise = Surprise(USUAL)
    levels = [surprise.add(100.0) for _ in range(WINDOW)]
    assert levels[1] < 1.0 <= levels[2]
    for _ in range(10_000):
        surprise.add(100.0)
    assert surprise.level == CEILING
    for _ in range(WINDOW + round((CEILING - 1.0) / LASTING)):
        surprise.add(1e-3)
    assert surprise.level == 0.0


def test_a_lasting_surprise_climbs_with_time_and_one_within_what_health_knows_never_does():
    short, long, little = Surprise(USUAL), Surprise(USUAL), Surprise(USUAL)
    for _ in range(10):
        short.add(100.0)
    for _ in range(20):
        long.add(100.0)
    for _ in range(1000):
        little.add(0.9 * USUAL.limit)
    assert 1.0 < short.level < long.level and 0.0 < little.level < 1.0


@pytest.mark.parametrize("kind", ["gauss", "heavy tails", "correlated", "now and then"])
def test_a_fitted_limit_is_not_reached_in_the_next_ten_minutes_of_health(kind):
    rng = np.random.default_rng(7)

    def healthy():
        if kind == "heavy tails":
            return rng.standard_t(3, TEN_MINUTES) ** 2
        x = rng.standard_normal(TEN_MINUTES)
        if kind == "correlated":
            for i in range(1, len(x)):
                x[i] = 0.8 * x[i - 1] + 0.6 * x[i]
        if kind == "now and then":  # the robot does for seconds what the model knows less well
            x *= np.where(np.arange(TEN_MINUTES) % 3000 < 300, 5.0, 1.0)
        return x**2

    times = np.arange(TEN_MINUTES) / 50.0
    tail = fit_tail([(times, healthy())], 0.1 / 600.0)
    surprise = Surprise(tail)
    assert max(surprise.add(statistic) for statistic in healthy()) < 1.0
    assert max(surprise.add(100.0 * tail.usual) for _ in range(25)) >= 1.0  # ten times the usual deviation


def test_episodes_without_any_surprise_still_give_a_limit_above_what_is_usual():
    tail = fit_tail([(np.arange(500) / 50.0, np.ones(500))], 1e-3)
    assert tail.limit > tail.usual and Surprise(tail).add(1e12) < 1.0
