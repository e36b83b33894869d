"""What the calibrations are made from: pictures in folders and bags, joints and poses in bags, poses in a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from calibration.camera import Image
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.bags.series import Policy
from robot_wm.errors import BagError, CalibrationError
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm")
IMAGE, COMPRESSED, POSE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "geometry_msgs/msg/PoseStamped"
GREY = {
    "mono8": None,
    "8UC1": None,
    "rgb8": cv2.COLOR_RGB2GRAY,
    "8UC3": cv2.COLOR_BGR2GRAY,
    "bgr8": cv2.COLOR_BGR2GRAY,
    "rgba8": cv2.COLOR_RGBA2GRAY,
    "bgra8": cv2.COLOR_BGRA2GRAY,
}
CHANNELS = {"mono8": 1, "8UC1": 1, "rgb8": 3, "8UC3": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4}
POSE_COLUMNS = ("image", "x", "y", "z", "qx", "qy", "qz", "qw")
LENIENT = Policy(nan="drop", backwards="sort")


@dataclass(frozen=True)
class Picture:
    """One grey picture (H, W); `stamp` [s] of its bag's clock, 0 for a file."""

    name: str
    stamp: float
    grey: Image


def pictures(path: Path, topic: str) -> Iterator[Picture]:
    """The pictures of a folder by name, or of a bag's image topic by time.

    Raises:
        CalibrationError, BagError: nothing there, a file that is no picture, an encoding that cannot be read.
    """
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES) if path.is_dir() else []
    if files:
        for file in files:
            grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            if grey is None:
                raise CalibrationError(f"{file}: is no picture that can be read; take it away or save it again")
            yield Picture(file.name, 0.0, np.asarray(grey, np.uint8))
        return
    if path.is_dir() and not (path / "metadata.yaml").exists() and not list(path.glob("*.mcap")):
        raise CalibrationError(f"{path}: holds neither pictures ({', '.join(SUFFIXES)}) nor a bag")
    bag = open_bag(path)
    found = bag.topic(topic)
    if found.type not in (IMAGE, COMPRESSED):
        raise BagError(f"{path}: {found.name} carries {found.type}; {IMAGE} or {COMPRESSED} is needed")
    for i, (receive, message) in enumerate(bag.messages(found.name)):
        where = f"{path}: {found.name}: message {i}"
        grey = decode(message, where) if found.type == IMAGE else _decompress(message, where)
        yield Picture(where, (stamp_ns(message) or receive) / NS_PER_S, grey)


def decode(message: Any, where: str) -> Image:
    """A sensor_msgs/Image as grey (H, W). Raises CalibrationError for an encoding it does not know or a wrong size."""
    if message.encoding not in GREY:
        raise CalibrationError(f"{where}: encoding {message.encoding!r} cannot be read; there are {', '.join(GREY)}")
    channels, height, width = CHANNELS[message.encoding], int(message.height), int(message.width)
    data = np.frombuffer(bytes(message.data), np.uint8)
    if message.step < width * channels or len(data) < height * message.step or not height * width:
        raise CalibrationError(f"{where}: {len(data)} bytes are no picture of {width} x {height}")
    rows = data[: height * message.step].reshape(height, message.step)[:, : width * channels]
    conversion = GREY[message.encoding]
    if conversion is None:
        return np.ascontiguousarray(rows)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows).reshape(height, width, channels), conversion), np.uint8)


def size_of(picture: Picture, first: Picture) -> tuple[int, int]:
    """Width and height [px]. Raises CalibrationError when it differs from the first picture's."""
    if picture.grey.shape != first.grey.shape:
        raise CalibrationError(
            f"{picture.name}: is of another size than {first.name}; calibrate one mode of the camera at a time"
        )
    return picture.grey.shape[1], picture.grey.shape[0]


@dataclass(frozen=True)
class JointLog:
    """One joint of a topic: stamps (N,) [s] after `origin` [ns], values (N,)."""

    stamps: FloatArray
    values: FloatArray


