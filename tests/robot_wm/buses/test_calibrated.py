"""Joint zeros reach the bus through its options: positions mean what the contract says, on a real pty too."""

import math
import time
from importlib.metadata import EntryPoint

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.buses import base
from robot_wm.buses.calibrated import SCALES, open_calibrated, scaled_with_zeros
from robot_wm.buses.joint_map import JointMap
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.joint_zero import JointZero
from sim.board_core import Board
from sim.pty_emulator import PtyEmulator

TURN = 2 * math.pi


def arm(mode="position"):
    observation = {"name": "q", "topic": "joint_states", "field": "position", "names": ["elbow", "wrist"]}
    action = {"names": ["elbow"], "mode": mode, "low": [-2], "high": [2]}
    return slider_contract(observations=[observation], action=action)


def zero(direction=1.0, centre=0.0, middle=0.0, half=1.4):
    return JointZero(direction, centre, middle, middle - half, middle + half, TURN)


def mapped(contract, options):
    given = {"joints": None, **{option: {} for option in SCALES}, **options}
    return JointMap(contract, **given)


@given(
    direction=st.sampled_from([1.0, -1.0]),
    centre=st.floats(0, TURN, exclude_max=True),
    middle=st.floats(-1, 1),
    scale=st.sampled_from([1.0, -1.0, TURN / 4096]),
    offset=st.floats(-10, 10),
    away=st.floats(-1.4, 1.4),
    turns=st.integers(-2, 2),
)
def test_the_bus_reports_what_the_calibration_makes_of_its_reading(
    direction, centre, middle, scale, offset, away, turns
):
    found = zero(direction, centre, middle)
    contract = arm()
    options = {"position_scale": {"elbow": scale}, "position_offset": {"elbow": offset}}
    raw, calibrated = (
        mapped(contract, options),
        mapped(contract, scaled_with_zeros(contract, options, {"elbow": found})),
    )
    reading = centre + direction * away + turns * TURN  # what the sweep was recorded as
    board = np.array([(reading - offset) / scale, 0.0])
    assert raw.position(board)[0] == pytest.approx(reading, abs=1e-9)
    position = calibrated.position(board)
    assert position[0] == pytest.approx(middle + away, abs=1e-6)
    assert position[0] == pytest.approx(float(found.position(raw.position(board)[0])), abs=1e-6)
    back = calibrated.command(position[:1])  # holding where it is does not move it, whatever the turn
    assert back[0] == pytest.approx(board[0], rel=1e-5, abs=1e-4 / abs(scale) * 1e-2)


def test_velocity_and_torque_turn_with_the_direction():
    contract = arm("effort")
    options = {"position_scale": {"elbow": 2.0}, "effort_scale": {"elbow": 0.5}}
    joints = mapped(contract, scaled_with_zeros(contract, options, {"elbow": zero(-1.0)}))
    assert joints.velocity(np.array([1.0, 1.0])).tolist() == [-2.0, 1.0]
    assert joints.effort(np.array([4.0, 4.0])).tolist() == [-2.0, 4.0]
    assert joints.command(np.array([2.0])).tolist() == [-4.0]


def test_a_zero_of_a_joint_that_the_board_lacks_is_left_out():
    options = scaled_with_zeros(
        arm(), {"joints": ["elbow"]}, {"elbow": zero(centre=1.0), "wrist": zero(), "leg": zero()}
    )
    assert set(options["position_offset"]) == {"elbow"}
    assert options["joints"] == ["elbow"]


def test_a_wrap_that_is_none_is_named():
    with pytest.raises(base.BusError, match=r"position_wrap of elbow must be \[middle, period\]"):
        mapped(arm(), {"position_wrap": {"elbow": [0.0, 0.0]}})
    with pytest.raises(base.BusError, match=r"position_wrap of elbow must be \[middle, period\]"):
        mapped(arm(), {"position_wrap": {"elbow": 3.0}})


def test_a_torn_reading_does_not_spoil_the_next_setpoint():
    joints = mapped(arm(), {"position_wrap": {"elbow": [0.0, TURN]}})
    joints.position(np.array([TURN + 0.5, 0.0]))
    assert np.isnan(joints.position(np.array([np.nan, 0.0]))[0])
    assert joints.command(np.array([0.5]))[0] == pytest.approx(TURN + 0.5)


@pytest.fixture
def installed(monkeypatch):
    entries = [
        EntryPoint("serial", "robot_wm.buses.framed_serial:FramedSerialBus", base.BUSES),
        EntryPoint("loopback", "robot_wm.buses.loopback:LoopbackBus", base.BUSES),
    ]
    monkeypatch.setattr(base, "entry_points", lambda group: entries)


def test_a_bus_that_cannot_apply_zeros_is_opened_without(installed):
    bus, applied = open_calibrated("loopback", arm(), {}, {"elbow": zero()})
    assert not applied
    assert isinstance(bus, LoopbackBus)


def test_across_the_encoders_wrap_on_a_pty_the_joint_moves_as_the_contract_says(installed, tmp_path):
    """The encoder counts against the joint and wraps in the middle of its range."""
    contract = arm()
    physics = LoopbackBus(contract)
    physics.open()
    emulator = PtyEmulator(Board(physics, 1, "position", watchdog_ms=30_000), tmp_path / "board")
    options = {"port": emulator.path, "timeout_s": 1.0, "open_timeout_s": 10.0, "longest_watchdog_s": 60.0}
    with emulator.running():
        physics.position[0] = TURN - 0.2  # 0.1 before the middle, which the encoder reads as 6.183
        bus, applied = open_calibrated("serial", contract, options, {"elbow": zero(-1.0, TURN - 0.1, 0.5)})
        assert applied
        assert bus.read().position[0] == pytest.approx(0.6, abs=1e-5)
        bus.enable()
        bus.write(np.array([0.3]))
        end = time.monotonic() + 20
        while abs((state := bus.read()).position[0] - 0.3) > 1e-5:
            assert time.monotonic() < end
        assert physics.position[0] == pytest.approx(TURN + 0.1, abs=1e-5)
        assert state.names == ("elbow", "wrist")
        bus.close()
