"""Camera intrinsics from pictures of a ChArUco board, with OpenCV; written as ROS camera_info YAML as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from calibration.files import replace_text
from robot_wm.calibration_file import Calibration
from robot_wm.errors import CalibrationError
from robot_wm.messages import FloatArray

Image = NDArray[np.uint8]

LEAST_VIEWS = 8
LEAST_CORNERS = 8  # of a view that counts
LEAST_COVERAGE = 0.5  # of the picture's cells must have held a corner in some view
CELLS = 6  # across and down
LEAST_TILT = math.radians(
    15.0
)  # between the two most different views: without it focal length and distance trade places


@dataclass(frozen=True)
class Board:
    """A printed ChArUco board; measure `square_m` on the print."""

    columns: int = 8  # squares
    rows: int = 6
    square_m: float = 0.03
    marker_m: float = 0.022
    dictionary: str = "DICT_5X5_100"

    def charuco(self) -> cv2.aruco.CharucoBoard:
        """OpenCV's board. Raises CalibrationError for sizes or a dictionary that cannot be."""
        number = getattr(cv2.aruco, self.dictionary, None)
        if not self.dictionary.startswith("DICT_") or number is None:
            raise CalibrationError(
                f"board: {self.dictionary!r} is no ArUco dictionary; the usual ones read DICT_5X5_100"
            )
        if not 0.0 < self.marker_m < self.square_m or min(self.columns, self.rows) < 3:
            raise CalibrationError("board: needs three squares or more each way, and markers smaller than the squares")
        return cv2.aruco.CharucoBoard(
            (self.columns, self.rows), self.square_m, self.marker_m, cv2.aruco.getPredefinedDictionary(number)
        )

    def picture(self, pixels_per_square: int = 100) -> Image:
        """The board as an image to print, without a margin."""
        size = (self.columns * pixels_per_square, self.rows * pixels_per_square)
        return np.asarray(self.charuco().generateImage(size), np.uint8)


@dataclass(frozen=True)
class View:
    """The corners found in one picture."""

    name: str
    board: FloatArray  # (N, 3) on the board [m]
    image: FloatArray  # (N, 2) in the picture [px]


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole with OpenCV's five distortion coefficients, ROS's plumb_bob."""

    width: int
    height: int
    matrix: FloatArray  # (3, 3) [px]
    distortion: FloatArray  # (5,) k1, k2, p1, p2, k3

    def pose(self, view: View) -> tuple[FloatArray, FloatArray]:
        """Rotation (3, 3) and translation (3,) [m] of the board in the camera's optical frame. Raises CalibrationError."""
        found, turn, shift = cv2.solvePnP(view.board, view.image, self.matrix, self.distortion, flags=cv2.SOLVEPNP_IPPE)
        if not found:
            raise CalibrationError(f"{view.name}: no pose of the board fits its corners")
        turn, shift = cv2.solvePnPRefineLM(view.board, view.image, self.matrix, self.distortion, turn, shift)
        return np.asarray(cv2.Rodrigues(turn)[0]), np.asarray(shift).ravel()

    def error(self, view: View) -> float:
        """Rms reprojection error [px] of a view at its best pose."""
        rotation, shift = self.pose(view)
        seen, _ = cv2.projectPoints(view.board, cv2.Rodrigues(rotation)[0], shift, self.matrix, self.distortion)
        return float(np.sqrt(np.mean(np.sum((seen.reshape(-1, 2) - view.image) ** 2, axis=1))))


@dataclass(frozen=True)
class CameraResult:
    """Intrinsics and how far to trust them."""

    intrinsics: Intrinsics
    reprojection_px: float  # rms over all views
    held_out_px: float  # rms of every second view under intrinsics from the others, and the other way round
    focal_error_px: float  # standard deviation of the focal length
    coverage: float  # share of the picture's cells that held a corner
    views: int


def detect(picture: Image, board: Board, name: str = "picture") -> View | None:
    """The board's corners in a grey picture (H, W), or None where too few are in view."""
    charuco = board.charuco()
    corners, ids, _, _ = cv2.aruco.CharucoDetector(charuco).detectBoard(picture)
    if ids is None or len(ids) < LEAST_CORNERS:
        return None
    places = np.asarray(charuco.getChessboardCorners())[ids.ravel()]
    if charuco.checkCharucoCornersCollinear(ids):
        return None
    return View(name, places.astype(np.float64), corners.reshape(-1, 2).astype(np.float64))


