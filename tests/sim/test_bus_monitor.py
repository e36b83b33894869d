"""The monitor judges the bytes that the real buses send, and bytes that no bus of ours would send."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="needs the extra `sim`")

from robot_wm.contract import load_contract
from robot_wm.errors import RunError
from sim.bus_monitor import BusMonitor
from sim.bus_tap import RECORD, Kind, Tap
from sim.cartpole import CONTRACT
from sim.dynamixel_packets import Packet as DynamixelPacket
from sim.dynamixel_packets import encode as encode_dynamixel
from sim.feetech_packets import Packet as FeetechPacket
from sim.feetech_packets import encode as encode_feetech
from sim.wire_goals import WIRES, Goal, Power

framing = pytest.importorskip("robot_wm.buses.framing", reason="needs the extra `serial`")
MS = 1_000_000
SCALES = {"serial": {}, "dynamixel": {"effort_scale": {"slider": 4.0}}, "feetech": {"effort_scale": {"slider": 10.0}}}


def frame(kind, payload=b""):
    return framing.encode(framing.Frame(kind, 7, 1, 0, payload))


def goal_bytes(bus, newton):
    """A goal as each protocol carries it; 4 N per ampere, 10 N at full PWM."""
    if bus == "serial":
        return frame(3, np.float32([newton]).tobytes())
    if bus == "dynamixel":
        units = round(newton / 4.0 / 2.69e-3)
        return encode_dynamixel(DynamixelPacket(0xFE, 0x83, b"\x66\0\2\0\1" + units.to_bytes(2, "little", signed=True)))
    units = round(abs(newton) / 10.0 * 1000) | (newton < 0) << 10
    return encode_feetech(FeetechPacket(0xFE, 0x83, b"\x2c\2\1" + units.to_bytes(2, "little")))


def power_bytes(bus, on):
    if bus == "serial":
        return frame(4 if on else 5)
    if bus == "dynamixel":
        return encode_dynamixel(DynamixelPacket(0xFE, 0x83, bytes([0x40, 0, 1, 0, 1, on])))
    return encode_feetech(FeetechPacket(0xFE, 0x83, bytes([40, 1, 1, on])))


@pytest.fixture
def contract():
    """±8 N of ±10, 400 N/s; a motor period is 10 ms."""
    found = load_contract(CONTRACT)
    return replace(found, action=replace(found.action, limit_low=(-8.0,), limit_high=(8.0,), rate=(400.0,)))


@pytest.fixture
def line(contract, tmp_path):
    """A monitor of a bus, and a function that records what passes at a time [ms]."""

    def start(bus="serial"):
        tap = Tap(tmp_path / "tap")
        monitor = BusMonitor(bus, contract, SCALES[bus], tmp_path / "tap")

        def at(ms, *, goal=None, power=None, driven=None, raw=b""):
            if power is not None:
                tap.write(ms * MS, Kind.SENT, power_bytes(bus, power))
            if driven is not None:
                tap.write(ms * MS, Kind.DRIVEN, bytes([driven]))
            if goal is not None:
                raw = goal_bytes(bus, goal)
            if raw:
                tap.write(ms * MS, Kind.SENT, raw)
            monitor.poll()

        return monitor, at

    return start


@pytest.mark.parametrize("bus", WIRES)
def test_goals_and_power_are_read_from_the_bytes_in_any_pieces(bus, contract):
    wire = WIRES[bus](contract, SCALES[bus])
    data = power_bytes(bus, True) + goal_bytes(bus, -3.0) + goal_bytes(bus, 7.5) + power_bytes(bus, False)
    asked = [item for k in range(len(data)) for item in wire.feed(data[k : k + 1])]
    assert [type(item) for item in asked] == [Power, Goal, Goal, Power]
    assert [asked[0].on, asked[3].on] == [True, False]
    np.testing.assert_allclose([asked[1].values, asked[2].values], [[-3.0], [7.5]], atol=wire.quantum[0])


@pytest.mark.parametrize("bus", WIRES)
def test_what_is_torn_or_for_others_is_no_goal(bus, contract):
    wire = WIRES[bus](contract, SCALES[bus])
    whole = goal_bytes(bus, 5.0)
    torn = bytearray(whole)
    torn[-3] ^= 0x10
    assert wire.feed(bytes(torn)) == []
    assert [type(item) for item in wire.feed(b"\0" + whole)] == [Goal]


@pytest.mark.parametrize("bus", WIRES)
def test_a_goal_within_limits_and_rate_is_none_of_its_business(bus, line):
    monitor, at = line(bus)
    at(0, power=True, driven=True)
    for k, newton in enumerate((4.0, 8.0, 4.0, 0.0, -4.0, -8.0)):
        at(10 + 10 * k, goal=newton)
    assert monitor.goals == 6
    assert monitor.violations == []


@pytest.mark.parametrize("bus", WIRES)
@pytest.mark.parametrize(
    ("goals", "said"),
    [((4.0, 8.0, 8.5), "outside"), ((4.0, -4.0), "the rate is"), ((9.0,), "outside"), ((5.0,), "the rate is")],
)
def test_a_goal_beyond_limit_or_rate_is_a_violation_at_its_time(bus, line, goals, said):
    monitor, at = line(bus)
    at(0, power=True, driven=True)
    for k, newton in enumerate(goals):
        at(10 + 10 * k, goal=newton)
    (violation,) = monitor.violations
    assert said in violation.what
    assert violation.stamp == 10 * len(goals) * MS
    assert monitor.violations_within(0, 5 * MS) == []


def test_more_time_since_the_last_goal_allows_more_change_and_a_burst_no_less_than_a_period(line):
    monitor, at = line()
    at(0, power=True, driven=True)
    at(10, goal=4.0)
    at(10, goal=8.0)  # read together, though sent 10 ms apart
    at(50, goal=-7.9)
    assert monitor.violations == []


@pytest.mark.parametrize("bus", WIRES)
def test_only_rest_may_be_told_to_motors_that_are_told_to_be_off(bus, line):
    monitor, at = line(bus)
    at(0, goal=0.0)
    assert monitor.violations == []
    at(10, goal=1.0)
    (violation,) = monitor.violations
    assert "told to be off" in violation.what


def test_a_goal_that_is_not_finite_is_a_violation(line):
    monitor, at = line()
    at(0, power=True)
    at(10, raw=goal_bytes("serial", float("nan")))
    assert "not finite" in monitor.violations[0].what


def test_safe_is_when_the_last_effort_was_taken_back(line):
    monitor, at = line()
    at(0, power=True, driven=True)
    at(10, goal=3.0)
    at(100, goal=3.0)
    at(110, goal=0.0)
    at(120, goal=0.0)
    assert monitor.became_safe(50 * MS, 120 * MS, off=False) == pytest.approx(0.06)
    assert monitor.became_safe(110 * MS, 120 * MS, off=False) == 0.0
    assert monitor.became_safe(50 * MS, 105 * MS, off=False) is None
    assert monitor.became_safe(50 * MS, 120 * MS, off=True) is None  # still driven


def test_motors_without_power_are_safe_whatever_they_were_told(line):
    monitor, at = line()
    at(0, power=True, driven=True)
    at(10, goal=3.0)
    at(200, driven=False)
    at(210, goal=3.0)
    assert monitor.became_safe(20 * MS, 300 * MS, off=True) == pytest.approx(0.18)


def test_how_long_an_effort_stood_without_a_new_goal(line):
    monitor, at = line()
    at(0, power=True, driven=True)
    at(10, goal=3.0)
    at(40, goal=3.0)
    at(60, goal=0.0)
    at(500, goal=0.0)
    assert monitor.unattended(0, 500 * MS) == pytest.approx(0.03)
    assert monitor.unattended(0, 30 * MS) == pytest.approx(0.02)


def test_faults_of_the_line_are_known_with_their_times_and_half_a_record_waits(line, tmp_path):
    monitor, _ = line()
    record = RECORD.pack(5, Kind.INFLICTED, 6) + b"hangup"
    with (tmp_path / "tap").open("ab") as file:
        file.write(record[:10])
        file.flush()
        monitor.poll()
        assert monitor.inflicted == []
        file.write(record[10:])
    monitor.poll()
    assert monitor.inflicted == [(5, "hangup")]


def test_what_it_cannot_judge_is_refused(contract, tmp_path):
    with pytest.raises(RunError, match="no monitor for bus 'mujoco'"):
        BusMonitor("mujoco", contract, {}, tmp_path / "tap")
    position = replace(contract, action=replace(contract.action, mode="position"))
    with pytest.raises(RunError, match="in position mode"):
        BusMonitor("serial", position, {}, tmp_path / "tap")
