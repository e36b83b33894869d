import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.errors import ContractError, MessageError
from robot_wm.messages import JointState
from robot_wm.safety import SafetyFilter

PERIOD = 0.01
finite = st.floats(-1e6, 1e6)


def contract(mode="effort", safety=None, **action):
    table = {"names": ["slider"], "mode": mode, "low": [-10], "high": [10], **action}
    return slider_contract(action=table, safety=safety or {})


def joints(position=0.0, velocity=0.0, stamp=0, names=("slider",)):
    count = len(names)
    return JointState(stamp, names, np.full(count, position), np.full(count, velocity), np.zeros(0))


def send(safety, value, state=None, now=0):
    return safety.filter(np.atleast_1d(value), joints() if state is None else state, now, PERIOD)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_request_that_is_not_finite_is_refused_by_name_and_changes_nothing(value):
    safety = SafetyFilter(contract(rate=[100]))
    send(safety, 0.5)
    with pytest.raises(MessageError, match="not finite for slider"):
        send(safety, value)
    assert safety.last == pytest.approx([0.5])


def test_a_request_of_the_wrong_shape_is_refused():
    with pytest.raises(MessageError, match=r"shape \(2,\), expected \(1,\): slider"):
        send(SafetyFilter(contract()), [1.0, 2.0])


def test_a_request_within_all_bounds_passes_unchanged():
    checked = send(SafetyFilter(contract(safety={"position": {"slider": [-1, 1]}, "velocity": {"slider": 2}})), 3.25)
    assert checked.values == pytest.approx([3.25])
    assert not checked.clipped
    assert checked.reasons == ()


def test_tightened_limits_clip_and_are_counted():
    safety = SafetyFilter(contract(limit_low=[-2], limit_high=[3]))
    assert send(safety, 9.0).values == pytest.approx([3.0])
    checked = send(safety, -9.0)
    assert checked.values == pytest.approx([-2.0])
    assert checked.reasons == ("limit:slider",)
    assert safety.counts == {"limit:slider": 2}


@pytest.mark.parametrize("mode", ["effort", "velocity"])
def test_in_the_soft_zone_a_push_towards_the_bound_fades_and_one_away_from_it_does_not(mode):
    safety = SafetyFilter(contract(mode, safety={"position": {"slider": [-100, 100]}, "soft": {"slider": 20}}))
    for position, asked, sent in [
        (79.0, 8.0, 8.0),
        (90.0, 8.0, 4.0),
        (95.0, 8.0, 2.0),
        (90.0, -8.0, -8.0),
        (-95.0, -8.0, -2.0),
    ]:
        checked = send(safety, asked, joints(position))
        assert checked.values == pytest.approx([sent])
        assert checked.reasons == (("soft:slider",) if sent != asked else ())
    assert send(safety, 8.0, joints(101.0)).values == pytest.approx([0.0])


def test_a_soft_zone_of_a_position_target_is_refused():
    with pytest.raises(ContractError, match="safety.soft is of effort and velocity mode"):
        SafetyFilter(contract("position", safety={"position": {"slider": [-1, 1]}, "soft": {"slider": 0.1}}))


def test_the_rate_limits_the_change_since_what_was_really_sent():
    safety = SafetyFilter(contract(rate=[100]))
    assert send(safety, 5.0).values == pytest.approx([5.0])  # nothing sent before: nothing to slew from
    assert send(safety, 9.0).values == pytest.approx([6.0])
    safety.resume_from(np.array([5.0]))  # that write failed
    assert send(safety, 9.0).values == pytest.approx([6.0])
    assert send(safety, -9.0).reasons == ("slew:slider",)


def test_a_step_of_a_plan_within_its_rate_is_played_as_a_ramp_and_counts_as_no_clip():
    safety = SafetyFilter(contract(rate=[100]))  # 50 Hz model, 100 Hz motor
    send(safety, 0.0)
    played = [send(safety, value) for value in (2.0, 2.0, 0.5, 0.5)]
    assert [checked.values[0] for checked in played] == pytest.approx([1.0, 2.0, 1.0, 0.5])
    assert not safety.counts
    assert send(safety, 3.0).reasons == ("slew:slider",)


@given(st.lists(finite, min_size=1, max_size=30), finite, finite)
def test_whatever_is_asked_what_is_sent_is_finite_and_within_limits_and_rate(requests, position, velocity):
    safety = SafetyFilter(contract(limit_low=[-4], limit_high=[6], rate=[50]))
    before = None
    for request in requests:
        values = send(safety, request, joints(position, velocity)).values
        assert np.isfinite(values).all()
        assert -4 <= values[0] <= 6
        assert before is None or abs(values[0] - before) <= 50 * PERIOD + 1e-9
        before = values[0]


