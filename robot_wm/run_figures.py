"""The figures of a run, computed from its bag: return, plan times, latent age, ticks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.bags.align import read_action
from robot_wm.bags.reader import Bag
from robot_wm.contract import Contract
from robot_wm.info import CorrectionInfo, PlanInfo
from robot_wm.machine import MEMORY
from robot_wm.timebase import NS_PER_S
from robot_wm.trust_ladder import Rung

Window = tuple[int, int]  # from, to [ns, ROS time]


def run_figures(bag: Bag, contract: Contract) -> dict[str, Any]:
    """Figures of the episode between the marks `start` and `end` (without marks: of the whole bag).

    Raises:
        BagError: a topic that every run records is missing.
    """
    window = episode_window(bag)
    seconds = (window[1] - window[0]) / NS_PER_S
    figures: dict[str, Any] = {"seconds": seconds}
    figures |= _return(bag, contract, window)
    figures |= _plans(bag, window, seconds)
    figures |= _ticks(bag, contract, window)
    if contract.images:
        figures["images"] = {image.name: image_figures(bag, image.name) for image in contract.images}
    figures |= _trust(bag, window)
    return figures | {"memory_mb": memory_figures(bag)}


def episode_window(bag: Bag) -> Window:
    """The last episode: its start mark and the first mark after it that ends it."""
    events = bag.events()
    starts = [event.stamp for event in events if event.kind == "start"]
    if not starts:
        return bag.start, bag.end
    ends = [e.stamp for e in events if e.kind in ("end", "success", "failure") and e.stamp > starts[-1]]
    return starts[-1], ends[0] if ends else bag.end


def image_figures(bag: Bag, name: str) -> dict[str, Any]:
    """What became of every image that posterior_node received in the whole bag, by its diagnostics.

    `{"received", "applied", "rejected": {reason: images}, "under_way"}`; received is the sum of the others, and once the node was
    stopped in order nothing is under way.
    """
    prefix = f"image {name} "
    last: list[dict[str, int]] = []  # of each process: one that was started again counts anew
    for _, values in _diagnostics(bag, "posterior_node"):
        counts = {k.removeprefix(prefix): int(v) for k, v in values.items() if k.startswith(prefix) and v.isdigit()}
        if last and counts and counts["received"] >= last[-1]["received"]:
            last.pop()
        last += [counts] if counts else []
    total: Counter[str] = sum(map(Counter, last), Counter())
    rejected = {k.removeprefix("rejected "): n for k, n in total.items() if k.startswith("rejected ")}
    under_way = total["received"] - total["applied"] - sum(rejected.values())
    return {"received": total["received"], "applied": total["applied"], "rejected": rejected, "under_way": under_way}


def memory_figures(bag: Bag) -> dict[str, dict[str, float]]:
    """Resident memory of each node's process [MB] when the bag first tells it, after a quarter of the bag and at its end:
    `{node: {"first", "quarter", "last"}}`. What grows between the last two may grow for ever."""
    told: dict[str, list[float]] = {}
    for _, name, values in _every_diagnostic(bag):
        if MEMORY in values:
            told.setdefault(name, []).append(float(values[MEMORY]))
    return {name: {"first": v[0], "quarter": v[len(v) // 4], "last": v[-1]} for name, v in sorted(told.items())}


def _return(bag: Bag, contract: Contract, window: Window) -> dict[str, Any]:
    """Mean reward x 1000; None where no reward was recorded."""
    topic = contract.reward.topic
    if not topic or bag.find(topic) is None:
        return {"return": None, "rewards": 0}
    series = bag.read_tensor(topic, slice(0, 1), ["reward"])
    rewards = series.values[(series.stamps > window[0]) & (series.stamps <= window[1]), 0]
    return {"return": float(rewards.mean()) * 1000.0 if len(rewards) else None, "rewards": len(rewards)}


def _plans(bag: Bag, window: Window, seconds: float) -> dict[str, Any]:
    if bag.find("plan_info") is None:
        return {"plans": 0}
    infos = [info for stamp, info in bag.infos("plan_info", PlanInfo) if window[0] <= stamp <= window[1]]
    milliseconds = [info.seconds * 1e3 for info in infos]
    return {
        "plans": len(infos),
        "plans_fallback": sum(info.refinements == 0 for info in infos),
        "plan_hz": len(infos) / seconds if seconds else None,
        "plan_ms_p50": _percentile(milliseconds, 50),
        "plan_ms_p99": _percentile(milliseconds, 99),
        "plans_late": sum(info.slack_s < 0.0 for info in infos),
        "refinements_p50": _percentile([info.refinements for info in infos], 50),
        "latent_age_ms_p50": _percentile([info.latent_age_s * 1e3 for info in infos], 50),
        "latent_age_ms_p99": _percentile([info.latent_age_s * 1e3 for info in infos], 99),
        "bundles": sorted({info.bundle_id for info in infos}),
    }


def _trust(bag: Bag, window: Window) -> dict[str, Any]:
    """Share of the corrections that were made on each rung of trust, and how often normal was left; None where nobody judged."""
    infos = bag.infos("correction_info", CorrectionInfo) if bag.find("correction_info") is not None else []
    rungs = [info.trust for stamp, info in infos if window[0] <= stamp <= window[1] and info.trust]
    if not rungs:
        return {"trust": None}
    share = {rung.label: rungs.count(rung.label) / len(rungs) for rung in Rung}
    normal = Rung.NORMAL.label
    left = sum(before == normal != after for before, after in zip(rungs, rungs[1:], strict=False))
    return {"trust": {"share": share, "alarms": left + (rungs[0] != normal)}}


def _ticks(bag: Bag, contract: Contract, window: Window) -> dict[str, Any]:
    """Ticks seen as applied commands in the window, ticks missed as the motor loop counted them, who was played."""
    topic, series = read_action(bag, contract)
    inside = (series.stamps >= window[0]) & (series.stamps <= window[1])
    sources = [name.partition(":")[0] for name in bag.frame_ids(topic)]
    played: dict[str, int] = {}
    if len(sources) == len(inside):
        for name in np.array(sources, object)[inside]:
            played[name] = played.get(name, 0) + 1
    missed = _missed(bag, window)
    return {"ticks": int(inside.sum()), "ticks_missed": missed, "ticks_by_source": played} | _loop_times(bag)


def _loop_times(bag: Bag) -> dict[str, float | None]:
    """How late ticks began and how long reading and writing the bus took in the whole run, as the motor loop measured it [ms]."""
    told = [values for _, values in _diagnostics(bag, "motor_node") if "ticks" in values]
    names = [f"{what}_ms_{part}" for what in ("lateness", "read", "write") for part in ("p50", "p99", "p999", "max")]
    return {f"motor_{name}": float(told[-1][name]) if told and name in told[-1] else None for name in names}


def _missed(bag: Bag, window: Window) -> int | None:
    """How much the motor loop's own count of missed ticks grew over the window, from its diagnostics."""
    stamps, counts = _diagnostic(bag, "motor_node", "ticks_missed")
    if not len(counts):
        return None
    before = counts[stamps <= window[0]]
    return int(counts[-1] - (before[-1] if len(before) else counts[0]))


def _diagnostic(bag: Bag, node: str, key: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """One figure of one node's diagnostics over time: stamps [ns, ROS time] and values."""
    found = [(stamp, float(values[key])) for stamp, values in _diagnostics(bag, node) if key in values]
    return np.array([stamp for stamp, _ in found], np.int64), np.array([value for _, value in found], np.float64)


def _diagnostics(bag: Bag, node: str) -> list[tuple[int, dict[str, str]]]:
    """Everything one node said of itself: receive stamps [ns, ROS time] and figures."""
    return [(receive, values) for receive, name, values in _every_diagnostic(bag) if name == node]


def _every_diagnostic(bag: Bag) -> list[tuple[int, str, dict[str, str]]]:
    """The same of every node, with its name."""
    topic = bag.find("diagnostics")
    return [
        (receive, status.name.rpartition("/")[2], {pair.key: pair.value for pair in status.values})
        for receive, message in (bag.messages(topic.name) if topic is not None else ())
        for status in message.status
    ]


def _percentile(values: list[float] | list[int], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
