from hypothesis import given
from hypothesis import strategies as st

from robot_wm.buses.mcu_clock import McuClock

MS = 1_000_000
WRAP = 2**32


def trip(clock, sent, mcu_us, there=100, back=100):
    """One round trip whose request takes `there` and whose reply `back` [us]; the board's clock is `mcu_us` at `sent`."""
    clock.add(sent, (mcu_us + there) % WRAP, sent + (there + back) * 1000)


def test_the_quickest_round_trip_of_the_last_second_wins():
    clock = McuClock()
    trip(clock, 0, 5_000, back=4_000)
    assert clock.uncertainty == 2_050_000
    trip(clock, 10 * MS, 15_000, there=50, back=50)
    trip(clock, 20 * MS, 25_000, back=9_000)
    assert clock.uncertainty == 50_000
    assert clock.to_host(20_000) == 15 * MS
    trip(clock, 1_200 * MS, 1_205_000, back=900)  # by now the quick one is forgotten
    assert clock.uncertainty == 500_000


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 3_000)), min_size=1, max_size=40), st.integers(0, WRAP - 1)
)
def test_the_error_is_at_most_half_the_quickest_round_trip(delays, start):
    clock = McuClock()
    for i, (there, back) in enumerate(delays):
        trip(clock, i * 10 * MS, start + i * 10_000, there, back)
    now = len(delays) * 10
    assert abs(clock.to_host((start + now * 1000) % WRAP) - now * MS) <= clock.uncertainty + 1000
    assert clock.uncertainty == min(there + back for there, back in delays) * 500


def test_time_goes_on_where_the_boards_clock_wraps():
    clock = McuClock()
    start = WRAP - 5_000  # 5 ms before the wrap
    for i in range(20):
        trip(clock, i * MS, start + i * 1000)
    stamps = [clock.to_host((start + i * 1000) % WRAP) for i in range(20)]
    assert stamps == [i * MS for i in range(20)]
    assert clock.to_mcu(10 * MS) == 5_000


def test_many_wraps_are_followed():
    clock, minute = McuClock(), 60_000_000
    for i in range(200):
        trip(clock, i * minute * 1000, i * minute)
    assert clock.to_host(199 * minute % WRAP) == 199 * minute * 1000


def test_a_reading_older_than_the_newest_frame_maps_back():
    clock = McuClock()
    trip(clock, 100 * MS, 1_000)
    assert clock.to_host(WRAP - 1_000) == 98 * MS
