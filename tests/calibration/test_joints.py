"""Zero, direction and range from a sweep, against a MuJoCo joint whose stops, offset and encoder are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.files import write
from calibration.joints import resting, sweep, to_calibration, unwrap
from one_joint import HIGH, LOW, Encoder, model, press, simulate
from robot_wm.calibration_file import parse, read
from robot_wm.errors import CalibrationError
from robot_wm.joint_zero import JointZero, joint_zeros

TENTH = math.radians(0.1)


@pytest.fixture(scope="module")
def log():
    """The soft stops give way by more than half a degree under the largest effort."""
    return simulate(model(LOW, HIGH, soft=0.05, viscous=0.08), press(), 30.0, rate=100.0)


def zero_error(found, encoder, truth):
    """Of positions from an encoder without steps: what the calibration itself got wrong [rad]."""
    exact = Encoder(encoder.direction, encoder.offset, 1 << 40).read(truth)
    return np.abs(found.zero.position(exact) - truth).max()


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize("offset", np.linspace(0.0, 2 * np.pi, 7))
def test_zero_is_found_within_a_tenth_of_a_degree_wherever_the_encoder_wraps(log, direction, offset):
    times, truth, effort = log
    encoder = Encoder(direction, offset)
    found = sweep(times, encoder.read(truth), effort=effort, low=math.radians(LOW))
    assert found.zero.direction == direction
    assert zero_error(found, encoder, truth) < TENTH
    assert found.zero.low_rad == pytest.approx(math.radians(LOW), abs=1e-9)
    assert found.zero.high_rad == pytest.approx(math.radians(HIGH), abs=2 * TENTH)
    assert found.visits == (3, 3)


def test_stops_that_give_way_are_told_by_the_effort(log):
    times, truth, effort = log
    reading = Encoder().read(truth)
    pushed = math.radians(LOW) - truth.min()
    assert pushed > math.radians(0.3)
    with_effort, without = (sweep(times, reading, effort=e, low=math.radians(LOW)) for e in (effort, None))
    assert with_effort.repeatability_rad < TENTH < without.repeatability_rad
    assert zero_error(with_effort, Encoder(), truth) < TENTH < zero_error(without, Encoder(), truth)


def test_no_reading_within_the_range_jumps(log):
    times, truth, _ = log
    zero = sweep(times, Encoder().read(truth)).zero
    readings = Encoder(1.0, 0.0, 1 << 20).read(np.radians(np.linspace(LOW, HIGH, 1000)))
    assert np.abs(np.diff(readings)).max() > 6.0  # the encoder itself does
    assert np.diff(zero.position(readings)).max() < math.radians(0.3)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, -(HIGH - LOW) / 2),
        ({"low": 0.0}, 0.0),
        ({"high": 0.0}, LOW - HIGH),
        ({"low": math.radians(LOW), "high": math.radians(HIGH)}, LOW),
    ],
)
def test_zero_is_where_the_given_stops_say(log, given, expected):
    times, truth, effort = log
    found = sweep(times, Encoder().read(truth), effort=effort, **given)
    assert math.degrees(found.zero.low_rad) == pytest.approx(expected, abs=0.2)


def test_a_range_that_does_not_fit_the_drawing_shows_in_the_residual(log):
    times, truth, effort = log
    found = sweep(times, Encoder().read(truth), effort=effort, low=math.radians(LOW), high=math.radians(HIGH + 4))
    assert math.degrees(found.span_error_rad) == pytest.approx(-4.0, abs=0.1)
    assert to_calibration({"joint": found}, "arm-1").residual == pytest.approx(2.0, abs=0.05)


def test_the_file_gives_the_same_positions(log, tmp_path):
    times, truth, effort = log
    reading = Encoder(-1.0, 1.0).read(truth)
    found = sweep(times, reading, effort=-effort, low=math.radians(LOW))
    back = read(write(tmp_path / "joints.yaml", to_calibration({"joint": found}, "arm-1")))
    assert joint_zeros(back)["joint"] == found.zero
    assert back.residual < 0.1
    assert (back.unit, back.serial) == ("deg", "arm-1")


def staircase(*levels, rate=100.0, hold=1.0, move=1.0):
    """Rest at each level [rad] in turn, with smooth motions between."""
    ease = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, round(move * rate)))
    pieces = [np.full(round(hold * rate), levels[0])]
    for a, b in zip(levels, levels[1:], strict=False):
        pieces += [a + (b - a) * ease, np.full(round(hold * rate), b)]
    angle = np.concatenate(pieces)
    return np.arange(len(angle)) / rate, angle


@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [
        ((0.0, 0.05, 0.0, 0.05), {}, "from end stop to end stop"),
        ((0.0, 2.0), {}, "at least twice"),
        ((0.0, 2.0, 1.0, 2.0), {}, "smallest reading once"),
        ((0.0, 3.1, 6.25, 3.1, 0.0, 3.1, 6.25, 3.1, 0.0), {}, "multi-turn"),
        ((0.0, 2.0, 0.0, 2.0), {"first": "left"}, "must be low or high"),
    ],
)
def test_a_sweep_that_tells_too_little_is_refused(levels, options, message):
    times, angle = staircase(*levels)
    with pytest.raises(CalibrationError, match=message):
        sweep(times, angle, "elbow", **options)


def test_a_motion_too_fast_for_the_log_is_refused():
    times, angle = staircase(0.0, 2.0, 0.0, 2.0, rate=2.0, hold=2.0)
    with pytest.raises(CalibrationError, match="elbow: jumps by .* move slower"):
        sweep(times, np.concatenate([angle[:3], angle[3:] + 1.7]), "elbow")


def test_a_motion_without_a_rest_is_refused():
    times = np.arange(0, 10, 0.01)
    with pytest.raises(CalibrationError, match="never rested"):
        sweep(times, np.sin(5 * times), "elbow")


def test_readings_that_are_not_finite_are_refused():
    with pytest.raises(CalibrationError, match="no finite readings"):
        sweep(np.arange(3.0), np.array([0.0, np.nan, 1.0]))


def test_rests_are_seen_in_their_middle_alone():
    times, angle = staircase(0.0, 1.0)
    rests = resting(times, angle)
    assert rests[50] and not rests[150] and rests[250]
    assert not rests[0]


@settings(max_examples=100)
@given(
    st.floats(0.2, 5.9),
    st.floats(-20.0, 20.0),
    st.sampled_from([1.0, -1.0]),
    st.floats(-3.0, 3.0),
    st.sampled_from(["low", "high"]),
)
def test_any_range_below_a_turn_survives_any_wrap(span, offset, direction, low, first):
    """Readings of an encoder without steps: positions are exact, wherever its zero lies."""
    order = (0.0, 1.0) if first == "low" else (1.0, 0.0)
    times, part = staircase(*order, *order, rate=50.0)
    truth = low + span * part
    reading = np.mod(direction * truth + offset, 2 * np.pi)
    found = sweep(times, reading, low=low, first=first)
    assert found.zero.direction == direction
    assert found.zero.position(reading) == pytest.approx(truth, abs=1e-9)


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=50), st.floats(0.0, 7.0))
def test_unwrap_undoes_any_wrap(steps, start):
    angle = start + np.cumsum(steps)
    back = unwrap(np.mod(angle, 2 * np.pi))
    assert back - back[0] == pytest.approx(angle - angle[0], abs=1e-9)


def test_the_validated_file_names_a_wrong_direction():
    zero = JointZero(1.0, 0.0, 0.0, -1.0, 1.0, 6.28)
    data = {
        "schema": 1,
        "kind": "joints",
        "serial": "a",
        "date": "2026-01-01",
        "method": "m",
        "residual": 0.1,
        "unit": "deg",
        "values": {"elbow": zero.__dict__ | {"direction": 2}},
    }
    with pytest.raises(CalibrationError, match=r"values\.elbow\.direction: must be 1 or -1, got 2"):
        parse(data, "f.yaml")
