"""The contract's section `calibration`: which calibration files a robot must have to be armed. No model depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_wm.calibration_file import BOUNDS
from robot_wm.field_reader import FieldReader

ON_BUS = ("joints", "delay")  # kinds whose hardware is on the motor bus, which may report its serial


@dataclass(frozen=True)
class CalibrationEntry:
    """One file that the robot must have."""

    file: str  # in a contract's file relative to the folder it lies in
    serial: str = ""  # of the hardware; empty: what the motor bus reports (joints and delay alone)
    stale_days: float = 180.0  # older than this: a warning


def parse_calibrations(reader: FieldReader, data: Any, folder: Path | None) -> dict[str, CalibrationEntry]:
    """The section from plain data; relative paths are taken from `folder`, or left as they are. Raises as `reader` does."""
    result = {}
    for kind, given in reader.mapping(data, "calibration").items():
        where = f"calibration.{kind}"
        if kind not in BOUNDS:
            raise reader.fail(where, f"is no kind of calibration; there are {', '.join(BOUNDS)}")
        table = reader.table(given, where, CalibrationEntry, required=("file",))
        file = reader.text(table["file"], f"{where}.file").strip()
        if not file:
            raise reader.fail(f"{where}.file", "is empty; name the calibration's file")
        serial = reader.text(table.get("serial", ""), f"{where}.serial").strip()
        if not serial and kind not in ON_BUS:
            raise reader.fail(f"{where}.serial", "is missing; no motor bus tells which camera is connected")
        stale_days = reader.number(
            table.get("stale_days", CalibrationEntry.stale_days), f"{where}.stale_days", above=0.0
        )
        result[kind] = CalibrationEntry(file if folder is None else str(folder / file), serial, stale_days)
    return result