def joint_log(bag: Bag, topic: str, part: str, joint: str, origin: int) -> JointLog:
    """Read one joint; unusable messages are left out. Raises BagError."""
    series = bag.read_joints(topic, part, [joint], LENIENT)
    return JointLog((series.stamps - origin) / NS_PER_S, series.values[:, 0])


def driven_part(bag: Bag, topic: str, log: JointLog) -> JointLog:
    """From the first to the last command that powered motors got; all of a topic that does not say."""
    rows = np.flatnonzero(bag.driven(topic))
    if len(rows) == 0:
        raise CalibrationError(f"{bag.path}: {topic}: the motors were never powered in it; arm before recording")
    return JointLog(log.stamps[rows[0] : rows[-1] + 1], log.values[rows[0] : rows[-1] + 1])


def pose_table(path: Path) -> dict[str, FloatArray]:
    """Effector poses (4, 4) by picture, from a CSV table with the columns image, x, y, z [m], qx, qy, qz, qw.

    Raises:
        CalibrationError: naming the file, the line and the column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CalibrationError(
            f"{path}: cannot be read as a table: {getattr(error, 'strerror', None) or error}"
        ) from error
    return {row.get("image") or "": _pose(row, f"{path}: line {i}") for i, row in enumerate(rows, 2)}


def pose_at(bag: Bag, topic: str) -> tuple[FloatArray, list[FloatArray]]:
    """Stamps (N,) [s] and poses (4, 4) of a geometry_msgs/PoseStamped topic. Raises BagError."""
    from calibration.handeye import pose

    found = bag.topic(topic)
    if found.type != POSE:
        raise BagError(f"{bag.path}: {found.name} carries {found.type}; {POSE} is needed")
    stamps, poses = [], []
    for receive, message in bag.messages(found.name):
        p, q = message.pose.position, message.pose.orientation
        stamps.append((stamp_ns(message) or receive) / NS_PER_S)
        poses.append(pose(np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])))
    if not stamps:
        raise BagError(f"{bag.path}: {found.name} holds no messages")
    return np.array(stamps), poses


def by_joint(options: Sequence[str] | None, what: str) -> dict[str, str]:
    """`joint=value` options as a table. Raises CalibrationError naming the option."""
    table = {}
    for option in options or ():
        name, sign, value = option.partition("=")
        if not sign or not name or not value:
            raise CalibrationError(f"--{what}: must read joint=value, got {option!r}")
        table[name] = value
    return table


def degrees_of(table: Mapping[str, str], joint: str, what: str) -> float | None:
    """One of them as radians, given in degrees. Raises CalibrationError naming the option."""
    if joint not in table:
        return None
    try:
        return float(np.radians(float(table[joint])))
    except ValueError:
        raise CalibrationError(f"--{what}: {joint}={table[joint]} is no angle in degrees") from None


def stamp_ns(message: Any) -> int:
    """Header stamp [ns]; 0 where the driver left it empty."""
    return int(message.header.stamp.sec) * NS_PER_S + int(message.header.stamp.nanosec)


def _decompress(message: Any, where: str) -> Image:
    grey = cv2.imdecode(np.frombuffer(bytes(message.data), np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise CalibrationError(f"{where}: its {message.format!r} data is no picture that can be read")
    return np.asarray(grey, np.uint8)


def _pose(row: Mapping[str, Any], where: str) -> FloatArray:
    from calibration.handeye import pose

    for column in POSE_COLUMNS:
        if not row.get(column):
            raise CalibrationError(f"{where}: {column} is missing; the columns are {', '.join(POSE_COLUMNS)}")
    try:
        numbers = np.array([float(row[column]) for column in POSE_COLUMNS[1:]])
    except ValueError as error:
        raise CalibrationError(f"{where}: {error}") from error
    if not np.isfinite(numbers).all() or abs(np.linalg.norm(numbers[3:]) - 1.0) > 1e-2:
        raise CalibrationError(f"{where}: qx, qy, qz, qw must be a unit quaternion and x, y, z finite metres")
    return pose(numbers[:3], numbers[3:])
