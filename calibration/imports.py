"""Calibrations that people already have, as ours: LeRobot's JSON of joints and easy_handeye2's YAML."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from robot_wm.calibration_file import Calibration
from robot_wm.errors import CalibrationError
from robot_wm.field_reader import FieldReader
from robot_wm.joint_zero import JointZero
from robot_wm.yaml_text import read_yaml

LEROBOT = ("id", "drive_mode", "homing_offset", "range_min", "range_max")
# Of a servo that turns the other way: LeRobot inverts Feetech readings itself, a Dynamixel inverts its own.
INVERTED = {"feetech": -1.0, "dynamixel": 1.0}
SETUPS = {"eye_in_hand": "eye_in_hand", "eye_on_base": "eye_to_hand", "eye_to_hand": "eye_to_hand"}


def import_lerobot(
    path: Path | str, serial: str, servo: str = "feetech", ticks: int = 4096, residual: float | None = None
) -> Calibration:
    """Read LeRobot's joint calibration: per motor id, drive_mode, homing_offset, range_min and range_max (ticks).

    LeRobot keeps `homing_offset` in the servo, so readings arrive shifted by it already; zero is the middle of the range, as in
    its degrees. A reading here is the servo's position in radians, `2 pi * ticks / ticks per turn`.

    Args:
        servo: feetech or dynamixel.
        residual: what the operator vouches for [deg]; LeRobot measures none, and without one no robot arms with the file.

    Raises:
        CalibrationError: naming the file, the motor and the field.
    """
    source = str(path)
    if servo not in INVERTED:
        raise CalibrationError(f"{source}: servo must be one of {', '.join(INVERTED)}, got {servo!r}")
    reader = FieldReader(source, CalibrationError)
    try:
        data = json.loads(_text(Path(path)))
    except json.JSONDecodeError as error:
        raise CalibrationError(
            f"{source}: is not JSON (line {error.lineno}); LeRobot writes one file per robot"
        ) from error
    motors = reader.mapping(data, "")
    if not motors:
        raise reader.fail("", "names no motor")
    values, homing = {}, []
    for name, table in motors.items():
        fields = _lerobot_motor(reader, reader.mapping(table, name), name, ticks)
        low, high = (fields[key] * 2 * math.pi / ticks for key in ("range_min", "range_max"))
        direction = INVERTED[servo] if fields["drive_mode"] else 1.0
        half = (high - low) / 2
        values[name] = asdict(JointZero(direction, (low + high) / 2, 0.0, -half, half, 2 * math.pi))
        homing.append(f"{name} {fields['homing_offset']}")
    method = f"imported from LeRobot; holds while the servos keep these homing offsets: {', '.join(homing)}"
    return Calibration("joints", serial, method + _vouched(residual), residual, values)


def import_easy_handeye2(path: Path | str, serial: str, residual: float | None = None) -> Calibration:
    """Read easy_handeye2's result (`~/.ros2/easy_handeye2/calibrations/*.calib`), in its newer or its older form.

    The transform is that of the camera (`tracking_base_frame`) in the effector's frame, or for a camera beside the robot in
    the frame of its base.

    Args:
        residual: what the operator vouches for [mm]; the file holds none, and without one no robot arms with it.

    Raises:
        CalibrationError: naming the file and the field.
    """
    source = str(path)
    reader = FieldReader(source, CalibrationError)
    try:
        data = reader.mapping(read_yaml(_text(Path(path))), "")
    except yaml.YAMLError as error:
        raise CalibrationError(f"{source}: is not YAML; easy_handeye2 writes one .calib file per camera") from error
    parameters = reader.mapping(data.get("parameters"), "parameters")
    if "eye_on_hand" in parameters:
        hand = reader.flag(parameters["eye_on_hand"], "parameters.eye_on_hand")
    else:
        named = reader.choice(parameters.get("calibration_type"), "parameters.calibration_type", tuple(SETUPS))
        hand = SETUPS[named] == "eye_in_hand"
    parent = "robot_effector_frame" if hand else "robot_base_frame"
    translation, quaternion = _transform(reader, data)
    length = math.sqrt(sum(number**2 for number in quaternion))
    if abs(length - 1.0) > 1e-2:
        raise reader.fail("transform.rotation", f"is no unit quaternion, its length is {length:.4g}")
    values = {
        "setup": "eye_in_hand" if hand else "eye_to_hand",
        "parent": reader.text(parameters.get(parent), f"parameters.{parent}"),
        "child": reader.text(parameters.get("tracking_base_frame"), "parameters.tracking_base_frame"),
        "translation_m": translation,
        "quaternion_xyzw": [number / length for number in quaternion],
    }
    return Calibration("handeye", serial, "imported from easy_handeye2" + _vouched(residual), residual, values)


def _lerobot_motor(reader: FieldReader, table: dict[str, Any], name: str, ticks: int) -> dict[str, int]:
    fields = {}
    for key in LEROBOT:
        value = table.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise reader.fail(f"{name}.{key}", f"must be a whole number, got {value!r}")
        fields[key] = value
    if fields["drive_mode"] not in (0, 1):
        raise reader.fail(f"{name}.drive_mode", f"must be 0 or 1, got {fields['drive_mode']}")
    if not 0 <= fields["range_min"] < fields["range_max"] < ticks:
        raise reader.fail(
            f"{name}.range_max", f"must lie above range_min, both in 0..{ticks - 1}; give --ticks for another encoder"
        )
    return fields


def _transform(reader: FieldReader, data: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Translation [m] and quaternion (x, y, z, w)."""
    if "transformation" in data:
        table = reader.mapping(data["transformation"], "transformation")
        translation = {axis: table.get(axis) for axis in "xyz"}
        rotation = {axis: table.get(f"q{axis}") for axis in "xyzw"}
        where = ("transformation", "transformation.q")
    else:
        table = reader.mapping(data.get("transform"), "transform")
        translation = reader.mapping(table.get("translation"), "transform.translation")
        rotation = reader.mapping(table.get("rotation"), "transform.rotation")
        where = ("transform.translation", "transform.rotation")
    return (
        [reader.number(translation.get(axis), f"{where[0]}.{axis}") for axis in "xyz"],
        [reader.number(rotation.get(axis), f"{where[1]}.{axis}") for axis in "xyzw"],
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"
        ) from error


def _vouched(residual: float | None) -> str:
    return "" if residual is None else "; residual as stated by the operator"
