"""What a joint calibration makes of the options of a bus of servos."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.buses.servo_options import joint_map, with_zeros
from robot_wm.errors import BusError
from robot_wm.joint_zero import JointZero

TURN = 2 * math.pi


def arm(mode="position"):
    observation = {"name": "q", "topic": "joint_states", "field": "position", "names": ["elbow", "wrist"]}
    action = {"names": ["elbow"], "mode": mode, "low": [-2], "high": [2]}
    return slider_contract(observations=[observation], action=action)


def mapped(contract, options):
    names = ("zero", "direction", "effort_scale", "models", "position_wrap")
    given = {"extended": False, **{name: {} for name in names}, **options}
    return joint_map(contract, given.pop("ids", None), **given)


directions, angles = st.sampled_from([1, -1]), st.floats(-10, 10)


@given(directions, directions, st.floats(0, TURN, exclude_max=True), st.floats(-1, 1), angles, angles, st.booleans())
def test_the_bus_reports_what_the_calibration_makes_of_its_reading(
    turned, direction, centre, middle, zero, servo, driven
):
    contract, joint = arm(), "elbow" if driven else "wrist"
    options = {"direction": {joint: turned}, "zero": {joint: zero}, "extended": driven}
    found = JointZero(float(direction), centre, middle, middle - 1.4, middle + 1.4, TURN)
    raw, calibrated = mapped(contract, options), mapped(contract, with_zeros(contract, options, {joint: found}))
    board, k = np.full(2, servo), calibrated.names.index(joint)
    expected = float(found.position(raw.position(board)[k]))
    position = calibrated.position(board)
    assert math.remainder(position[k] - expected, TURN) == pytest.approx(0.0, abs=1e-9)
    assert abs(position[k] - middle) <= TURN / 2 + 1e-9
    if driven:
        assert calibrated.command(position[:1])[0] == pytest.approx(servo, abs=1e-5)  # holding does not move it


@given(directions, directions, st.floats(-1.7, 1.7), st.floats(-1, 1), st.floats(-3, 3), st.floats(-1.4, 1.4))
def test_in_position_control_goals_lie_in_the_servos_own_turn(turned, direction, servo_middle, middle, zero, away):
    options = {"direction": {"elbow": turned}, "zero": {"elbow": zero}}
    reading = turned * (servo_middle - zero)
    found = JointZero(float(direction), reading % TURN, middle, middle - 1.4, middle + 1.4, TURN)
    options = with_zeros(arm(), options, {"elbow": found})
    assert "elbow" not in options["position_wrap"]
    goal = mapped(arm(), options).command(np.array([middle + away]))[0]
    assert goal == pytest.approx(servo_middle + turned * direction * away, abs=1e-5)


def test_velocity_and_torque_turn_with_the_direction():
    found = JointZero(-1.0, 0.0, 0.0, -1.4, 1.4, TURN)
    joints = mapped(
        arm("effort"), with_zeros(arm("effort"), {"effort_scale": {"elbow": 2.0}}, {"elbow": found, "leg": found})
    )
    assert joints.velocity(np.array([1.0, 1.0])).tolist() == [-1.0, 1.0]
    assert joints.command(np.array([4.0])).tolist() == [-2.0]


def test_a_wrap_of_a_servo_that_leaves_no_turn_is_refused():
    with pytest.raises(BusError, match="position_wrap names elbow, .*; set extended"):
        mapped(arm(), {"position_wrap": {"elbow": [0.0, TURN]}, "way_out": "; set extended"})
