"""Each check by its name: what fails, what warns, and that the motor loop refuses with just that sentence."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from arming_samples import NOW, elbow_contract
from calibration.files import write
from calibration_samples import made
from conftest import slider_contract
from motor_bench import TICK, Bench
from robot_wm.arming import Seen, examine
from robot_wm.arming_files import Papers
from robot_wm.state_machine import State

GOOD = Seen(age_s=0.002, heard_s=60.0, rate_hz=100.0)


def found(contract, seen=GOOD, papers=None):
    return {check.name: check for check in examine(contract, papers, seen, NOW)}


def test_a_good_robot_passes_everything():
    assert {check.status for check in found(elbow_contract(), papers=Papers.read(elbow_contract())).values()} == {
        "pass"
    }


@pytest.mark.parametrize(
    ("name", "change", "status", "says"),
    [
        ("bus", {"fault": "motor 2 is too hot"}, "fail", "motor 2 is too hot; mend the cause"),
        ("joints", {"age_s": None, "joints": "no joint state yet: cable"}, "fail", "no joint state yet: cable; check"),
        ("joints", {"outside": "elbow is at 2.000, outside -1..1"}, "fail", "outside -1..1; move it inside by hand"),
        ("joints", {"breach": "hinge moves at 9.000, its bound is 3"}, "fail", "its bound is 3; bring it to rest"),
        ("rates", {"rate_hz": 40.0}, "fail", "40 joint states per second, expected 100; look for a busy machine"),
        ("rates", {"rate_hz": 60.0}, "warn", "60 joint states per second, expected 100"),
        ("rates", {"rate_hz": 95.0}, "pass", "95 joint states per second"),
        ("rates", {"rate_hz": 2.0}, "fail", "2 joint states per second, expected 100"),
        ("rates", {"heard_s": 0.5, "rate_hz": 9.0}, "warn", "have not come for a second yet: no rate; wait a moment"),
        ("clock", {"joints": "no joint state for 0.200 s"}, "fail", "no joint state for 0.200 s; check the bus"),
        ("clock", {"figures": {"clock_uncertainty_us": 6000.0}}, "warn", "to 6.0 ms only"),
        ("clock", {"figures": {"clock_uncertainty_us": 50.0}}, "pass", "2.0 ms old"),
    ],
)
def test_what_is_seen_is_judged_under_its_name(name, change, status, says):
    check = found(elbow_contract(), replace(GOOD, **change))[name]
    assert check.status == status
    assert says in check.sentence


def test_a_rate_that_the_contract_does_not_state_only_warns_and_none_is_expected_above_the_motor_rate():
    silent = slider_contract()  # motor_hz 100, no rate_hz
    assert found(silent, replace(GOOD, rate_hz=10.0))["rates"].status == "warn"
    faster = elbow_contract(motor_hz=50)
    assert found(faster, replace(GOOD, rate_hz=50.0))["rates"].status == "pass"


@pytest.mark.parametrize(
    ("voltage", "status", "says"),
    [
        (12.0, "pass", "12.0 V"),
        (10.8, "fail", "10.8 V is outside safety.voltage 11..13 V; charge or change the battery"),
        (14.0, "fail", "14.0 V is outside safety.voltage 11..13 V; check the supply"),
        (float("nan"), "fail", "nan V is outside"),
        (None, "warn", "the motor bus reports no voltage; measure it by hand"),
    ],
)
def test_the_battery_is_judged_where_the_contract_bounds_it(voltage, status, says):
    figures = {} if voltage is None else {"voltage": voltage}
    bounded = found(elbow_contract(safety={"voltage": [11, 13]}), replace(GOOD, figures=figures))["voltage"]
    assert bounded.status == status
    assert says in bounded.sentence
    assert found(elbow_contract(), replace(GOOD, figures=figures))["voltage"].status == "pass"


def test_the_lowest_of_many_servos_counts():
    contract = elbow_contract(safety={"voltage": [11, 13]})
    figures = {"voltage_elbow": 12.0, "voltage_wrist": 10.0, "voltage_note": "x"}
    assert found(contract, replace(GOOD, figures=figures))["voltage"].detail.startswith("10.0 V is outside")


def test_every_failure_and_warning_names_a_remedy():
    bad = Seen("hot", "deaf", "hinge", "elbow", None, 5.0, 1.0, {"voltage": 1.0})
    for check in found(elbow_contract(safety={"voltage": [11, 13]}), bad).values():
        assert check.status == "pass" or check.remedy


class Reporting:
    """A loopback bus that also has figures."""

    def __init__(self, bus, **figures):
        self.bus, self.given = bus, figures

    def __getattr__(self, name):
        return getattr(self.bus, name)

    def figures(self):
        return self.given


def refusal(motor):
    """What the operator is answered; the motors stay without power and the state machine has not moved."""
    answer = motor.loop.arm()
    assert not answer.success
    assert motor.tick() is State.DISARMED
    assert not motor.bus.enabled
    assert motor.transitions == []
    return answer.message


def bench(contract, **figures):
    motor = Bench(contract)
    motor.bus = motor.loop.bus = Reporting(motor.bus, **figures) if figures else motor.bus
    motor.tick(110)
    return motor


def test_the_loop_refuses_a_flat_battery_and_arms_once_it_is_charged():
    motor = bench(slider_contract(safety={"voltage": [11, 13]}), voltage=10.5)
    assert refusal(motor).startswith("cannot arm: voltage: 10.5 V is outside")
    assert "refused: voltage" in motor.loop.health().figures["arming"]
    motor.bus.given["voltage"] = 12.0
    assert motor.loop.health().figures["arming"] == "ready"
    assert motor.loop.arm().success


def test_the_loop_refuses_joint_states_that_come_too_seldom():
    motor = bench(elbow_contract("effort"))
    read, motor.bus.read = motor.bus.read, lambda: kept[-1]
    kept = [read()]
    for i in range(100):  # a new one every third tick: still young enough, but a third of the rate
        if i % 3 == 0:
            kept.append(read())
        motor.tick()
    message = refusal(motor)
    assert message.startswith("cannot arm: rates: ")
    assert "expected 100" in message


def test_the_loop_refuses_stamps_that_are_stale_or_ahead():
    motor = bench(slider_contract())
    motor.bus.read_error = "cable"
    motor.tick(10)
    assert "no joint state for 0.1" in refusal(motor)
    motor.bus.read_error = ""
    good = motor.bus.read
    motor.bus.read = lambda: replace(good(), stamp=motor.clock.now() + TICK)
    motor.tick(10)
    assert "10.000 ms ahead of the clock" in refusal(motor)


def test_the_loop_refuses_without_its_calibration_and_says_how_to_make_one(tmp_path):
    path = tmp_path / "joints.yaml"
    contract = elbow_contract(calibration={"joints": {"file": str(path), "serial": "arm-7"}})
    motor = bench(contract)
    motor.loop.papers = Papers.read(contract).on_bus(zeros_applied=True)
    message = refusal(motor)
    assert message.startswith(f"cannot arm: calibration joints: {path}: no joints calibration here; make one with: ")
    write(path, made())
    assert refusal(motor) == message  # what was read at the start is what holds
    motor.loop.papers = Papers.read(contract).on_bus(zeros_applied=True)
    assert motor.loop.arm().success


def test_a_warning_does_not_refuse_and_is_told(tmp_path):
    old = (datetime.now(timezone.utc) - timedelta(days=400)).isoformat(timespec="seconds")
    path = write(tmp_path / "joints.yaml", made(date=old))
    contract = elbow_contract(calibration={"joints": {"file": str(path), "serial": "arm-7"}})
    motor = bench(contract)
    motor.loop.papers = Papers.read(contract).on_bus(zeros_applied=True)
    answer = motor.loop.arm()
    assert answer.success
    assert "warning: calibration joints: " in answer.message
    assert "is 400 days old, more than 180" in answer.message


def test_what_the_state_machine_judges_itself_is_not_bypassed():
    motor = bench(slider_contract())
    motor.loop.estop("button")
    assert motor.loop.arm().message == "e-stopped (button): reset first"
    motor.tick()
    assert motor.loop.reset().success
    motor.bus.fault_text = "under-voltage"
    motor.tick()
    message = "cannot arm: bus: under-voltage; mend the cause; after an e-stop ~/reset, then ~/arm"
    assert motor.loop.arm().message == message


def test_one_reading_is_no_rate_and_does_not_keep_a_robot_from_arming():
    motor = Bench(slider_contract())
    motor.tick()
    assert motor.loop.rate.hz == motor.loop.rate.heard_s == 0.0
    answer = motor.loop.arm()
    assert answer.success
    assert "warning: rates: " in answer.message
