"""The doctor names what is wrong and what to do about it."""

import json
import os
from pathlib import Path

import pytest

from robot_wm import doctor
from robot_wm.errors import RunError


def present(monkeypatch, *names):
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name in names else "")


def test_two_onnxruntimes_at_once_fail_with_the_way_out(monkeypatch):
    present(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    check = doctor.check_onnxruntime()
    assert check.status == "fail"
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in check.remedy


def test_exactly_one_onnxruntime_passes_and_none_fails(monkeypatch):
    present(monkeypatch, "onnxruntime-openvino")
    assert doctor.check_onnxruntime().detail == "onnxruntime-openvino 1.0"
    present(monkeypatch)
    assert doctor.check_onnxruntime().status == "fail"


def test_denied_real_time_is_a_warning_that_names_the_limits_file(monkeypatch):
    def deny(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", deny)
    check = doctor.check_realtime()
    assert check.status == "warn"
    assert "/etc/security/limits.d" in check.remedy


def test_real_time_trial_restores_the_scheduler():
    before = os.sched_getscheduler(0)
    doctor.check_realtime()
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize(("free_gib", "status"), [(100, "pass"), (2, "warn"), (0.1, "fail")])
def test_disk_space_is_judged_by_what_is_free(monkeypatch, tmp_path, free_gib, status):
    usage = type("Usage", (), {"free": free_gib * doctor.GIB})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    assert doctor.check_disk(tmp_path).status == status


def test_missing_libegl_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_has", lambda _: True)
    monkeypatch.setattr(doctor.ctypes.util, "find_library", lambda _: None)
    check = doctor.check_video()
    assert check.status == "warn"
    assert "libegl1" in check.remedy


def test_missing_ros_is_a_warning_with_both_ways_to_get_it(monkeypatch):
    monkeypatch.setattr(doctor, "_has", lambda _: False)
    check = doctor.check_ros()
    assert check.status == "warn"
    assert "setup.bash" in check.remedy
    assert "robot-wm[ros]" in check.remedy


def test_a_failed_check_is_in_the_json_and_ends_in_an_error(capsys, tmp_path):
    with pytest.raises(RunError, match="disk"):
        doctor.doctor(folder=tmp_path / "absent", json_=True)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "disk" in figures["failed"]
    assert {"name", "status", "detail", "remedy"} == set(figures["checks"][0])


def test_every_problem_comes_with_a_remedy():
    for check in doctor.examine(Path(".")):
        assert check.status in ("pass", "warn", "fail")
        assert check.status == "pass" or check.remedy
