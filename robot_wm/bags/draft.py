"""Draft a contract from what a bag holds: topics, joints, rates, ranges and delays. A start to be checked by a person."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_wm.bags.align_report import describe_stream
from robot_wm.bags.reader import Bag, Topic
from robot_wm.bags.series import Policy, Series
from robot_wm.bags.types import JOINT_STATE, TENSOR
from robot_wm.contract import Contract, parse_contract
from robot_wm.contract_action import MODES
from robot_wm.errors import BagError
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S

ACTION_WORDS = ("applied", "command", "cmd", "desired", "target", "goal", "action")  # the first that matches is taken
NOT_OBSERVED = ("latent", "reward")
UNITS = {"position": "rad", "velocity": "rad/s", "effort": "Nm", "data": ""}
WHOLE_TURN = 6.0  # [rad] a joint seen over more than this turns freely: encoded as an angle
LENIENT = Policy(nan="drop", backwards="sort")


@dataclass(frozen=True)
class Draft:
    """The contract and what was guessed for it, one sentence each."""

    contract: Contract
    guesses: tuple[str, ...]


def draft_contract(bag: Bag, name: str, action: str = "", model_hz: float = 0.0) -> Draft:
    """Look through a bag.

    Args:
        action: topic of the action; empty: guess by its name.
        model_hz: rate of the model; 0: 50, or what the slowest joint topic gives.

    Raises:
        BagError: when no topic can be the action, or none is left to observe.
    """
    guesses: list[str] = []
    sent = bag.topic(action) if action else _guess_action(bag, guesses)
    observations, rates = _observations(bag, sent, guesses)
    if not observations:
        raise BagError(f"{bag.path}: nothing to observe beside {sent.name}; there are {', '.join(bag.topics)}")
    if any(o["field"] == "position" for o in observations):
        guesses.append(
            "encoding: angle where more than a whole turn was seen; a joint that can turn freely should be one"
        )
    command, action_hz = _action(bag, sent, guesses)
    reward = "reward" if bag.find("reward") else ""
    if not reward:
        guesses.append("reward: none recorded; name a reward.function, or learn the motion alone (anchored positions)")
        for item in observations:
            item["anchored"] = item["field"] == "position"
    model_hz = model_hz or min(50.0, float(math.floor(min(rates))) or 1.0)
    data = {
        "name": name,
        "model_hz": model_hz,
        "motor_hz": max(100.0, model_hz, float(round(action_hz))),
        "observations": observations,
        "action": command,
        "reward": {"topic": reward},
        "episode_s": _round_up(min(10.0, max(bag.seconds, 1.0)), 2),
    }
    guesses.append("safety: no limits are known; add safety.position and safety.velocity before a motor moves")
    return Draft(parse_contract(data, str(bag.path)), tuple(guesses))


def _guess_action(bag: Bag, guesses: list[str]) -> Topic:
    usable = [t for t in bag.topics.values() if t.type in (JOINT_STATE, TENSOR) and t.count]
    for word in ACTION_WORDS:
        for topic in usable:
            if word in topic.name.lower():
                guesses.append(f"action: {topic.name}, by its name")
                return topic
    there = ", ".join(f"{t.name} ({t.type})" for t in bag.topics.values()) or "none"
    raise BagError(f"{bag.path}: no topic looks like the action; name one with --action; there are {there}")


def _observations(bag: Bag, sent: Topic, guesses: list[str]) -> tuple[list[dict[str, Any]], list[float]]:
    joint_topics = [t for t in bag.topics.values() if t.type == JOINT_STATE and t.name != sent.name and t.count]
    tensors = [t for t in bag.topics.values() if t.type == TENSOR and t.name != sent.name and t.count]
    bag.load([t.name for t in joint_topics])
    found, rates = [], []
    for topic in joint_topics:
        joints = bag.joints(topic.name)
        for part in ("position", "velocity"):
            try:
                series = bag.read_joints(topic.name, part, joints, LENIENT)
            except BagError:
                guesses.append(f"{topic.name}: {part} left out: no message has it for all of {', '.join(joints)}")
                continue
            label = part if len(joint_topics) == 1 else f"{_relative(topic)}_{part}".replace("/", "_")
            found.append(_observation(series, label, topic, part, list(joints)))
            rates.append(describe_stream(series).rate_hz)
    for topic in tensors:
        if _relative(topic).rsplit("/", 1)[-1] in NOT_OBSERVED:
            continue
        size = _tensor_size(bag, topic)
        if not size:
            guesses.append(f"{topic.name}: left out: not a 32FC1 vector")
            continue
        names = [f"{_relative(topic)}_{i}".replace("/", "_") for i in range(size)]
        series = bag.read_tensor(topic.name, slice(0, size), names, LENIENT)
        found.append(_observation(series, _relative(topic).replace("/", "_"), topic, "data", names))
        rates.append(describe_stream(series).rate_hz)
    return found, rates


def _observation(series: Series, label: str, topic: Topic, part: str, names: list[str]) -> dict[str, Any]:
    stream = describe_stream(series)
    low, high = series.values.min(axis=0), series.values.max(axis=0)
    turns = [part == "position" and bool(span > WHOLE_TURN) for span in high - low]
    return {
        "name": label,
        "topic": _relative(topic),
        "field": part,
        "names": names,
        "unit": [UNITS[part]] * len(names),
        "encoding": ["angle" if turn else "linear" for turn in turns],
        "mean": [
            0.0 if turn else _round(value, 3) for turn, value in zip(turns, series.values.mean(axis=0), strict=True)
        ],
        "scale": [1.0 if turn else _scale(column) for turn, column in zip(turns, series.values.T, strict=True)],
        "rate_hz": _round(stream.rate_hz, 3),
        "delay_s": _round(min(max(stream.delay_ms_p50, 0.0), 1000.0) / 1e3, 3),
        "stale_s": _round_up(max(0.05, 5.0 * stream.period_ms_p99 / 1e3), 2),
    }


def _action(bag: Bag, sent: Topic, guesses: list[str]) -> tuple[dict[str, Any], float]:
    """The action's table and its rate; joints that were never driven are left out."""
    if sent.type == TENSOR:
        names, part = [f"action_{i}" for i in range(_tensor_size(bag, sent))], "data"
        series = bag.read_tensor(sent.name, slice(0, len(names)), names, LENIENT)
        guesses.append("action.mode: effort; a tensor does not say")
    else:
        names = list(bag.joints(sent.name))
        part, series = _driven_part(bag, sent, names)
    reach = np.abs(series.values).max(axis=0)
    moved = [bool(value > 0.0) for value in reach]
    if not any(moved):
        raise BagError(
            f"{bag.path}: {sent.name}: every command in it is zero; there is nothing to learn an action from"
        )
    for joint in (joint for joint, moves in zip(names, moved, strict=True) if not moves):
        guesses.append(f"action: {joint} left out, its command is always zero")
    mode = part if part in MODES else "effort"
    if mode == "position":
        lows = [-_round_up(-value, 2) for value in series.values.min(axis=0)]
        highs = [_round_up(value, 2) for value in series.values.max(axis=0)]
    else:
        highs = [_round_up(value, 2) for value in reach]
        lows = [-value for value in highs]
    keep = [i for i, moves in enumerate(moved) if moves] if part != "data" else range(len(names))
    table = {
        "names": [names[i] for i in keep],
        "mode": mode,
        "unit": [UNITS[mode]] * len(keep),
        "low": [lows[i] for i in keep],
        "high": [max(highs[i], lows[i] + 1e-3) for i in keep],
        "topic": _relative(sent),
        "field": "data" if part == "data" else "",
    }
    guesses.append("action.delay_s: 0; a bag does not tell when a command takes effect")
    guesses.append("action.low/high: the range seen, rounded outwards; the robot's real limits are better")
    return table, describe_stream(series).rate_hz


