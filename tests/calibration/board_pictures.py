"""Pictures of a ChArUco board through a known lens: every pixel's ray is followed to the board, distortion included."""

from functools import lru_cache

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from calibration.camera import Board, Intrinsics
from calibration.handeye import pose

BOARD = Board()
FINE = 40  # board pixels per square
TRUTH = Intrinsics(
    640, 480, np.array([[560.0, 0, 331.5], [0, 557.0, 236.2], [0, 0, 1]]), np.array([-0.21, 0.06, 0.0008, -0.0005, 0.0])
)


def rotation(rx, ry, rz):
    """Rotation vector [deg] → matrix."""
    return cv2.Rodrigues(np.radians([rx, ry, rz], dtype=float))[0]


@lru_cache
def _rays(oversample):
    """Where every pixel looks (P, 3)."""
    u, v = np.meshgrid(np.arange(TRUTH.width * oversample), np.arange(TRUTH.height * oversample))
    pixels = (np.stack([u, v], axis=-1).reshape(-1, 1, 2) + 0.5) / oversample - 0.5
    rays = cv2.undistortPoints(pixels, TRUTH.matrix, TRUTH.distortion).reshape(-1, 2)
    return np.column_stack([rays, np.ones(len(rays))])


def render(turn, shift, board=BOARD, noise=2.0, blur=0.7, rng=None, oversample=2):
    """A grey picture of the board at a pose in the optical frame (board's origin at its corner, x right, y down)."""
    printed = cv2.copyMakeBorder(board.picture(FINE), FINE, FINE, FINE, FINE, cv2.BORDER_CONSTANT, value=255)
    rays, normal = _rays(oversample), turn[:, 2]
    depth = (normal @ shift) / (rays @ normal)
    place = (rays * depth[:, None] - shift) @ turn  # [m] on the board
    maps = (place[:, :2] / board.square_m + 1.0) * FINE - 0.5
    maps[depth <= 0] = -1e6
    maps = maps.reshape(TRUTH.height * oversample, -1, 2).astype(np.float32)
    picture = cv2.remap(printed, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderValue=170)
    picture = cv2.resize(picture, (TRUTH.width, TRUTH.height), interpolation=cv2.INTER_AREA).astype(float)
    picture = cv2.GaussianBlur(picture, (0, 0), blur)
    rng = rng or np.random.default_rng(0)
    return np.clip(picture + noise * rng.normal(size=picture.shape), 0, 255).astype(np.uint8)


def centred(turn, u, v, distance, board=BOARD):
    """Translation that puts the board's middle at pixel (u, v), `distance` [m] away."""
    x, y = cv2.undistortPoints(np.array([[[u, v]]], float), TRUTH.matrix, TRUTH.distortion).ravel()
    middle = np.array([board.columns, board.rows, 0]) * board.square_m / 2
    return distance * np.array([x, y, 1.0]) - turn @ middle


def poses(count=16, seed=0):
    """Board poses as a person would hold it: all over the picture, near and far, tilted about both sides."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        turn = rotation(rng.uniform(-32, 32), rng.uniform(-32, 32), rng.uniform(-25, 25))
        u, v = (0.2 + 0.2 * (i % 4)) * TRUTH.width, (0.25 + 0.25 * (i // 4 % 3)) * TRUTH.height
        yield turn, centred(turn, u, v, rng.uniform(0.25, 0.5))


CAMERA = pose([0.031, -0.045, 0.062], Rotation.from_euler("xyz", [8, -12, 91], degrees=True).as_quat())
BOARD_IN_BASE = pose([0.42, 0.05, 0.01], Rotation.from_euler("xyz", [178, 3, 40], degrees=True).as_quat())

TO_MIDDLE = pose(np.array([BOARD.columns, BOARD.rows, 0]) * BOARD.square_m / 2, [0, 0, 0, 1])


def look(rng, spread=30.0, axes=(1, 1, 1)):
    """An effector pose from which the camera sees the board's middle, turned by about `spread` [deg]."""
    middle = (BOARD_IN_BASE @ TO_MIDDLE)[:3, 3]
    turn = Rotation.from_euler("xyz", rng.uniform(-spread, spread, 3) * np.array(axes), degrees=True)
    camera = np.eye(4)
    camera[:3, :3] = BOARD_IN_BASE[:3, :3] @ turn.as_matrix()
    camera[:3, 3] = middle - camera[:3, 2] * rng.uniform(0.3, 0.45) + rng.normal(size=3) * 0.01
    return camera @ np.linalg.inv(CAMERA)
