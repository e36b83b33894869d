"""`robot-wm calibrate camera|handeye|board`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.options import Columns, Dictionary, ImageTopic, Json, Marker, Out, Rows, Serial, Square, finish
from robot_wm.errors import CalibrationError

if TYPE_CHECKING:
    from calibration.camera import Board


def camera(
    source: Annotated[Path, typer.Argument(help="Folder of pictures of the board, or a bag.")],
    serial: Serial,
    out: Out = Path("calibration/camera.yaml"),
    info: Annotated[Path | None, typer.Option(help="Also write ROS camera_info YAML here.")] = None,
    name: Annotated[str, typer.Option(help="camera_name in it.")] = "camera",
    topic: ImageTopic = "camera/image_raw",
    most: Annotated[int, typer.Option(help="Use at most so many pictures, spread evenly.", min=8)] = 60,
    columns: Columns = 8,
    rows: Rows = 6,
    square: Square = 0.03,
    marker: Marker = 0.022,
    dictionary: Dictionary = "DICT_5X5_100",
    json_: Json = False,
) -> None:
    """Intrinsics of a camera from pictures of a ChArUco board (`robot-wm calibrate board` draws one)."""
    from calibration.camera import calibrate as fit
    from calibration.camera import detect, to_calibration, write_camera_info
    from calibration.sources import pictures, size_of

    board = _board(columns, rows, square, marker, dictionary)
    first, views, seen = None, [], 0
    for picture in pictures(source, topic):
        first, seen = first or picture, seen + 1
        size_of(picture, first)
        view = detect(picture.grey, board, picture.name)
        if view is not None:
            views.append(view)
    if first is None:
        raise CalibrationError(f"{source}: holds no pictures")
    views = views[:: -(-len(views) // most)] if views else views
    try:
        result = fit(views, size_of(first, first))
    except CalibrationError as error:
        raise CalibrationError(f"{source}: {error}") from error
    figures = {
        "pictures": seen,
        "views": result.views,
        "reprojection_px": result.reprojection_px,
        "held_out_px": result.held_out_px,
        "focal_px": [result.intrinsics.matrix[0, 0], result.intrinsics.matrix[1, 1]],
        "focal_error_px": result.focal_error_px,
        "coverage": result.coverage,
    }
    if info is not None:
        figures["camera_info"] = write_camera_info(info, result.intrinsics, name)
    finish(to_calibration(result, serial), out, figures, json_)


def handeye(
    source: Annotated[Path, typer.Argument(help="Folder of pictures, or a bag.")],
    serial: Serial,
    intrinsics: Annotated[Path, typer.Option(help="Calibration file of the camera.")],
    parent: Annotated[
        str, typer.Option(help="Frame the camera sits in: the effector's, or for eye to hand the base's.")
    ],
    child: Annotated[str, typer.Option(help="The camera's optical frame.")],
    out: Out = Path("calibration/handeye.yaml"),
    poses: Annotated[Path | None, typer.Option(help="Table of effector poses by picture; for a folder.")] = None,
    pose_topic: Annotated[str, typer.Option(help="Topic of effector poses (PoseStamped in the base); for a bag.")] = "",
    topic: ImageTopic = "camera/image_raw",
    setup: Annotated[str, typer.Option(help="eye_in_hand or eye_to_hand.")] = "eye_in_hand",
    columns: Columns = 8,
    rows: Rows = 6,
    square: Square = 0.03,
    marker: Marker = 0.022,
    dictionary: Dictionary = "DICT_5X5_100",
    json_: Json = False,
) -> None:
    """Where the camera sits on the hand, or beside the robot, from pictures of a board and the effector's poses."""
    import numpy as np

    from calibration.camera import from_calibration
    from calibration.handeye import solve, to_calibration
    from calibration.poses import matched
    from robot_wm.calibration_file import read

    lens_file = read(intrinsics)
    if lens_file.kind != "camera":
        raise CalibrationError(f"{intrinsics}: calibrates {lens_file.kind}; the camera's own file is needed")
    board = _board(columns, rows, square, marker, dictionary)
    hands, seen = matched(source, from_calibration(lens_file), board, poses, pose_topic, topic)
    found = solve(hands, seen, setup)
    figures = {
        "setup": setup,
        "poses": found.poses,
        "translation_m": found.camera[:3, 3],
        "residual_mm": 1e3 * found.residual_m,
        "residual_deg": np.degrees(found.residual_rad),
        "error_mm": 1e3 * found.error_m,
        "error_deg": np.degrees(found.error_rad),
        "second_axis_deg": np.degrees(found.turn_rad),
    }
    finish(to_calibration(found, serial, parent, child), out, figures, json_)


def board(
    out: Annotated[Path, typer.Option(help="Picture to write (.png).")] = Path("board.png"),
    pixels: Annotated[int, typer.Option(help="Pixels per square.", min=20)] = 300,
    columns: Columns = 8,
    rows: Rows = 6,
    square: Square = 0.03,
    marker: Marker = 0.022,
    dictionary: Dictionary = "DICT_5X5_100",
    json_: Json = False,
) -> None:
    """Draw a ChArUco board to print; print it to scale on something flat and measure a square."""
    import cv2

    from robot_wm.cli import emit

    picture = _board(columns, rows, square, marker, dictionary).picture(pixels)
    try:
        written = cv2.imwrite(str(out), picture)
    except cv2.error:
        written = False
    if not written:
        raise CalibrationError(f"{out}: cannot be written; name a file that ends in .png, in a folder that exists")
    emit({"file": out, "width_mm": 1e3 * square * columns, "height_mm": 1e3 * square * rows}, json_, title="board")


def _board(columns: int, rows: int, square: float, marker: float, dictionary: str) -> Board:
    from calibration.camera import Board

    board = Board(columns, rows, square, marker, dictionary)
    board.charuco()
    return board