def _driven_part(bag: Bag, sent: Topic, names: list[str]) -> tuple[str, Series]:
    for part in ("effort", "velocity", "position"):
        try:
            return part, bag.read_joints(sent.name, part, names, LENIENT)
        except BagError:
            continue
    raise BagError(
        f"{bag.path}: {sent.name}: no position, velocity or effort for all of {', '.join(names)} in any message"
    )


def _tensor_size(bag: Bag, topic: Topic) -> int:
    """Components of a 32FC1 vector topic; 0 for a real image."""
    _, message = next(bag.messages(topic.name))
    return int(message.width) if message.encoding == "32FC1" and message.height == 1 else 0


def _relative(topic: Topic) -> str:
    return topic.name.lstrip("/")


def _scale(column: FloatArray) -> float:
    spread = float(column.std())
    return _round_up(spread, 2) if spread > 1e-9 else 1.0


def _round(value: float, digits: int) -> float:
    """To `digits` significant digits."""
    value = float(value)
    return 0.0 if value == 0.0 else round(value, digits - 1 - math.floor(math.log10(abs(value))))


def _round_up(value: float, digits: int) -> float:
    """To the next number of `digits` significant digits that is not smaller."""
    value = float(value)
    if value == 0.0:
        return 0.0
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return round(math.ceil(round(value * 10.0**places, 6)) / 10.0**places, max(places, 0))


def draft_text(draft: Draft, bag: Bag) -> str:
    """The YAML file: the guesses as comments, then the contract."""
    import yaml

    seconds = (bag.end - bag.start) / NS_PER_S
    head = [f"# Drafted from {bag.path.name} ({seconds:.1f} s). Guessed, please check:"]
    head += [f"# - {guess}" for guess in draft.guesses]
    body = yaml.safe_dump(draft.contract.to_dict(), sort_keys=False, default_flow_style=None, width=120)
    return "\n".join([*head, body])
