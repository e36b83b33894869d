"""What the commands of `robot-wm calibrate` have in common: their options, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from robot_wm.calibration_file import Calibration

Serial = Annotated[str, typer.Option(help="Serial number of the hardware that this is true for.")]
Out = Annotated[Path, typer.Option(help="Calibration file to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Joints = Annotated[list[str] | None, typer.Option("--joint", help="Joint; may be given again; default all.")]
StateTopic = Annotated[str, typer.Option("--topic", help="Topic of the joints (sensor_msgs/JointState).")]
Columns = Annotated[int, typer.Option(help="Squares across the ChArUco board.", min=3)]
Rows = Annotated[int, typer.Option(help="Squares down.", min=3)]
Square = Annotated[float, typer.Option(help="Side of a square on the print [m]; measure it.", min=1e-4)]
Marker = Annotated[float, typer.Option(help="Side of a marker on the print [m].", min=1e-4)]
Dictionary = Annotated[str, typer.Option(help="ArUco dictionary of the markers.")]
ImageTopic = Annotated[str, typer.Option(help="Topic of the camera, in a bag.")]


def finish(calibration: Calibration, out: Path, figures: dict[str, Any], json_: bool) -> None:
    """Write the file and print what was found, and whether a robot would arm with it."""
    from calibration.files import write
    from robot_wm.calibration_file import BOUNDS
    from robot_wm.cli import emit

    bound = BOUNDS[calibration.kind]
    summary = {
        "kind": calibration.kind,
        "serial": calibration.serial,
        "residual": calibration.residual,
        "bound": bound.largest,
        "unit": bound.unit,
        "fit_to_arm": calibration.residual is not None and calibration.residual <= bound.largest,
        "file": write(out, calibration),
    }
    emit(figures | summary, json_, title=f"calibrate {calibration.kind}")
