"""Where episodes begin and end: by events, and by silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_wm.messages import Event
from robot_wm.timebase import NS_PER_S

ENDINGS = ("end", "success", "failure")


@dataclass(frozen=True)
class Span:
    """A stretch of time, both ends included, ROS time [ns]."""

    start: int
    end: int
    terminal: bool = False  # ended by a failure


def event_spans(events: Iterable[Event], first: int, last: int) -> list[Span]:
    """Spans from start to end, success or failure; without any such event one span from `first` to `last`.

    A start closes an episode that is still open. Where nobody marks starts, an episode begins where the last one ended.
    """
    marks = [event for event in events if event.kind in ("start", *ENDINGS)]
    started = any(event.kind == "start" for event in marks)
    opened = None if started else first
    spans = []
    for event in marks:
        if opened is not None:
            spans.append(Span(opened, event.stamp, terminal=event.kind == "failure"))
        opened = event.stamp if event.kind == "start" or not started else None
    if opened is not None and (opened < last or not spans):
        spans.append(Span(opened, last))
    return spans


def gap_bound(stamps: NDArray[np.int64], gap_s: float) -> int:
    """How long [ns] a stream may be silent: `gap_s`, or five times its 99th percentile period where it is slower than that."""
    periods = np.diff(stamps)
    usual = float(np.percentile(periods, 99)) if len(periods) else 0.0
    return round(max(gap_s * NS_PER_S, 5.0 * usual))


def cut_gaps(spans: Iterable[Span], stamps: NDArray[np.int64], gap_s: float) -> list[Span]:
    """Cut every silence of a stream out of the spans, also before its first stamp and after its last.

    A stream counts as flowing for as long after a stamp as it may be silent, so that an ending marked just after the last
    message is still the episode's.
    """
    bound = gap_bound(stamps, gap_s)
    wide = np.flatnonzero(np.diff(stamps) > bound)
    begins = [int(stamps[0]), *stamps[wide + 1].tolist()]
    ends = [*(stamps[wide] + bound).tolist(), int(stamps[-1]) + bound]
    result = []
    for span in spans:
        for start, end in zip(begins, ends, strict=True):
            if start <= span.end and end >= span.start:
                result.append(Span(max(start, span.start), min(end, span.end), span.terminal and end >= span.end))
    return result


def cut_idle(spans: Iterable[Span], stamps: NDArray[np.int64], driven: NDArray[np.bool_]) -> list[Span]:
    """Cut out the time in which no motor followed the commands: from an undriven command's stamp to the next driven one's."""
    changes = np.flatnonzero(np.diff(driven.astype(np.int8), prepend=0, append=0))
    begins, after = changes[::2], changes[1::2]
    result = []
    for span in spans:
        for begin, end in zip(begins.tolist(), after.tolist(), strict=True):
            start = int(stamps[begin])
            stop = int(stamps[end]) if end < len(stamps) else span.end
            if start <= span.end and stop >= span.start:
                result.append(Span(max(start, span.start), min(stop, span.end), span.terminal and stop >= span.end))
    return result
