"""What the `values` of each kind of calibration file must hold: field by field, SI units and radians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robot_wm.field_reader import FieldReader

Form = int | type | None  # str, float, a number of numbers, or None: a number that may be unknown (null)
Check = Callable[[FieldReader, dict[str, Any]], dict[str, Any]]

JOINT: dict[str, Form] = {  # see robot_wm/joint_zero.py
    "direction": float,
    "centre_rad": float,
    "centre_position_rad": float,
    "low_rad": float,
    "high_rad": float,
    "period_rad": float,
}
DELAY: dict[str, Form] = {  # see calibration/delay.py
    "delay_s": float,
    "interval_s": 2,
    "viscous": None,
    "coulomb": None,
    "inertia": None,
}
CAMERA: dict[str, Form] = {"width": float, "height": float, "matrix": 9, "distortion": 5}
HANDEYE: dict[str, Form] = {"setup": str, "parent": str, "child": str, "translation_m": 3, "quaternion_xyzw": 4}
SYNC: dict[str, Form] = {"reference": str, "stream": str, "offset_s": float, "interval_s": 2, "correlation": float}


def _fields(reader: FieldReader, table: dict[str, Any], where: str, needed: dict[str, Form]) -> dict[str, Any]:
    """Exactly the fields of `needed`; a field that is missing or unknown is refused."""
    unknown = [key for key in table if key not in needed]
    if unknown:
        raise reader.fail(f"{where}.{unknown[0]}", f"unknown field; known are {', '.join(needed)}")
    result: dict[str, Any] = {}
    for name, form in needed.items():
        place = f"{where}.{name}"
        if name not in table:
            raise reader.fail(place, "is missing")
        if form is str:
            result[name] = reader.text(table[name], place)
        elif form is float:
            result[name] = reader.number(table[name], place)
        elif form is None:
            result[name] = None if table[name] is None else reader.number(table[name], place)
        else:
            assert isinstance(form, int)
            result[name] = list(reader.numbers(reader.listing(table[name], place), place, form))
    return result


def _by_joint(needed: dict[str, Form]) -> Check:
    def check(reader: FieldReader, values: dict[str, Any]) -> dict[str, Any]:
        if not values:
            raise reader.fail("values", "names no joint")
        return {
            joint: _fields(reader, reader.mapping(table, f"values.{joint}"), f"values.{joint}", needed)
            for joint, table in values.items()
        }

    return check


def _flat(needed: dict[str, Form]) -> Check:
    return lambda reader, values: _fields(reader, values, "values", needed)


def _joints(reader: FieldReader, values: dict[str, Any]) -> dict[str, Any]:
    result = _by_joint(JOINT)(reader, values)
    for joint, table in result.items():
        if table["direction"] not in (-1.0, 1.0):
            raise reader.fail(f"values.{joint}.direction", f"must be 1 or -1, got {table['direction']:g}")
        if not table["low_rad"] < table["high_rad"] <= table["low_rad"] + table["period_rad"]:
            raise reader.fail(f"values.{joint}.high_rad", "must lie above low_rad, by less than a period_rad")
    return result


def _handeye(reader: FieldReader, values: dict[str, Any]) -> dict[str, Any]:
    result = _flat(HANDEYE)(reader, values)
    reader.choice(result["setup"], "values.setup", ("eye_in_hand", "eye_to_hand"))
    norm = sum(number**2 for number in result["quaternion_xyzw"]) ** 0.5
    if abs(norm - 1.0) > 1e-3:
        raise reader.fail("values.quaternion_xyzw", f"must have length 1, has {norm:.4g}")
    return result


VALUES: dict[str, Check] = {
    "joints": _joints,
    "camera": _flat(CAMERA),
    "handeye": _handeye,
    "delay": _by_joint(DELAY),
    "sync": _flat(SYNC),
}