@given(finite, st.floats(-3, 3), st.floats(-20, 20))
def test_effort_never_pushes_a_joint_out_of_its_position_bound(request, position, velocity):
    safety = SafetyFilter(contract(safety={"position": {"slider": [-1, 1]}}))
    value = send(safety, request, joints(position, velocity)).values[0]
    if position >= 1:
        assert value <= 0
    if position <= -1:
        assert value >= 0


def test_effort_back_into_the_bound_passes():
    safety = SafetyFilter(contract(safety={"position": {"slider": [-1, 1]}}))
    assert send(safety, -5.0, joints(1.2)).values == pytest.approx([-5.0])
    assert send(safety, 5.0, joints(1.2)).reasons == ("position:slider",)
    assert send(safety, 5.0, joints(0.99, velocity=3.0)).values == pytest.approx([0.0])  # there by the next tick


def test_effort_that_speeds_up_beyond_the_velocity_bound_becomes_zero():
    safety = SafetyFilter(contract(safety={"velocity": {"slider": 2}}))
    assert send(safety, 5.0, joints(velocity=2.5)).reasons == ("velocity:slider",)
    assert send(safety, -5.0, joints(velocity=2.5)).values == pytest.approx([-5.0])


@given(finite, st.floats(-3, 3))
def test_a_velocity_stops_at_the_position_bound_and_never_exceeds_its_own(request, position):
    safety = SafetyFilter(contract("velocity", {"position": {"slider": [-1, 1]}, "velocity": {"slider": 2}}))
    value = send(safety, request, joints(position)).values[0]
    assert abs(value) <= 2
    after = position + value * PERIOD
    assert min(-1, position) - 1e-9 <= after <= max(1, position) + 1e-9


def test_a_position_is_clamped_and_moves_no_faster_than_its_velocity_bound():
    safety = SafetyFilter(contract("position", {"position": {"slider": [-1, 1]}, "velocity": {"slider": 2}}))
    safety.resume_from(np.array([0.99]))
    assert send(safety, 5.0).reasons == ("position:slider",)
    assert safety.last == pytest.approx([1.0])
    assert send(safety, 0.0).values == pytest.approx([0.98])
    assert send(safety, 0.0).reasons == ("velocity:slider",)


@pytest.mark.parametrize(("mode", "expected"), [("effort", 0.0), ("velocity", 0.0), ("position", 0.7)])
def test_a_bounded_joint_that_nobody_has_seen_lately_is_not_driven(mode, expected):
    safety = SafetyFilter(contract(mode, {"position": {"slider": [-1, 1]}, "joint_stale_s": 0.05}))
    safety.resume_from(np.array([0.7]))
    checked = send(safety, 0.9, joints(stamp=0), now=60_000_000)
    assert checked.values == pytest.approx([expected])
    assert checked.reasons == ("stale:slider",)


def test_joints_are_found_by_name_in_any_order():
    safety = SafetyFilter(contract(safety={"position": {"slider": [-1, 1]}}))
    state = JointState(0, ("hinge", "slider"), np.array([0.0, 1.5]), np.zeros(2), np.zeros(0))
    assert send(safety, 5.0, state).values == pytest.approx([0.0])
    swapped = JointState(0, ("slider", "hinge"), np.array([0.0, 1.5]), np.zeros(2), np.zeros(0))
    assert send(safety, 5.0, swapped).values == pytest.approx([5.0])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (joints(names=("elbow", "hinge")), "lacks slider; it has elbow, hinge"),
        (joints(position=np.nan), "position is not finite for slider"),
        (JointState(0, ("slider",), np.zeros(2), np.zeros(1), np.zeros(0)), r"position has shape \(2,\) for 1 joints"),
        (JointState(0, ("slider",), np.zeros(0), np.zeros(1), np.zeros(0)), "position is not measured"),
    ],
)
def test_a_joint_state_that_cannot_be_used_says_why(state, message):
    with pytest.raises(MessageError, match=message):
        SafetyFilter(contract(safety={"position": {"slider": [-1, 1]}})).require_state(state)


def test_a_joint_without_a_motor_beyond_its_bound_is_named():
    safety = SafetyFilter(contract(safety={"velocity": {"hinge": 3}, "position": {"hinge": [-2, 2]}}))
    assert safety.breach(joints(1.0, 1.0, names=("slider", "hinge"))) == ""
    assert "hinge moves at 4.000" in safety.breach(joints(0.0, 4.0, names=("slider", "hinge")))
    assert "hinge is at 2.500" in safety.breach(joints(2.5, 0.0, names=("slider", "hinge")))
