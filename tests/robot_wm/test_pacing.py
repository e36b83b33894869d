import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.pacing import Deadlines, Histogram, RateMeter, TickStats
from robot_wm.timebase import NS_PER_S, Grid


@pytest.mark.parametrize(("model_hz", "motor_hz"), [(50, 100), (30, 120), (30, 210), (33.3, 99.9)])
def test_every_model_instant_is_a_tick(model_hz, motor_hz):
    deadlines, grid = Deadlines(slider_contract(model_hz=model_hz, motor_hz=motor_hz)), Grid(model_hz)
    ratio = round(motor_hz / model_hz)
    for k in (0, 1, 7, 10**7):
        assert deadlines.stamp(k * ratio) == grid.stamp(k)


@given(st.integers(0, 10**10), st.sampled_from([(50, 100), (30, 210), (33.3, 99.9), (50, 75), (50, 20)]))
def test_floor_is_the_last_tick_not_after_a_stamp(k, rates):
    deadlines = Deadlines(slider_contract(model_hz=rates[0], motor_hz=rates[1]))
    stamp = deadlines.stamp(k)
    assert deadlines.floor(stamp) == k
    assert deadlines.floor(stamp - 1) == k - 1
    assert abs(deadlines.stamp(k + 1) - stamp - NS_PER_S / rates[1]) < 2


@given(st.lists(st.integers(1_000, 5 * NS_PER_S), min_size=1, max_size=200), st.sampled_from([50.0, 99.0]))
def test_percentiles_are_right_to_a_bin(durations, percent):
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    exact = np.percentile(durations, percent, method="inverted_cdf")
    assert exact * 0.999 <= histogram.percentile(percent) <= exact * 1.13
    assert histogram.largest == max(durations)


def test_figures_name_lateness_misses_and_cost_in_milliseconds():
    stats = TickStats()
    stats.done(deadline=0, began=1_000_000, ended=3_000_000)
    stats.missed(2, now=10 * NS_PER_S)
    figures = stats.figures()
    assert figures["ticks"] == 1
    assert figures["ticks_missed"] == 2
    assert figures["lateness_ms_max"] == pytest.approx(1.0)
    assert figures["tick_ms_max"] == pytest.approx(2.0)
    assert stats.overrun_recently(10 * NS_PER_S)
    assert not stats.overrun_recently(12 * NS_PER_S)


def test_the_rate_is_told_from_the_stamps_of_the_last_second():
    meter = RateMeter()
    meter.add(0)
    assert (meter.heard_s, meter.hz) == (0.0, 0.0)
    for i in range(1, 300):
        meter.add(i * 10_000_000)
    assert meter.hz == pytest.approx(100.0)
    assert meter.heard_s == pytest.approx(2.99)
    for i in range(1, 30):
        meter.add(2_990_000_000 + i * 50_000_000)
    assert meter.hz == pytest.approx(20.0)
    meter.add(6 * NS_PER_S)  # after a pause it begins anew
    assert (meter.heard_s, meter.hz) == (0.0, 0.0)
    for i in range(1, 5):
        meter.add(6 * NS_PER_S + i * NS_PER_S // 2)
    assert (meter.heard_s, meter.hz) == (2.0, 2.0)
