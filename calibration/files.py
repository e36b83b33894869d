"""Writing calibration files (robot_wm/calibration_file.py): to a temporary name and renamed, so they are never half there."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import yaml

from robot_wm.calibration_file import FIELDS, Calibration, bound_of, parse
from robot_wm.errors import CalibrationError
from robot_wm.plain import plain


def now() -> str:
    """The date that goes into a file: UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write(path: Path | str, calibration: Calibration) -> Path:
    """Write the file, complete or not at all, over an older one if there is one; a missing date is now, a missing unit the kind's.

    Raises:
        CalibrationError: what would be written could not be read again, or the place cannot be written to.
    """
    path = Path(path)
    bound = bound_of(calibration.kind, str(path))
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
