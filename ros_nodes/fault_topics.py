"""Bad messages on good topics: copies of real ones, delayed, out of order or spoilt, published beside them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.duration import Duration
from rclpy.time import Time

from robot_wm.contract import Contract
from robot_wm.errors import RunError
from ros_nodes import topics
from ros_nodes.session import Session

HEARD = 5  # messages that copies are made of
LISTEN_S = 5.0
FOREIGN = "f0e1d2c3b4a5"  # an id that no bundle has


class Meddler:
    """Publishes bad copies on one topic, whenever it is told to."""

    def __init__(self, session: Session, contract: Contract, topic: str, what: str, source: str) -> None:
        """`source`: the topic that the copies are made of, where nobody publishes on `topic` itself.

        Raises RunError when nothing is heard there.
        """
        self._session = session
        self._spoil = SPOILT[what]
        kind = topics.TYPES[topic]
        heard: list[Any] = []
        listening = session.subscribe(kind, source, heard.append, topics.stream(contract.motor_hz))
        for _ in range(int(LISTEN_S / 0.05)):
            session.spin(0.05)
            if len(heard) >= HEARD:
                break
        session.destroy(listening)
        if not heard:
            raise RunError(f"nothing is heard on {source} to make bad copies of")
        order = heard[::-1] if what == "reordered" else heard
        self._messages = itertools.cycle(order[:HEARD])
        self._publisher = session.advertise(kind, topic, topics.stream(contract.motor_hz))
        session.spin(0.3)  # until they have found each other

    def publish(self) -> None:
        """One more bad message."""
        msg = copy.deepcopy(next(self._messages))
        self._spoil(msg, self._session.now())
        self._publisher.publish(msg)

    def close(self) -> None:
        self._session.destroy(self._publisher)


def _stamp(msg: Any, now: Time, ahead_s: float = 0.0) -> None:
    msg.header.stamp = (now + Duration(seconds=ahead_s)).to_msg()


def _nan(msg: Any, now: Time) -> None:
    _stamp(msg, now)
    _each_number(msg, lambda values: [float("nan")] * len(values))


def _shape(msg: Any, now: Time) -> None:
    _stamp(msg, now)
    if hasattr(msg, "encoding"):
        msg.width += 1
    elif hasattr(msg, "points"):
        msg.joint_names = ["elbow"]
    else:
        msg.name = ["elbow"] * len(msg.name)


def _longer(msg: Any, now: Time) -> None:
    """A sound tensor of one number too many."""
    _stamp(msg, now)
    msg.data = bytes(msg.data) + bytes(4)
    msg.width, msg.step = msg.width + 1, msg.step + 4


def _future(msg: Any, now: Time) -> None:
    _stamp(msg, now, 5.0)


def _past(msg: Any, now: Time) -> None:
    _stamp(msg, now, -2.0)


def _unstamped(msg: Any, now: Time) -> None:
    msg.header.stamp.sec, msg.header.stamp.nanosec = 0, 0


def _foreign(msg: Any, now: Time) -> None:
    """By a bundle that nobody here has loaded."""
    _stamp(msg, now)
    head, colon, _ = msg.header.frame_id.rpartition(":")
    msg.header.frame_id = f"{head}{colon}{FOREIGN}"


def _as_it_was(msg: Any, now: Time) -> None:
    """Only late, or after one that is newer."""


SPOILT: dict[str, Callable[[Any, Time], None]] = {
    "nan": _nan,
    "shape": _shape,
    "longer": _longer,
    "future": _future,
    "past": _past,
    "unstamped": _unstamped,
    "foreign": _foreign,
    "delayed": _as_it_was,
    "reordered": _as_it_was,
}


def _each_number(msg: Any, change: Callable[[Any], list[float]]) -> None:
    if hasattr(msg, "encoding"):
        msg.data = np.full(msg.width, np.nan, "<f4").tobytes()
        return
    for part in getattr(msg, "points", [msg]):
        for field in ("positions", "velocities", "position", "velocity", "effort"):
            if hasattr(part, field) and len(getattr(part, field)):
                setattr(part, field, change(getattr(part, field)))
