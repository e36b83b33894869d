"""The numbers of one topic as arrays, after the rows that cannot be trusted were refused, or dropped and counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.errors import BagError
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S


@dataclass(frozen=True)
class Policy:
    """What to do with rows that cannot be used as they are: `refuse` them with an error, or go on and count them."""

    nan: str = "refuse"  # refuse | drop
    backwards: str = "refuse"  # refuse | sort


@dataclass(frozen=True)
class Series:
    """One topic's numbers, by stamp.

    `stamps` (N,) header stamps [ns], strictly increasing, and `receive` (N,) log stamps, both ROS time; `values` (N, K);
    `rows` (N,) positions of the messages in their topic.
    """

    topic: str
    stamps: NDArray[np.int64]
    receive: NDArray[np.int64]
    values: FloatArray
    rows: NDArray[np.int64]
    report: dict[str, int] = field(default_factory=dict)  # rows left out or moved, by reason

    def __len__(self) -> int:
        return len(self.stamps)


def clean(series: Series, names: tuple[str, ...], policy: Policy, source: str) -> Series:
    """Apply the policy, in the order of the bag; of messages with one stamp the last is kept.

    Raises:
        BagError: naming `source`, the topic, the message and the joint (`names`, one per column) or both stamps.
    """
    report = dict(series.report)
    where = f"{source}: {series.topic}"
    if len(series) and not series.stamps.any():
        report["stamped on arrival"] = len(series)
        series = _take(series, slice(None), stamps=series.receive)
    finite = np.asarray(np.isfinite(series.values).all(axis=1))
    if not finite.all():
        if policy.nan == "refuse":
            raise BagError(_not_finite(series, int(np.argmin(finite)), names, where))
        report["not finite"] = int((~finite).sum())
        series = _take(series, finite)
    back = np.diff(series.stamps) < 0
    if back.any():
        if policy.backwards == "refuse":
            raise BagError(_backwards(series, int(np.argmax(back)), where))
        report["out of order"] = int(back.sum())
        series = _take(series, np.argsort(series.stamps, kind="stable"))
    last = np.ones(len(series), bool)
    last[:-1] = np.diff(series.stamps) > 0
    if not last.all():
        report["same stamp"] = int((~last).sum())
        series = _take(series, last)
    return _take(series, slice(None), report=report)


def _take(
    series: Series,
    rows: slice | NDArray[Any],
    stamps: NDArray[np.int64] | None = None,
    report: dict[str, int] | None = None,
) -> Series:
    return Series(
        topic=series.topic,
        stamps=(series.stamps if stamps is None else stamps)[rows],
        receive=series.receive[rows],
        values=series.values[rows],
        rows=series.rows[rows],
        report=series.report if report is None else report,
    )


def _not_finite(series: Series, row: int, names: tuple[str, ...], where: str) -> str:
    column = int(np.argmin(np.isfinite(series.values[row])))
    return (
        f"{where}: message {series.rows[row]}, stamp {seconds(int(series.stamps[row]))}: {names[column]} is "
        f"{series.values[row, column]}; drop such messages with --drop-nan, or mend what published them"
    )


def _backwards(series: Series, row: int, where: str) -> str:
    before, after = int(series.stamps[row]), int(series.stamps[row + 1])
    return (
        f"{where}: stamps go backwards at message {series.rows[row + 1]}: {seconds(after)} after {seconds(before)}; "
        "sort them with --sort, or mend the clock of what published them"
    )


def seconds(stamp: int) -> str:
    """A stamp [ns] as exact seconds."""
    whole, rest = divmod(stamp, NS_PER_S)
    return f"{whole}.{rest:09d} s"
