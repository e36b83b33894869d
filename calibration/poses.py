"""Pairs of effector pose and board pose for hand-eye calibration, from a folder with a table or from a bag."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from calibration.camera import Board, Intrinsics, detect
from calibration.sources import Picture, pictures, pose_at, pose_table, size_of
from robot_wm.bags.reader import open_bag
from robot_wm.errors import CalibrationError
from robot_wm.messages import FloatArray

AROUND_S = 0.1  # a picture counts when the hand stood still from so long before until so long after
STILL_M, STILL_RAD = 0.001, math.radians(0.2)
APART_M, APART_RAD = 0.01, math.radians(3.0)  # of pictures that count: standing still does not tell more by the second


def matched(
    source: Path, lens: Intrinsics, board: Board, table: Path | None, pose_topic: str, image_topic: str
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Effector in the base and middle of the board in the camera, (4, 4) each, for every picture that shows the board.

    Raises:
        CalibrationError, BagError: neither table nor topic was named, pictures without a pose, or of another size than the lens.
    """
    if (table is None) == (not pose_topic):
        raise CalibrationError(f"{source}: name the effector's poses: --poses for a folder, --pose-topic for a bag")
    pairs = _from_bag(source, pose_topic, image_topic) if table is None else _from_folder(source, table, image_topic)
    middle = np.eye(4)
    middle[:2, 3] = board.columns * board.square_m / 2, board.rows * board.square_m / 2
    hands, seen = [], []
    first: Picture | None = None
    for picture, hand in pairs:
        first = first or picture
        if size_of(picture, first) != (lens.width, lens.height):
            raise CalibrationError(
                f"{picture.name}: is {picture.grey.shape[1]} x {picture.grey.shape[0]}, the intrinsics are for {lens.width} x "
                f"{lens.height}; calibrate the camera in this mode"
            )
        view = detect(picture.grey, board, picture.name)
        if view is not None:
            turn, shift = lens.pose(view)
            hands.append(hand)
            seen.append(np.vstack([np.column_stack([turn, shift]), [0.0, 0.0, 0.0, 1.0]]) @ middle)
    return hands, seen


def _from_folder(source: Path, table: Path, topic: str) -> Iterator[tuple[Picture, FloatArray]]:
    poses = pose_table(table)
    for picture in pictures(source, topic):
        if picture.name not in poses:
            raise CalibrationError(f"{table}: has no pose for {picture.name}; add its line, or take the picture away")
        yield picture, poses[picture.name]


def _from_bag(source: Path, pose_topic: str, image_topic: str) -> Iterator[tuple[Picture, FloatArray]]:
    stamps, poses = pose_at(open_bag(source), pose_topic)
    origin = stamps[0]
    order = np.unique(stamps, return_index=True)[1]
    times, matrices = stamps[order] - origin, np.stack(poses)[order]
    if len(times) < 2:
        raise CalibrationError(
            f"{source}: {pose_topic} holds a single pose; record it while the hand goes from place to place"
        )
    turns, places = Slerp(times, Rotation.from_matrix(matrices[:, :3, :3])), matrices[:, :3, 3]

    def at(time: float) -> FloatArray:
        result = np.eye(4)
        result[:3, :3] = turns(time).as_matrix()
        result[:3, 3] = [np.interp(time, times, places[:, i]) for i in range(3)]
        return result

    last: FloatArray | None = None
    for picture in pictures(source, image_topic):
        time = picture.stamp - origin
        if not times[0] + AROUND_S <= time <= times[-1] - AROUND_S:
            continue
        if _moved(at(time - AROUND_S), at(time + AROUND_S), STILL_M, STILL_RAD):
            continue
        hand = at(time)
        if last is None or _moved(last, hand, APART_M, APART_RAD):
            last = hand
            yield picture, hand


def _moved(before: FloatArray, after: FloatArray, metres: float, radians: float) -> bool:
    turned = Rotation.from_matrix(before[:3, :3].T @ after[:3, :3]).magnitude()
    return bool(np.linalg.norm(after[:3, 3] - before[:3, 3]) > metres or turned > radians)
