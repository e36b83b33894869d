"""Where the camera is: on the robot's hand (eye in hand), or beside the robot watching its hand (eye to hand).

Both are one equation, `board in camera = inv(parent in other @ camera in parent) @ board in other`: for eye in hand the parent is
the effector and the other the base, for eye to hand the parent is the base and the other the effector. OpenCV's closed-form
solvers (calibrateHandEye: Tsai, Park, Horaud, Andreff, Daniilidis) give starts, of which the best is refined over all poses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from robot_wm.calibration_file import Calibration
from robot_wm.errors import CalibrationError
from robot_wm.messages import FloatArray

SETUPS = ("eye_in_hand", "eye_to_hand")
LEAST_POSES = 6
LEAST_TURN = math.radians(10.0)  # rms rotation about the second axis; with one axis alone a direction stays unknown
POSITION_M, ROTATION_RAD = 0.002, math.radians(0.3)  # how well one picture tells the board's pose, for weighing both
OUTLIER = 3.0  # of those: beyond this a pose pulls less and less
SOLVERS = ("TSAI", "PARK", "HORAUD", "ANDREFF", "DANIILIDIS")


@dataclass(frozen=True)
class HandEye:
    """The camera's optical frame in its parent: the effector (eye in hand) or the robot's base (eye to hand)."""

    setup: str
    camera: FloatArray  # (4, 4) camera in parent
    board: FloatArray  # (4, 4) board in base, or for eye to hand in the effector
    residual_m: float  # rms over all poses between the board as seen and as predicted
    residual_rad: float
    error_m: float  # standard deviation of the camera's position and rotation, the worst direction
    error_rad: float
    turn_rad: float  # rms rotation about the second axis
    poses: int


def solve(effector: Sequence[FloatArray], seen: Sequence[FloatArray], setup: str = "eye_in_hand") -> HandEye:
    """Find the camera.

    Args:
        effector: (4, 4) each: effector in the robot's base, by forward kinematics [m].
        seen: (4, 4) each: board in the camera's optical frame, of the same moments; best with its origin in the board's middle,
            where a picture tells position and rotation apart.
        setup: eye_in_hand with the board fixed in the world, or eye_to_hand with the board fixed to the effector.

    Raises:
        CalibrationError: too few poses, rotation about one axis alone, or poses that fit no camera.
    """
    if setup not in SETUPS:
        raise CalibrationError(f"hand-eye: setup must be one of {', '.join(SETUPS)}, got {setup!r}")
    if len(effector) != len(seen) or len(seen) < LEAST_POSES:
        raise CalibrationError(
            f"hand-eye: {len(seen)} poses with the board in view, {LEAST_POSES} are needed; 15 are good"
        )
    hands, boards = np.stack(effector).astype(float), np.stack(seen).astype(float)
    if not (np.isfinite(hands).all() and np.isfinite(boards).all()):
        raise CalibrationError("hand-eye: a pose is not finite")
    turn = second_axis(hands)
    if turn < LEAST_TURN:
        raise CalibrationError(
            f"hand-eye: the hand turned by {math.degrees(turn):.0f} deg (rms) about a second axis, {math.degrees(LEAST_TURN):.0f} "
            f"are needed: with rotation about one axis the camera's place along it stays unknown; tilt the hand both ways"
        )
    parents = hands if setup == "eye_in_hand" else np.linalg.inv(hands)  # parent in other
    start = _start(parents, boards)
    fit = least_squares(_misfit, start, args=(parents, boards), loss="huber", f_scale=OUTLIER)
    camera, board = _matrix(fit.x[:6]), _matrix(fit.x[6:])
    rows = _misfit(fit.x, parents, boards).reshape(-1, 6)
    error_m, error_rad = _errors(fit.jac, rows, camera)
    return HandEye(
        setup=setup,
        camera=camera,
        board=board,
        residual_m=float(np.sqrt(np.mean(np.sum(rows[:, 3:] ** 2, axis=1)))) * POSITION_M,
        residual_rad=float(np.sqrt(np.mean(np.sum(rows[:, :3] ** 2, axis=1)))) * ROTATION_RAD,
        error_m=error_m,
        error_rad=error_rad,
        turn_rad=turn,
        poses=len(seen),
    )


def second_axis(poses: FloatArray) -> float:
    """Rms rotation [rad] of poses (N, 4, 4), against their mean, about the second strongest axis."""
    turns = Rotation.from_matrix(poses[:, :3, :3])
    away = (turns.mean().inv() * turns).as_rotvec()
    return float(np.linalg.svd(away / math.sqrt(len(away)), compute_uv=False)[1])


def to_calibration(found: HandEye, serial: str, parent: str, child: str) -> Calibration:
    """The file's content: camera frame `child` in frame `parent`; the residual is the rms position error [mm]."""
    values = {
        "setup": found.setup,
        "parent": parent,
        "child": child,
        "translation_m": found.camera[:3, 3],
        "quaternion_xyzw": Rotation.from_matrix(found.camera[:3, :3]).as_quat(),
    }
    method = (
        f"{found.poses} poses, closed form and least squares; rotation residual {math.degrees(found.residual_rad):.3f} deg, "
        f"standard deviation {1e3 * found.error_m:.2f} mm and {math.degrees(found.error_rad):.3f} deg"
    )
    return Calibration("handeye", serial, method, 1e3 * found.residual_m, values)


