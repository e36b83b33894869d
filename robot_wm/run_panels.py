"""The plots an engineer wants of a run, from its bag: states, actions, reward, innovation, plan time, ticks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.bags.align import read_action
from robot_wm.bags.reader import Bag
from robot_wm.contract import Contract
from robot_wm.errors import BagError
from robot_wm.info import CorrectionInfo, Info, PlanInfo
from robot_wm.messages import FloatArray
from robot_wm.report import Line, Panel
from robot_wm.run_figures import episode_window
from robot_wm.timebase import NS_PER_S

AROUND_S = 0.5  # shown before and after the episode
TOGETHER = 0.015  # marks nearer than this part of the width share one line
MOST_MARKS = 24
VIRTUAL_MS = 1e-3  # times that never exceed this were not measured: a virtual clock

Stamps = NDArray[np.int64]


@dataclass(frozen=True)
class _Run:
    """The part of a bag that is plotted; plot time is seconds since the episode's start mark."""

    bag: Bag
    contract: Contract
    start: int  # the episode, ROS time [ns]
    end: int

    def shown(self, stamps: Stamps) -> NDArray[np.bool_]:
        margin = round(AROUND_S * NS_PER_S)
        result: NDArray[np.bool_] = (stamps >= self.start - margin) & (stamps <= self.end + margin)
        return result

    def seconds(self, stamps: Stamps) -> FloatArray:
        result: FloatArray = (np.asarray(stamps, np.int64) - self.start) / NS_PER_S
        return result

    def panel(self, title: str, y_label: str, lines: list[Line], bound: float | None = None) -> Panel:
        span = (-AROUND_S, (self.end - self.start) / NS_PER_S + AROUND_S)
        return Panel(title, y_label, lines, marks=_marks(self), bound=bound, x_range=span)


def run_panels(bag: Bag, contract: Contract) -> tuple[list[Panel], list[str]]:
    """Every panel that the bag has the topics for, and a sentence for each that it has not."""
    run = _Run(bag, contract, *episode_window(bag))
    makers: tuple[Callable[[_Run], list[Panel]], ...] = (
        _observations,
        _actions,
        _reward,
        _corrections,
        _plans,
        _ticks,
    )
    panels, missing = [], []
    for make in makers:
        try:
            panels += make(run)
        except BagError as error:
            missing.append(f"{error}.")
    return panels, missing


def _observations(run: _Run) -> list[Panel]:
    panels, start = [], _columns(run.contract)
    for item in run.contract.observations:
        if item.field == "data":
            series = run.bag.read_tensor(item.topic, start[item.name], item.names)
        else:
            series = run.bag.read_joints(item.topic, item.field, item.names)
        rows = run.shown(series.stamps)
        time, values = run.seconds(series.stamps[rows]), series.values[rows]
        lines = [Line(name, time, values[:, i]) for i, name in enumerate(item.names)]
        panels.append(run.panel(item.name, _unit(*item.unit), lines))
    return panels


def _columns(contract: Contract) -> dict[str, slice]:
    """Observations that share a tensor topic lie in it one after the other."""
    result, used = {}, dict.fromkeys((o.topic for o in contract.observations), 0)
    for item in contract.observations:
        result[item.name] = slice(used[item.topic], used[item.topic] + item.size)
        used[item.topic] += item.size
    return result


def _actions(run: _Run) -> list[Panel]:
    action = run.contract.action
    _, sent = read_action(run.bag, run.contract)
    rows = run.shown(sent.stamps)
    stamps, values = sent.stamps[rows], sent.values[rows]
    time = run.seconds(stamps)
    asked = _asked(run, stamps) if run.bag.find("plan") else None
    panels = []
    for i, name in enumerate(action.names):
        lines = [Line("sent", time, values[:, i], "steps")]
        if asked is not None:
            lines.insert(0, Line("asked", time, asked[:, i], "steps"))
        panels.append(run.panel(f"action {name}", _unit(action.unit[i]), lines))
    return panels


def _asked(run: _Run, stamps: Stamps) -> FloatArray:
    """What the newest plan asked for at each stamp (N, A); NaN where no plan reached."""
    asked = np.full((len(stamps), run.contract.action.size), np.nan)
    for _, plan in run.bag.plans(run.contract):
        rows = (stamps - plan.start) // plan.step
        inside = (rows >= 0) & (rows < len(plan.actions))
        asked[inside] = plan.actions[rows[inside]]
    return asked


