"""Grid instants, nearest-instant rule, ages, and clocks that move only when told to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.timebase import NS_PER_S, Grid, MonotonicClock, RosOffset, VirtualClock

MS = 1_000_000
rates = st.sampled_from([10.0, 25.0, 30.0, 50.0, 100.0, 333.0])
stamps = st.integers(-(10**15), 10**18)
grids = st.builds(Grid, hz=rates, origin=stamps)


def test_a_measurement_belongs_to_the_nearest_instant_and_a_tie_to_the_later():
    grid = Grid(50.0)
    assert [grid.nearest(ms * MS) for ms in (9, 10, 11, 29, 30)] == [0, 1, 1, 1, 2]


@given(grids, stamps)
def test_nearest_instant_is_at_most_half_a_step_away(grid, stamp):
    assert -0.5 <= grid.age(stamp, grid.nearest(stamp)) <= 0.5


@given(grids, stamps)
def test_floor_and_ceil_enclose_the_stamp(grid, stamp):
    low, high = grid.floor(stamp), grid.ceil(stamp)
    assert grid.stamp(low) <= stamp <= grid.stamp(high)
    assert high - low == (0 if grid.stamp(low) == stamp else 1)
    assert grid.nearest(stamp) in (low, high)


@given(grids, st.integers(-(10**6), 10**9))
def test_an_instant_is_its_own_nearest_with_age_zero(grid, k):
    stamp = grid.stamp(k)
    assert grid.nearest(stamp) == grid.floor(stamp) == grid.ceil(stamp) == k
    assert grid.age(stamp, k) == 0.0


def test_age_is_positive_for_a_measurement_captured_before_its_instant():
    assert Grid(50.0).age(15 * MS, 1) == pytest.approx(0.25)
    assert Grid(50.0).age(25 * MS, 1) == pytest.approx(-0.25)


def test_virtual_clock_moves_only_when_told_to():
    clock = VirtualClock(start=5)
    clock.advance(10)
    assert clock.now() == 15
    clock.sleep_until(100)
    assert clock.now() == 100
    clock.sleep_until(50)
    assert clock.now() == 100, "time never goes backwards"


def test_monotonic_clock_does_not_return_before_the_deadline():
    clock = MonotonicClock()
    deadline = clock.now() + 2 * MS
    clock.sleep_until(deadline)
    assert clock.now() >= deadline
    clock.sleep_until(0)


@given(stamps, stamps)
def test_ros_offset_is_undone_exactly(offset, stamp):
    offset = RosOffset(offset)
    assert offset.to_monotonic(offset.to_ros(stamp)) == stamp


def test_measured_offset_maps_monotonic_to_wall_time(monkeypatch):
    """The tightest of several pairs of readings wins, and the wall clock is taken at the middle of its pair."""
    monotonic = iter([0, 1000, 2000, 2010, 3000, 4000, 5000, 6000, 7000, 8000])
    monkeypatch.setattr("time.monotonic_ns", lambda: next(monotonic))
    monkeypatch.setattr("time.time_ns", lambda: NS_PER_S)
    assert RosOffset.measure().offset == NS_PER_S - 2005