def pose(translation: FloatArray, quaternion_xyzw: FloatArray) -> FloatArray:
    """A (4, 4) transform from a translation (3,) and a unit quaternion (4,)."""
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat(quaternion_xyzw).as_matrix()
    result[:3, 3] = translation
    return result


def _start(parents: FloatArray, boards: FloatArray) -> FloatArray:
    """The closed-form solution (12,) that fits best."""
    candidates = []
    for name in SOLVERS:
        try:
            turn, shift = cv2.calibrateHandEye(
                list(parents[:, :3, :3]),
                list(parents[:, :3, 3]),
                list(boards[:, :3, :3]),
                list(boards[:, :3, 3]),
                method=getattr(cv2, f"CALIB_HAND_EYE_{name}"),
            )
        except cv2.error:
            continue
        camera = np.eye(4)
        camera[:3, :3], camera[:3, 3] = turn, shift.ravel()
        if not np.isfinite(camera).all() or np.linalg.det(turn) < 0.5:
            continue
        places = parents @ camera @ boards
        board = np.eye(4)
        board[:3, :3] = Rotation.from_matrix(places[:, :3, :3]).mean().as_matrix()
        board[:3, 3] = np.median(places[:, :3, 3], axis=0)
        candidates.append(np.concatenate([_vector(camera), _vector(board)]))
    if not candidates:
        raise CalibrationError("hand-eye: no camera fits these poses; check that poses and pictures belong together")
    return min(candidates, key=lambda x: float(np.abs(_misfit(x, parents, boards)).sum()))


def _misfit(x: FloatArray, parents: FloatArray, boards: FloatArray) -> FloatArray:
    """Rotation and position (N * 6,) of the board as predicted against as seen, in units of what one picture tells."""
    predicted = np.linalg.inv(parents @ _matrix(x[:6])) @ _matrix(x[6:])
    turn = Rotation.from_matrix(boards[:, :3, :3].transpose(0, 2, 1) @ predicted[:, :3, :3]).as_rotvec()
    shift = predicted[:, :3, 3] - boards[:, :3, 3]
    return np.column_stack([turn / ROTATION_RAD, shift / POSITION_M]).ravel()


def _errors(jacobian: FloatArray, rows: FloatArray, camera: FloatArray) -> tuple[float, float]:
    """Standard deviations of the camera's position [m] and rotation [rad] in their worst direction."""
    spread = float(np.sum(rows**2)) / max(rows.size - jacobian.shape[1], 1)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * spread
    turn = _left_jacobian(Rotation.from_matrix(camera[:3, :3]).as_rotvec())
    rotation = turn @ covariance[:3, :3] @ turn.T
    position = covariance[3:6, 3:6]
    return tuple(float(np.sqrt(np.linalg.eigvalsh(block)[-1])) for block in (position, rotation))  # type: ignore[return-value]


def _left_jacobian(vector: FloatArray) -> FloatArray:
    """From a change of a rotation vector to the rotation it makes (Sola, A micro Lie theory, eq. 145)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-6:
        return np.eye(3) + cross / 2
    first, second = (1 - math.cos(angle)) / angle**2, (angle - math.sin(angle)) / angle**3
    return np.asarray(np.eye(3) + first * cross + second * cross @ cross)


def _matrix(x: FloatArray) -> FloatArray:
    result = np.eye(4)
    result[:3, :3] = Rotation.from_rotvec(x[:3]).as_matrix()
    result[:3, 3] = x[3:6]
    return result


def _vector(matrix: FloatArray) -> FloatArray:
    return np.concatenate([Rotation.from_matrix(matrix[:3, :3]).as_rotvec(), matrix[:3, 3]])
