"""`robot-wm calibrate import|check`: other people's files, and what a robot would say of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibration.options import Json, Out, Serial, finish
from robot_wm.errors import CalibrationError


def import_(
    file: Annotated[Path, typer.Argument(help="LeRobot's JSON of joints, or easy_handeye2's .calib.")],
    serial: Serial,
    out: Out,
    residual: Annotated[
        float | None, typer.Option(help="What you vouch for [deg or mm]; without it no robot arms.", min=0.0)
    ] = None,
    servo: Annotated[str, typer.Option(help="Of LeRobot's file: feetech or dynamixel.")] = "feetech",
    ticks: Annotated[int, typer.Option(help="Of LeRobot's file: encoder ticks per turn.", min=2)] = 4096,
    json_: Json = False,
) -> None:
    """Take over a calibration made with LeRobot or easy_handeye2."""
    from calibration.imports import import_easy_handeye2, import_lerobot

    if file.suffix == ".json":
        found = import_lerobot(file, serial, servo, ticks, residual)
    elif file.suffix in (".calib", ".yaml", ".yml"):
        found = import_easy_handeye2(file, serial, residual)
    else:
        raise CalibrationError(f"{file}: give LeRobot's .json or easy_handeye2's .calib or .yaml")
    finish(found, out, {"values": found.values}, json_)


def check(
    file: Annotated[Path, typer.Argument(help="Calibration file.")],
    kind: Annotated[str, typer.Option(help="What it must calibrate: joints, camera, handeye, delay or sync.")],
    serial: Serial,
    json_: Json = False,
) -> None:
    """Say whether a robot with this serial number would arm with a file; exit status 1 if not."""
    from dataclasses import asdict

    from robot_wm.calibration_file import require_fit
    from robot_wm.cli import emit

    emit(asdict(require_fit(file, kind, serial)) | {"fit_to_arm": True}, json_, title=str(file))
