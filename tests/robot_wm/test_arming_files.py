"""Calibration files, end stops and bundle, as a robot is started with them."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from arming_samples import NOW, elbow_contract
from calibration.files import write
from calibration_samples import VALUES, made
from conftest import slider_contract
from robot_wm import verify
from robot_wm.arming_files import NO_BUNDLE, Papers, judge_bundle, used_bundle, verify_bundle
from robot_wm.bundle import write_bundle
from test_bundle import cart, filler, manifest_for

TODAY = NOW.isoformat()


def judged(tmp_path, file, kind="joints", hardware_id="", applied=True, now=NOW, contract=None, **entry):
    """The check of one calibration file, and all others by name."""
    path = tmp_path / f"{kind}.yaml"
    if file is not None:
        write(path, file)
    asked = {kind: {"file": str(path), "serial": "arm-7", **entry}}
    papers = Papers.read(contract or elbow_contract(calibration=asked)).on_bus(applied)
    checks = {check.name: check for check in papers.checks(hardware_id, now)}
    return checks[f"calibration {kind}"], checks


@pytest.mark.parametrize("kind", ["joints", "delay"])
def test_a_good_calibration_passes_and_says_whose_and_when(tmp_path, kind):
    check, _ = judged(tmp_path, made(kind, date=TODAY), kind)
    assert check.status == "pass"
    assert f"arm-7, {TODAY}" in check.detail


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (None, "no joints calibration here; make one with: robot-wm calibrate joints --serial arm-7"),
        (made(serial="arm-8"), "belongs to arm-8, but arm-7 is connected"),
        (made(residual=0.5), "is above 0.2 deg; calibrate again with more care"),
        (made(residual=None), "its residual was never measured"),
        (made("camera"), "calibrates camera, joints is needed"),
        (replace(made(), values={"wrist": VALUES["joints"]["elbow"]}), "has nothing for elbow; calibrate all joints"),
    ],
)
def test_missing_foreign_poor_or_partial_fails_with_the_way_out(tmp_path, file, says):
    check, _ = judged(tmp_path, file)
    assert check.status == "fail"
    assert says in check.sentence


def test_a_torn_file_fails_with_its_line(tmp_path):
    path = tmp_path / "joints.yaml"
    path.write_text("kind: [")
    check, _ = judged(tmp_path, None)
    assert check.status == "fail"
    assert "is not YAML (line 1)" in check.detail
    assert "robot-wm calibrate joints" in check.remedy


@pytest.mark.parametrize(
    ("days", "stale_days", "status"), [(100, 180, "pass"), (181, 180, "warn"), (31, 30, "warn"), (-2, 180, "warn")]
)
def test_age_warns_from_a_bound_on_and_a_date_ahead_tells_of_the_clock(tmp_path, days, stale_days, status):
    date = (NOW - timedelta(days=days)).isoformat()
    check, _ = judged(tmp_path, made(date=date), stale_days=stale_days)
    assert check.status == status
    assert ("clock" in check.sentence) == (days < 0)


def test_a_date_without_a_time_zone_is_utc(tmp_path):
    check, _ = judged(tmp_path, made(date="2026-11-20"), now=datetime(2026, 11, 21, tzinfo=timezone.utc))
    assert check.status == "pass"


def test_the_serial_is_what_the_bus_reports_or_what_the_contract_says(tmp_path):
    file = made(date=TODAY)
    assert judged(tmp_path, file, serial="", hardware_id="arm-7")[0].status == "pass"
    swapped, _ = judged(tmp_path, file, serial="", hardware_id="arm-9")
    assert "belongs to arm-7, but arm-9 is connected" in swapped.detail
    other, _ = judged(tmp_path, file, serial="arm-7", hardware_id="arm-9")
    assert other.sentence.startswith("the contract expects hardware arm-7, but arm-9 is connected; connect arm-7")
    unknown, _ = judged(tmp_path, file, serial="", hardware_id="")
    assert unknown.status == "fail"
    assert "name the hardware's serial in calibration.joints.serial" in unknown.remedy
    unasked, _ = judged(tmp_path, file, serial="", hardware_id=None)  # doctor without a bus
    assert unasked.status == "pass"


def test_a_cameras_serial_has_nothing_to_do_with_the_bus(tmp_path):
    check, _ = judged(tmp_path, made("camera", serial="cam-4", date=TODAY), "camera", "arm-7", serial="cam-4")
    assert check.status == "pass"


def test_limits_beyond_the_end_stops_fail_and_no_bound_warns(tmp_path):
    file = made(date=TODAY)  # stops at -1.0 and 1.2
    assert judged(tmp_path, file)[1]["contract"].status == "pass"
    asked = {"joints": {"file": str(tmp_path / "joints.yaml"), "serial": "arm-7"}}
    wide = {"names": ["elbow"], "mode": "position", "low": [-1.1], "high": [1.1]}
    _, checks = judged(tmp_path, file, contract=elbow_contract(calibration=asked, action=wide))
    assert checks["contract"].status == "fail"
    assert checks["contract"].sentence == (
        "elbow may go to -1.100..1.100, its end stops are at -1.000..1.200; "
        "tighten safety.position, or action.limit_low/limit_high"
    )
    tight = elbow_contract(calibration=asked, action=wide, safety={"position": {"elbow": [-0.9, 0.9]}})
    assert judged(tmp_path, file, contract=tight)[1]["contract"].status == "pass"
    unbounded = elbow_contract("effort", calibration=asked)
    assert judged(tmp_path, file, contract=unbounded)[1]["contract"].status == "warn"


def test_a_bus_that_cannot_apply_zeros_is_refused_unless_there_is_nothing_to_apply(tmp_path):
    _, checks = judged(tmp_path, made(date=TODAY), applied=False)
    assert checks["joint zeros"].status == "fail"
    assert "cannot apply the zeros of elbow" in checks["joint zeros"].detail
    true = {**VALUES["joints"]["elbow"], "direction": 1.0, "centre_rad": 0.1, "centre_position_rad": 0.1}
    _, checks = judged(tmp_path, replace(made(date=TODAY), values={"elbow": true}), applied=False)
    assert "joint zeros" not in checks


def test_joints_of_a_file_that_the_contract_does_not_name_are_not_judged(tmp_path):
    true = {**VALUES["joints"]["elbow"], "direction": 1.0, "centre_rad": 0.1, "centre_position_rad": 0.1}
    file = replace(made(date=TODAY), values={"elbow": true, "finger": VALUES["joints"]["elbow"]})
    _, checks = judged(tmp_path, file, applied=False)
    assert {check.status for check in checks.values()} == {"pass"}
    assert "joint zeros" not in checks


def test_zeros_of_an_unfit_file_are_not_applied(tmp_path):
    for file, count in ((made(), 1), (made(residual=9.0), 0), (made(serial="arm-8"), 0)):
        path = write(tmp_path / "joints.yaml", file)
        papers = Papers.read(elbow_contract(calibration={"joints": {"file": str(path), "serial": "arm-7"}}))
        assert len(papers.zeros) == count


def test_a_bundle_is_whole_and_of_this_contract_or_fails(tmp_path):
    bundle = write_bundle(tmp_path / "b", manifest_for(cart()), filler(cart()))
    assert judge_bundle(bundle.path, cart()).status == "pass"
    foreign = judge_bundle(bundle.path, slider_contract())
    assert foreign.status == "fail"
    assert "was made for another contract: " in foreign.detail
    (bundle.path / "graphs" / "prior.onnx").write_text("altered")
    assert "does not match its digest" in judge_bundle(bundle.path, cart()).detail
    assert judge_bundle(tmp_path / "none", cart()).status == "fail"


def test_a_bundle_that_nobody_plans_with_yet_warns_and_one_in_use_passes(tmp_path):
    bundle = write_bundle(tmp_path / "b", manifest_for(cart()), filler(cart()))
    papers = Papers.read(cart(), bundle.path)
    assert papers.used("").bundle.status == "warn"
    assert papers.used("abc").bundle.status == "pass"
    assert "abc" in papers.used("abc").bundle.detail
    assert used_bundle(NO_BUNDLE, "abc") is NO_BUNDLE
    torn = judge_bundle(tmp_path / "none", cart())
    assert used_bundle(torn, "abc") is torn


def test_a_bundle_that_computes_otherwise_here_fails(tmp_path, monkeypatch):
    bundle = write_bundle(tmp_path / "b", manifest_for(cart()), filler(cart()))
    check = verify_bundle(bundle.path, cart(), "cpu")  # its graphs are no ONNX files
    assert check.status == "fail"
    assert "ONNX Runtime cannot load the graph" in check.detail
    monkeypatch.setattr("robot_wm.backend.Model", lambda bundle, provider: None)
    report = verify.Verification("abc", "cpu", 1e-3, {"prior": 2e-7})
    monkeypatch.setattr(verify, "verify_on_device", lambda bundle, model: report)
    assert "abc verified on cpu, largest error 2e-07 of 0.001" in verify_bundle(bundle.path, cart(), "cpu").detail
