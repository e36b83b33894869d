"""One YAML format for every calibration, and whether a robot may be armed with one; calibration/files.py writes them.

A file says what was calibrated (`kind`), on which hardware (`serial`), when, how, and how well (`residual`, in `unit`; null:
never measured).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from robot_wm.calibration_values import VALUES
from robot_wm.errors import CalibrationError
from robot_wm.field_reader import FieldReader, short
from robot_wm.yaml_text import read_yaml

SCHEMA = 1
FIELDS = ("schema", "kind", "serial", "date", "method", "residual", "unit", "values")  # in the order of the file


@dataclass(frozen=True)
class Bound:
    """What a residual of a kind means, and the largest with which a robot may arm."""

    largest: float
    unit: str
    meaning: str


BOUNDS = {
    "joints": Bound(0.2, "deg", "largest disagreement between visits of one end stop"),
    "camera": Bound(0.5, "px", "rms reprojection error"),
    "handeye": Bound(5.0, "mm", "rms position error of the board over all poses"),
    "delay": Bound(2.0, "ms", "half width of the widest 95 % confidence interval"),
    "sync": Bound(3.0, "ms", "half width of the 95 % confidence interval"),
}


@dataclass(frozen=True)
class Calibration:
    """What a calibration file holds; `values` has the fields that `VALUES` names for its kind, SI units and radians."""

    kind: str
    serial: str  # of the arm, motor or camera: whatever the values stop being true for when it is exchanged
    method: str
    residual: float | None  # in `unit`; None: nobody measured it
    values: dict[str, Any]
    date: str = ""  # ISO 8601, UTC
    unit: str = ""
    schema: int = SCHEMA


@dataclass(frozen=True)
class Reading:
    """What came of reading a file for one kind: a calibration, or why there is none, and the way out."""

    path: Path
    kind: str
    found: Calibration | None
    problem: str = ""
    remedy: str = ""


def read(path: Path | str) -> Calibration:
    """Read and validate a file. Raises CalibrationError naming the file and the field."""
    path = Path(path)
    try:
        data = read_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f" (line {line + 1})"
        raise CalibrationError(f"{path}: is not YAML{where}; restore it, or calibrate again") from error
    return parse(data, str(path))


def parse(data: Any, source: str) -> Calibration:
    """Plain YAML data as a calibration. Raises CalibrationError naming `source` and the field."""
    reader = FieldReader(source, CalibrationError)
    table = reader.table(data, "", Calibration, FIELDS)
    schema = table["schema"]
    if schema != SCHEMA:
        raise reader.fail("schema", f"is {short(schema)}, this version reads {SCHEMA}; calibrate again")
    kind = reader.choice(table["kind"], "kind", tuple(BOUNDS))
    residual = table["residual"]
    unit = reader.choice(table["unit"], "unit", (BOUNDS[kind].unit,))
    date = reader.text(table["date"], "date")
    try:
        datetime.fromisoformat(date)
    except ValueError:
        raise reader.fail("date", f"must be ISO 8601, got {short(date)}") from None
    serial = reader.text(table["serial"], "serial").strip()
    if not serial:
        raise reader.fail("serial", "is empty; a calibration belongs to one piece of hardware, name it")
    return Calibration(
        kind=kind,
        serial=serial,
        method=reader.text(table["method"], "method"),
        residual=None if residual is None else reader.number(residual, "residual", at_least=0.0),
        values=VALUES[kind](reader, reader.mapping(table["values"], "values")),
        date=date,
        unit=unit,
    )


def read_fit(path: Path | str, kind: str, serial: str = "") -> Reading:
    """Read a file and judge it: missing, malformed, of another kind, foreign (another serial) or poor.

    Args:
        kind: what it must calibrate, one of `BOUNDS`.
        serial: of the hardware that is connected; empty: not known, so nothing is foreign.

    Raises:
        CalibrationError: there is no such kind.
    """
    path = Path(path)
    bound_of(kind, str(path))
    command = again(path, kind, serial)
    try:
        found = read(path)
    except CalibrationError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Reading(path, kind, None, f"{path}: no {kind} calibration here", f"make one with: {command}")
        return Reading(path, kind, None, str(error), f"mend it, or run: {command}")
    if found.kind != kind:
        problem = f"{path}: calibrates {found.kind}, {kind} is needed"
        return Reading(path, kind, None, problem, f"give the right file, or run: {command}")
    problem, remedy = unfit(Reading(path, kind, found), serial)
    return Reading(path, kind, found, problem, remedy)


def unfit(reading: Reading, serial: str) -> tuple[str, str]:
    """Why the calibration that was read cannot be used on the hardware `serial` (empty: any), and the way out; or nothing."""
    path, found = reading.path, reading.found
    if found is None:
        return reading.problem, reading.remedy
    command = again(path, found.kind, serial or found.serial)
    if serial and found.serial != serial:
        problem = f"{path}: belongs to {found.serial}, but {serial} is connected"
        return problem, f"give the file of {serial}, or run: {command}"
    if found.residual is None:
        problem = f"{path}: its residual was never measured ({found.method})"
        return problem, f"run: {command}, or import it again with --residual"
    bound = BOUNDS[found.kind]
    if found.residual > bound.largest:
        measured = f"residual {found.residual:.3g} {bound.unit} ({bound.meaning})"
        problem = f"{path}: {measured} is above {bound.largest:g} {bound.unit}"
        return problem, f"calibrate again with more care: {command}"
    return "", ""


def require_fit(path: Path | str, kind: str, serial: str) -> Calibration:
    """The calibration of a file with which a robot may be armed; arguments as for `read_fit`.

    Raises:
        CalibrationError: it may not; the sentence says why, and the way out.
    """
    reading = read_fit(path, kind, serial)
    if reading.problem or reading.found is None:
        raise CalibrationError(f"{reading.problem}; {reading.remedy}")
    return reading.found


def again(path: Path, kind: str, serial: str) -> str:
    """The command that makes a file anew."""
    return f"robot-wm calibrate {kind} --serial {serial or 'SERIAL'} --out {path}"


def bound_of(kind: str, source: str) -> Bound:
    """Raises CalibrationError, naming `source`, for what is no kind of calibration."""
    if kind not in BOUNDS:
        raise CalibrationError(f"{source}: kind: {kind!r} is no kind of calibration; there are {', '.join(BOUNDS)}")
    return BOUNDS[kind]
