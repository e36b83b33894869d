"""Intrinsics from rendered pictures of a board, against the lens they were rendered with."""

import cv2
import numpy as np
import pytest
import yaml

from board_pictures import BOARD, TRUTH, centred, poses, render, rotation
from calibration.camera import Board, calibrate, detect, from_calibration, to_calibration, write_camera_info
from calibration.files import write
from robot_wm.calibration_file import require_fit
from robot_wm.errors import CalibrationError

SIZE = (TRUTH.width, TRUTH.height)


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(1)
    found = [detect(render(*pose, rng=rng), BOARD, f"view {i}") for i, pose in enumerate(poses())]
    return [view for view in found if view is not None]


@pytest.fixture(scope="module")
def result(views):
    return calibrate(views, SIZE)


def test_reprojection_is_below_a_third_of_a_pixel_on_views_it_was_not_fitted_to(result):
    assert result.views >= 14
    assert result.reprojection_px < 0.3
    assert result.held_out_px < 0.3


def test_the_lens_is_found(result):
    own = result.intrinsics
    assert own.matrix[[0, 1], [0, 1]] == pytest.approx(TRUTH.matrix[[0, 1], [0, 1]], rel=0.005)
    assert own.matrix[:2, 2] == pytest.approx(TRUTH.matrix[:2, 2], abs=2.5)
    grid = np.stack(np.meshgrid(np.linspace(20, 620, 9), np.linspace(20, 460, 7)), axis=-1).reshape(-1, 1, 2)
    rays = cv2.undistortPoints(grid, TRUTH.matrix, TRUTH.distortion).reshape(-1, 2)
    straight = np.column_stack([rays, np.ones(len(rays))])
    back, _ = cv2.projectPoints(straight, np.zeros(3), np.zeros(3), own.matrix, own.distortion)
    assert np.abs(back - grid).max() < 2.5  # [px] wherever the picture is, the distorted corners included


def test_a_pose_is_found_with_it(result):
    turn = rotation(20, -15, 40)
    shift = centred(turn, 300, 250, 0.4)
    found = result.intrinsics.pose(detect(render(turn, shift), BOARD))
    assert found[1] == pytest.approx(shift, abs=0.002)
    assert np.degrees(np.linalg.norm(cv2.Rodrigues(found[0].T @ turn)[0])) < 0.5


def test_the_files_hold_it(result, tmp_path):
    path = write(tmp_path / "camera.yaml", to_calibration(result, "cam-4"))
    back = from_calibration(require_fit(path, "camera", "cam-4"))
    assert back.matrix == pytest.approx(result.intrinsics.matrix)
    assert back.distortion == pytest.approx(result.intrinsics.distortion)
    assert (back.width, back.height) == SIZE


def test_ros_reads_the_camera_info(result, tmp_path):
    data = yaml.safe_load(write_camera_info(tmp_path / "front.yaml", result.intrinsics, "front").read_text())
    assert (data["image_width"], data["image_height"], data["camera_name"]) == (*SIZE, "front")
    assert data["distortion_model"] == "plumb_bob"
    for name, rows, columns in (
        ("camera_matrix", 3, 3),
        ("distortion_coefficients", 1, 5),
        ("rectification_matrix", 3, 3),
        ("projection_matrix", 3, 4),
    ):
        table = data[name]
        assert (table["rows"], table["cols"], len(table["data"])) == (rows, columns, rows * columns)
    assert data["projection_matrix"]["data"][:3] == data["camera_matrix"]["data"][:3]


def test_too_few_views_are_refused(views):
    with pytest.raises(CalibrationError, match=r"found in 5 pictures, 8 are needed: give the board as it is printed"):
        calibrate(views[:5], SIZE)


def test_a_board_that_stays_in_the_middle_is_refused():
    turns = [rotation(x, y, 0) for x in (-20, 0, 20) for y in (-20, 0, 20)]
    middle = [detect(render(turn, centred(turn, 320, 240, 0.65)), BOARD) for turn in turns]
    with pytest.raises(CalibrationError, match=r"covered \d+ % of the picture, 50 % are needed"):
        calibrate(middle, SIZE)


def test_a_board_that_is_never_tilted_is_refused():
    turn = rotation(0, 0, 0)
    places = [(u, v) for v in (120, 240, 360) for u in (150, 320, 490)]
    flat = [detect(render(turn, centred(turn, u, v, 0.35)), BOARD) for u, v in places]
    with pytest.raises(CalibrationError, match=r"was tilted by \d+ deg at most .* turn it about both of its sides"):
        calibrate([view for view in flat if view is not None], SIZE)


def test_a_picture_without_the_board_gives_nothing():
    assert detect(np.full((480, 640), 200, np.uint8), BOARD) is None
    assert detect(render(*next(poses())), Board(dictionary="DICT_4X4_50")) is None


@pytest.mark.parametrize(
    ("board", "message"),
    [
        (Board(dictionary="DICT_9X9"), "'DICT_9X9' is no ArUco dictionary"),
        (Board(marker_m=0.05), "markers smaller than the squares"),
        (Board(columns=2), "three squares or more each way"),
    ],
)
def test_a_board_that_cannot_be_is_refused(board, message):
    with pytest.raises(CalibrationError, match=message):
        board.charuco()
