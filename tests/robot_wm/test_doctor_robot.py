"""The doctor makes the checks of arming without arming: nothing is ever powered."""

import json
from importlib.metadata import EntryPoint

import pytest
import yaml

from arming_samples import elbow_contract
from calibration.files import write
from calibration_samples import made
from robot_wm import doctor
from robot_wm.buses import base
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.doctor_robot import examine_robot
from robot_wm.errors import RunError
from robot_wm.timebase import VirtualClock

WATCHED = []


class WatchedBus(LoopbackBus):
    """Remembers what was asked of it, on the clock of the test."""

    def __init__(self, contract, trouble=""):
        super().__init__(contract, CLOCK)
        self.read_error = trouble
        self.calls = []
        WATCHED.append(self)

    def enable(self):
        self.calls.append("enable")

    def write(self, values):
        self.calls.append("write")

    def close(self):
        self.calls.append("close")


CLOCK = VirtualClock(1_000_000_000)


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    WATCHED.clear()
    entry = EntryPoint("watched", f"{__name__}:WatchedBus", base.BUSES)
    monkeypatch.setattr(EntryPoint, "load", lambda self: WatchedBus)
    monkeypatch.setattr(base, "entry_points", lambda group: [entry])


def contract_file(tmp_path, **changes):
    path = tmp_path / "robot.yaml"
    data = elbow_contract("effort", {"joints": {"file": "joints.yaml", "serial": "arm-7"}}).to_dict()
    path.write_text(yaml.safe_dump({**data, **changes}))
    return path


def status(checks):
    return {check.name: check.status for check in checks}


def test_without_a_bus_the_files_alone_are_judged(tmp_path):
    path = contract_file(tmp_path)
    assert status(examine_robot(path, None, "", {}, "cpu"))["calibration joints"] == "fail"
    write(tmp_path / "joints.yaml", made())
    found = status(examine_robot(path, None, "", {}, "cpu"))
    assert found == {"contract": "warn", "calibration joints": "pass"}  # no position bound within the end stops


def test_with_a_bus_the_list_is_that_of_arming_and_no_motor_is_powered(tmp_path):
    write(tmp_path / "joints.yaml", made())
    found = status(examine_robot(contract_file(tmp_path), None, "watched", {}, "cpu", CLOCK))
    assert found["rates"] == found["clock"] == found["joints"] == found["bus"] == "pass"
    assert found["joint zeros"] == "fail"
    (bus,) = WATCHED
    assert bus.calls == ["close"]


def test_a_bus_that_does_not_answer_or_open_is_named(tmp_path):
    path = contract_file(tmp_path, calibration={})
    checks = {c.name: c for c in examine_robot(path, None, "watched", {"trouble": "cable"}, "cpu", CLOCK)}
    assert checks["joints"].detail == "no joint state yet: cable"
    checks = {c.name: c for c in examine_robot(path, None, "nonsense", {}, "cpu", CLOCK)}
    assert checks["bus"].status == "fail"
    assert "unknown motor bus 'nonsense'" in checks["bus"].detail


def test_a_broken_contract_is_the_one_thing_said(tmp_path):
    path = contract_file(tmp_path, model_hz=-1)
    (check,) = examine_robot(path, None, "", {}, "cpu")
    assert (check.name, check.status) == ("contract", "fail")
    assert "model_hz: must be above 0" in check.detail


def test_the_command_lists_them_beside_the_machines_and_fails_by_name(tmp_path, capsys):
    with pytest.raises(RunError, match="calibration joints"):
        doctor.doctor(folder=tmp_path, contract=contract_file(tmp_path), json_=True)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"python", "contract", "calibration joints"} <= {check["name"] for check in figures["checks"]}
    with pytest.raises(RunError, match="--bus needs --contract or --bundle"):
        doctor.doctor(folder=tmp_path, bus="watched")


def test_a_bundle_is_run_here_against_what_it_was_exported_with(tmp_path):
    (check,) = [
        c for c in examine_robot(contract_file(tmp_path), tmp_path / "none", "", {}, "cpu") if c.name == "bundle"
    ]
    assert check.status == "fail"
    assert "not a bundle" in check.detail
