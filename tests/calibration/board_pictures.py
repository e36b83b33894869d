"""Pictures of a ChArUco board through a known lens: every pixel's ray is followed to the board, distortion included."""

import cv2
import numpy as np

from calibration.camera import Board, Intrinsics

BOARD = Board()
FINE = 40  # board pixels per square
TRUTH = Intrinsics(
    640, 480, np.array([[560.0, 0, 331.5], [0, 557.0, 236.2], [0, 0, 1]]), np.array([-0.21, 0.06, 0.0008, -0.0005, 0.0])
)


def rotation(rx, ry, rz):
    """Rotation vector [deg] → matrix."""
    return cv2.Rodrigues(np.radians([rx, ry, rz], dtype=float))[0]


def render(turn, shift, lens=TRUTH, board=BOARD, noise=2.0, blur=0.7, rng=None, oversample=2):
    """A grey picture of the board at a pose in the optical frame (board's origin at its corner, x right, y down)."""
    printed = cv2.copyMakeBorder(board.picture(FINE), FINE, FINE, FINE, FINE, cv2.BORDER_CONSTANT, value=255)
    width, height = lens.width * oversample, lens.height * oversample
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    pixels = (np.stack([u, v], axis=-1).reshape(-1, 1, 2) + 0.5) / oversample - 0.5
    rays = cv2.undistortPoints(pixels, lens.matrix, lens.distortion).reshape(-1, 2)
    normal, rays = turn[:, 2], np.column_stack([rays, np.ones(len(rays))])
    depth = (normal @ shift) / (rays @ normal)
    place = (rays * depth[:, None] - shift) @ turn  # [m] on the board
    maps = (place[:, :2] / board.square_m + 1.0) * FINE - 0.5
    maps[depth <= 0] = -1e6
    maps = maps.reshape(height, width, 2).astype(np.float32)
    picture = cv2.remap(printed, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderValue=170)
    picture = cv2.resize(picture, (lens.width, lens.height), interpolation=cv2.INTER_AREA).astype(float)
    picture = cv2.GaussianBlur(picture, (0, 0), blur)
    rng = rng or np.random.default_rng(0)
    return np.clip(picture + noise * rng.normal(size=picture.shape), 0, 255).astype(np.uint8)


def centred(turn, u, v, distance, lens=TRUTH, board=BOARD):
    """Translation that puts the board's middle at pixel (u, v), `distance` [m] away."""
    x, y = cv2.undistortPoints(np.array([[[u, v]]], float), lens.matrix, lens.distortion).ravel()
    middle = np.array([board.columns, board.rows, 0]) * board.square_m / 2
    return distance * np.array([x, y, 1.0]) - turn @ middle


def poses(count=16, seed=0):
    """Board poses as a person would hold it: all over the picture, near and far, tilted about both sides."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        turn = rotation(rng.uniform(-32, 32), rng.uniform(-32, 32), rng.uniform(-25, 25))
        u, v = (0.2 + 0.2 * (i % 4)) * TRUTH.width, (0.25 + 0.25 * (i // 4 % 3)) * TRUTH.height
        yield turn, centred(turn, u, v, rng.uniform(0.25, 0.5))