def calibrate(views: Sequence[View], size: tuple[int, int]) -> CameraResult:
    """Fit the intrinsics.

    Args:
        views: at least 8, of a board near and far, at all sides of the picture, tilted by 15 degrees or more.
        size: width and height of the pictures [px].

    Raises:
        CalibrationError: too few views, too little of the picture covered, too little tilt.
    """
    if len(views) < LEAST_VIEWS:
        raise CalibrationError(
            f"the board was found in {len(views)} pictures, {LEAST_VIEWS} are needed: give the board as it is printed "
            f"(--columns, --rows, --dictionary), light it evenly, hold it still"
        )
    covered = _coverage(views, size)
    if covered < LEAST_COVERAGE:
        raise CalibrationError(
            f"the board covered {100 * covered:.0f} % of the picture, {100 * LEAST_COVERAGE:.0f} % are needed: "
            f"take pictures with it in the corners and at the edges"
        )
    intrinsics, rms, deviation = _fit(views, size)
    tilt = _tilt([intrinsics.pose(view)[0] for view in views])
    if tilt < LEAST_TILT:
        raise CalibrationError(
            f"the board was tilted by {math.degrees(tilt):.0f} deg at most between pictures, {math.degrees(LEAST_TILT):.0f} are "
            f"needed: turn it about both of its sides"
        )
    halves = (views[::2], views[1::2])
    errors = [_fit(a, size)[0].error(view) for a, b in (halves, halves[::-1]) for view in b]
    return CameraResult(intrinsics, rms, float(np.sqrt(np.mean(np.square(errors)))), deviation, covered, len(views))


def to_calibration(result: CameraResult, serial: str) -> Calibration:
    """The file's content."""
    own = result.intrinsics
    values = {"width": own.width, "height": own.height, "matrix": own.matrix.ravel(), "distortion": own.distortion}
    return Calibration("camera", serial, f"ChArUco board in {result.views} pictures", result.reprojection_px, values)


def from_calibration(calibration: Calibration) -> Intrinsics:
    """The intrinsics of a calibration file."""
    values = calibration.values
    matrix = np.reshape(values["matrix"], (3, 3))
    return Intrinsics(int(values["width"]), int(values["height"]), matrix, np.array(values["distortion"]))


def write_camera_info(path: Path | str, intrinsics: Intrinsics, name: str) -> Path:
    """Write what ROS camera drivers read (camera_info_manager, camera_calibration_parsers). Raises CalibrationError."""
    matrix = intrinsics.matrix
    projection = np.column_stack([matrix, np.zeros(3)])
    data = {
        "image_width": intrinsics.width,
        "image_height": intrinsics.height,
        "camera_name": name,
        "camera_matrix": _table(matrix),
        "distortion_model": "plumb_bob",
        "distortion_coefficients": _table(intrinsics.distortion[None]),
        "rectification_matrix": _table(np.eye(3)),
        "projection_matrix": _table(projection),
    }
    replace_text(Path(path), yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120))
    return Path(path)


def _table(values: FloatArray) -> dict[str, object]:
    return {"rows": values.shape[0], "cols": values.shape[1], "data": [float(v) for v in values.ravel()]}


def _fit(views: Sequence[View], size: tuple[int, int]) -> tuple[Intrinsics, float, float]:
    """Intrinsics, rms error and standard deviation of the focal length, all [px]."""
    objects = [view.board.astype(np.float32) for view in views]
    images = [view.image.astype(np.float32) for view in views]
    rms, matrix, distortion, _, _, deviations, _, _ = cv2.calibrateCameraExtended(objects, images, size, None, None)
    return Intrinsics(*size, matrix, distortion.ravel()[:5]), float(rms), float(np.max(deviations[:2]))


def _coverage(views: Sequence[View], size: tuple[int, int]) -> float:
    points = np.concatenate([view.image for view in views])
    cells = np.clip((points / np.array(size) * CELLS).astype(int), 0, CELLS - 1)
    return len(np.unique(cells, axis=0)) / CELLS**2


def _tilt(rotations: Sequence[FloatArray]) -> float:
    """Largest angle [rad] between the normals of two boards."""
    normals = np.stack([rotation[:, 2] for rotation in rotations])
    return float(np.arccos(np.clip(normals @ normals.T, -1.0, 1.0)).max())
