"""One YAML format for every calibration, and the check that a robot makes before it arms.

A file says what was calibrated (`kind`), on which hardware (`serial`), when, how, and how well (`residual`, in `unit`; null:
never measured). It is written to a temporary name and renamed, so it is never half there.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from calibration.values import VALUES
from robot_wm.errors import CalibrationError
from robot_wm.field_reader import FieldReader
from robot_wm.plain import plain

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


def now() -> str:
    """The date that goes into a file: UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write(path: Path | str, calibration: Calibration) -> Path:
    """Write the file, complete or not at all, over an older one if there is one; a missing date is now, a missing unit the kind's.

    Raises:
        CalibrationError: what would be written could not be read again, or the place cannot be written to.
    """
    path = Path(path)
    bound = _bound(calibration.kind, str(path))
    whole = replace(calibration, date=calibration.date or now(), unit=calibration.unit or bound.unit)
    data = {name: plain(getattr(whole, name)) for name in FIELDS}
    parse(data, str(path))
    replace_text(path, yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120))
    return path


def replace_text(path: Path, text: str) -> None:
    """Put `text` where `path` says, whole, and on the disk when this returns. Raises CalibrationError."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise CalibrationError(f"{path}: cannot be written: {error.strerror}") from error


def read(path: Path | str) -> Calibration:
    """Read and validate a file. Raises CalibrationError naming the file and the field."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
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
        raise reader.fail("schema", f"is {schema!r}, this version reads {SCHEMA}; calibrate again")
    kind = reader.choice(table["kind"], "kind", tuple(BOUNDS))
    residual = table["residual"]
    unit = reader.choice(table["unit"], "unit", (BOUNDS[kind].unit,))
    date = reader.text(table["date"], "date")
    try:
        datetime.fromisoformat(date)
    except ValueError:
        raise reader.fail("date", f"must be ISO 8601, got {date!r}") from None
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


def require_fit(path: Path | str, kind: str, serial: str) -> Calibration:
    """Read the calibration a robot is about to arm with.

    Args:
        kind: what it must calibrate, one of `BOUNDS`.
        serial: what the hardware that is connected calls itself.

    Raises:
        CalibrationError: it is missing, malformed, of another kind, foreign (another serial) or poor (residual unknown or above
            the bound of its kind); the sentence names the way out.
    """
    path = Path(path)
    bound, again = _bound(kind, str(path)), f"robot-wm calibrate {kind} --serial {serial} --out {path}"
    if not path.is_file():
        raise CalibrationError(f"{path}: no {kind} calibration here; make one with: {again}")
    found = read(path)
    if found.kind != kind:
        raise CalibrationError(
            f"{path}: calibrates {found.kind}, {kind} is needed; give the right file, or run: {again}"
        )
    if found.serial != serial:
        raise CalibrationError(
            f"{path}: belongs to {found.serial}, but {serial} is connected; give the file of {serial}, or run: {again}"
        )
    if found.residual is None:
        raise CalibrationError(
            f"{path}: its residual was never measured ({found.method}); run: {again}, or import it again with --residual"
        )
    if found.residual > bound.largest:
        raise CalibrationError(
            f"{path}: residual {found.residual:.3g} {bound.unit} ({bound.meaning}) is above {bound.largest:g} {bound.unit}; "
            f"calibrate again with more care: {again}"
        )
    return found


def _bound(kind: str, source: str) -> Bound:
    if kind not in BOUNDS:
        raise CalibrationError(f"{source}: kind: {kind!r} is no kind of calibration; there are {', '.join(BOUNDS)}")
    return BOUNDS[kind]
