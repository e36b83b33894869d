"""Files that people already have: LeRobot's joints, easy_handeye2's transforms."""

import json
import math

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.files import write
from calibration.imports import import_easy_handeye2, import_lerobot
from robot_wm.calibration_file import read, require_fit
from robot_wm.errors import CalibrationError
from robot_wm.joint_zero import joint_zeros

LEROBOT = {
    "shoulder_pan": {"id": 1, "drive_mode": 0, "homing_offset": -710, "range_min": 884, "range_max": 3320},
    "wrist_roll": {"id": 5, "drive_mode": 1, "homing_offset": 12, "range_min": 0, "range_max": 4095},
}
NEWER = {
    "parameters": {
        "name": "arm",
        "calibration_type": "eye_in_hand",
        "robot_base_frame": "base_link",
        "robot_effector_frame": "tool0",
        "tracking_base_frame": "camera_color_optical_frame",
        "tracking_marker_frame": "board",
    },
    "transform": {"translation": {"x": 0.1, "y": -0.2, "z": 0.3}, "rotation": {"x": 0.0, "y": 0.6, "z": 0.0, "w": 0.8}},
}
OLDER = {
    "parameters": NEWER["parameters"] | {"eye_on_hand": False},
    "transformation": {"x": 0.1, "y": -0.2, "z": 0.3, "qx": 0.0, "qy": 0.6, "qz": 0.0, "qw": 0.8},
}


@pytest.fixture
def put(tmp_path):
    def put(data, name="file"):
        path = tmp_path / name
        path.write_text(
            data if isinstance(data, str) else yaml.safe_dump(data) if name.endswith("calib") else json.dumps(data)
        )
        return path

    return put


def test_lerobot_joints_read_as_its_own_degrees(put, tmp_path):
    imported = import_lerobot(put(LEROBOT), "so101-3", residual=0.15)
    joints = joint_zeros(read(write(tmp_path / "joints.yaml", imported)))
    ticks = np.array([884, 2102, 3320])
    degrees = np.degrees(joints["shoulder_pan"].position(ticks * 2 * math.pi / 4096))
    assert degrees == pytest.approx((ticks - 2102) * 360 / 4096)
    assert math.degrees(joints["shoulder_pan"].high_rad) == pytest.approx(1218 * 360 / 4096)
    assert joints["wrist_roll"].direction == -1.0
    assert "shoulder_pan -710" in imported.method
    require_fit(tmp_path / "joints.yaml", "joints", "so101-3")


def test_a_dynamixel_inverts_itself(put):
    imported = import_lerobot(put(LEROBOT), "koch-1", servo="dynamixel")
    assert imported.values["wrist_roll"]["direction"] == 1.0


def test_without_a_stated_residual_an_import_does_not_arm(put, tmp_path):
    path = write(tmp_path / "joints.yaml", import_lerobot(put(LEROBOT), "so101-3"))
    with pytest.raises(CalibrationError, match="never measured"):
        require_fit(path, "joints", "so101-3")


@pytest.mark.parametrize(
    ("data", "setup", "parent"), [(NEWER, "eye_in_hand", "tool0"), (OLDER, "eye_to_hand", "base_link")]
)
def test_easy_handeye2_in_both_of_its_forms(put, tmp_path, data, setup, parent):
    imported = import_easy_handeye2(put(data, "f.calib"), "cam-9", residual=3.0)
    values = require_fit(write(tmp_path / "h.yaml", imported), "handeye", "cam-9").values
    assert (values["setup"], values["parent"], values["child"]) == (setup, parent, "camera_color_optical_frame")
    assert values["translation_m"] == [0.1, -0.2, 0.3]
    assert values["quaternion_xyzw"] == pytest.approx([0.0, 0.6, 0.0, 0.8])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{", "is not JSON"),
        ([], "must be a table"),
        ({}, "names no motor"),
        ({"a": 1}, "a: must be a table"),
        ({"a": LEROBOT["wrist_roll"] | {"range_max": 1.5}}, r"a\.range_max: must be a whole number, got 1\.5"),
        (
            {"a": LEROBOT["wrist_roll"] | {"range_max": 4096}},
            r"a\.range_max: must lie above range_min, both in 0\.\.4095",
        ),
        ({"a": LEROBOT["wrist_roll"] | {"drive_mode": 2}}, r"a\.drive_mode: must be 0 or 1"),
    ],
)
def test_a_lerobot_field_that_cannot_be_used_is_named(put, data, message):
    with pytest.raises(CalibrationError, match=message):
        import_lerobot(put(data), "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": {}}, r"parameters\.calibration_type: must be one of eye_in_hand, eye_on_base"),
        ({"transform": {}}, r"transform\.translation: must be a table"),
        ({"transform": NEWER["transform"] | {"rotation": {"x": 1, "y": 1, "z": 0, "w": 0}}}, "no unit quaternion"),
        (
            {"transform": NEWER["transform"] | {"translation": {"x": 1, "y": 1}}},
            r"translation\.z: must be a finite number",
        ),
    ],
)
def test_an_easy_handeye2_field_that_cannot_be_used_is_named(put, change, message):
    with pytest.raises(CalibrationError, match=message):
        import_easy_handeye2(put(NEWER | change, "f.calib"), "s")


def test_a_missing_file_is_named(tmp_path):
    for read_it in (import_lerobot, import_easy_handeye2):
        with pytest.raises(CalibrationError, match="nothing: cannot be read"):
            read_it(tmp_path / "nothing", "s")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(LEROBOT["wrist_roll"])), st.sampled_from([*NEWER, *NEWER["parameters"]]), ANYTHING)
def test_whatever_stands_in_a_field_is_taken_or_refused_by_name(put, motor_field, eye_field, value):
    motor = {"a": LEROBOT["wrist_roll"] | {motor_field: value}}
    eye = NEWER | (
        {eye_field: value} if eye_field in NEWER else {"parameters": NEWER["parameters"] | {eye_field: value}}
    )
    for read_it, data, name in ((import_lerobot, motor, "f.json"), (import_easy_handeye2, eye, "f.calib")):
        path = put(data, name)
        refusal = ""
        try:
            read_it(path, "s")
        except CalibrationError as error:
            refusal = str(error)
        assert not refusal or refusal.startswith(f"{path}: ")