def _reward(run: _Run) -> list[Panel]:
    reward = run.contract.reward
    if reward.function or not reward.topic or run.bag.find(reward.topic) is None:
        return []
    series = run.bag.read_tensor(reward.topic, slice(0, 1), ["reward"])
    rows = (series.stamps > run.start) & (series.stamps <= run.end)
    time, values = run.seconds(series.stamps[rows]), series.values[rows, 0]
    mean = np.cumsum(values) / np.arange(1, len(values) + 1)
    return [run.panel("reward", "per control step", [Line("reward", time, values), Line("mean so far", time, mean)])]


def _corrections(run: _Run) -> list[Panel]:
    time, infos = _infos(run, "correction_info", CorrectionInfo)
    if not infos:
        return []
    innovation = np.array([info.innovation for info in infos])
    delay = 1e3 * np.array([info.delay_s for info in infos])
    sources = sorted({name for info in infos for name in info.surprise})
    surprise = [Line(name, time, np.array([info.surprise.get(name, np.nan) for info in infos])) for name in sources]
    judged = [run.panel("surprise: 1 is an alarm", "", surprise, bound=1.0)] if sources else []
    return [
        *judged,
        run.panel("latent innovation: what a correction changed", "rms", [Line("", time, innovation)]),
        run.panel("delay from measurement to correction", "[ms]", [Line("", time, delay, ".")]),
    ]


def _plans(run: _Run) -> list[Panel]:
    time, infos = _infos(run, "plan_info", PlanInfo)
    if not infos:
        return []
    used = 1e3 * np.array([info.seconds for info in infos])
    slack = 1e3 * np.array([info.slack_s for info in infos])
    age = 1e3 * np.array([info.latent_age_s for info in infos])
    counts = np.array([info.refinements for info in infos], float)
    value = np.array([info.value if info.refinements else np.nan for info in infos])
    timing = [Line("time used", time, used, "."), Line("left before its start (below 0: late)", time, slack, ".")]
    panels = [
        run.panel("refinements per plan (0: a fallback)", "", [Line("", time, counts, ".")]),
        run.panel("age of the latent when the plan starts", "[ms]", [Line("", time, age, ".")]),
        run.panel("expected return of the plan", "model units", [Line("", time, value, ".")]),
    ]
    return panels if used.max() < VIRTUAL_MS else [run.panel("plan time", "[ms]", timing, bound=0.0), *panels]


def _ticks(run: _Run) -> list[Panel]:
    _, sent = read_action(run.bag, run.contract)
    stamps = sent.stamps[run.shown(sent.stamps)]
    late = 1e3 * (np.diff(stamps) / NS_PER_S - 1.0 / run.contract.motor_hz)
    if not len(late) or np.abs(late).max() < VIRTUAL_MS:
        return []
    return [run.panel("motor tick: interval minus period", "[ms]", [Line("", run.seconds(stamps[1:]), late, ".")])]


def _infos(run: _Run, topic: str, kind: type[Info]) -> tuple[FloatArray, list[Info]]:
    """Plot times (N,) and infos of the part that is shown; nothing where the bag has no such topic."""
    found: list[Any] = run.bag.infos(topic, kind) if run.bag.find(topic) is not None else []
    stamps = np.array([stamp for stamp, _ in found], np.int64)
    rows = run.shown(stamps)
    return run.seconds(stamps[rows]), [info for (_, info), here in zip(found, rows, strict=True) if here]


def _marks(run: _Run) -> list[tuple[float, str]]:
    """Events and states that lie in view; those nearly at one time share a line."""
    events = sorted(
        [*run.bag.events("event"), *run.bag.events("state"), *run.bag.events("trust")], key=lambda event: event.stamp
    )
    stamps = np.array([event.stamp for event in events], np.int64)
    near = TOGETHER * ((run.end - run.start) / NS_PER_S + 2 * AROUND_S)
    marks: list[tuple[float, str]] = []
    for event, time, here in zip(events, run.seconds(stamps).tolist(), run.shown(stamps), strict=True):
        text = event.note if event.kind == "mark" and event.note else event.kind
        if here and marks and time - marks[-1][0] < near:
            marks[-1] = (marks[-1][0], f"{marks[-1][1]}, {text}")
        elif here:
            marks.append((time, text))
    return marks[:MOST_MARKS]


def _unit(*units: str) -> str:
    text = ", ".join(dict.fromkeys(unit for unit in units if unit))
    return f"[{text}]" if text else ""
