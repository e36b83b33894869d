"""The lag of one signal behind another: below a sample, and with an honest interval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.lag import best_lag, gram, jackknife

LAGS = np.arange(-0.05, 0.0505, 0.001)


def find(lag, noise=0.0, seed=0, others=(), gain=2.0, seconds=15.0):
    """Two tones of noise, one `lag` behind the other, beside `others` that the target contains as well."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.5, 4.0, 12), rng.uniform(0, 6.28, 12)

    def signal(t):
        return np.sin(2 * np.pi * np.outer(t, frequency) + phase).sum(axis=1)

    times = np.arange(0.0, seconds, 0.015)
    columns = np.column_stack([np.ones_like(times), *(other(times) for other in others)])
    target = gain * signal(times - lag) + 3.0 * columns.sum(axis=1) + noise * rng.normal(size=len(times))
    return best_lag(LAGS, np.stack([gram(columns, signal(times - at), target) for at in LAGS]))


@settings(max_examples=20)
@given(st.floats(-0.045, 0.045), st.integers(0, 1000))
def test_any_lag_is_found_to_a_small_part_of_a_step(lag, seed):
    found = find(lag, seed=seed)
    assert found.seconds == pytest.approx(lag, abs=2e-5)
    assert found.explained > 0.999
    assert not found.at_edge


def test_others_are_told_apart_from_the_signal():
    found = find(0.0123, others=(np.sin, np.cos, lambda t: t))
    assert found.seconds == pytest.approx(0.0123, abs=2e-5)
    assert found.coefficients == pytest.approx([3, 3, 3, 3, 2], abs=0.05)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    held = 0
    for seed in range(40):
        found = find(0.0123, noise=4.0, seed=seed)
        held += found.interval[0] <= 0.0123 <= found.interval[1]
        assert found.half_width < 0.008
    assert held >= 34  # 38 expected; below 34 has odds of about one in seventy


def test_a_lag_outside_of_those_tried_is_at_the_edge():
    assert find(0.2).at_edge or find(0.2).explained < 0.5


def test_one_tone_has_a_runner_up_a_period_away():
    times = np.arange(0, 20, 0.01)
    lags = np.arange(-0.15, 0.1501, 0.001)
    rows = [gram(np.ones((len(times), 1)), np.sin(40 * (times - at)), np.sin(40 * times)) for at in lags]
    assert best_lag(lags, np.stack(rows)).runner_up > 0.99


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(1).normal(size=50)
    parts = (values.sum() - values) / 49
    assert jackknife(parts) == pytest.approx(values.std(ddof=1) / np.sqrt(50))
