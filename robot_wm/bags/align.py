"""From the streams of a bag to episodes on the model's time grid, by stamps and never by index.

The rules are those of docs/architecture.md (Time), so the trainer sees what the latent filter computes on the robot: the
nearest measurement with its signed age, and as the action of a step the time average of what was applied over it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot_wm.actions import denormalise, normalise
from robot_wm.bags import grid
from robot_wm.bags.align_report import AlignReport, describe
from robot_wm.bags.episodes import Span, cut_gaps, cut_idle, event_spans
from robot_wm.bags.image_series import ImageSeries, delays, nearest, read_images
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.bags.series import Policy, Series
from robot_wm.contract import Contract
from robot_wm.contract_observations import Observation
from robot_wm.errors import BagError, ContractError
from robot_wm.functions import load_function
from robot_wm.images import Pixels
from robot_wm.messages import Event, FloatArray
from robot_wm.timebase import NS_PER_S, Grid

APPLIED = "applied"  # where our own recorder leaves what was really sent

VERSION = 3  # of the rules here: part of every cache key


@dataclass(frozen=True)
class Options:
    """How to align; the defaults refuse what cannot be trusted."""

    gap_s: float = 0.25  # silence that ends an episode; a stream's own 99th percentile period x 5 where that is longer
    phase: float = 0.0  # shifts the grid by this many steps: another sampling of the same motion
    policy: Policy = field(default_factory=Policy)
    any_contract: bool = False  # accept a bag that was recorded under another model-facing contract

    def key(self) -> str:
        """Text that changes when an aligned episode would."""
        return f"{VERSION},{self.gap_s},{self.phase},{self.policy.nan},{self.policy.backwards}"


@dataclass(frozen=True)
class Episode:
    """One episode on the grid `start + k * step` (T instants); float32 throughout (but for images), O raw components, M modalities
    (observations, then images), A actions.

    The last row's step has not happened: its action and reward repeat the row before.
    """

    start: int  # ROS time [ns]
    step: int  # [ns]
    observation: FloatArray  # (T, O) nearest measurement, raw SI units; 0 where masked
    mask: FloatArray  # (T, M) 1 where there is one
    age: FloatArray  # (T, M) signed age [steps], in -0.5..0.5
    action: FloatArray  # (T, A) mean over the step, normalised to -1..1
    reward: FloatArray  # (T,) mean over the step
    target: FloatArray  # (T, O) observations interpolated linearly at the instants, raw SI units
    events: tuple[Event, ...]
    terminal: bool  # ended by a failure: no value beyond the last row
    source: str
    images: tuple[Pixels, ...] = ()  # of each image (T, H, W, C) uint8 the nearest one; 0 where masked
    delays: tuple[FloatArray, ...] = ()  # of each image (N,) from capture to arrival [s]

    def __len__(self) -> int:
        return len(self.observation)


@dataclass(frozen=True)
class _Streams:
    """What the contract asks of a bag, read."""

    observations: tuple[Series, ...]
    action: Series  # values normalised, stamps of effect
    reward: Series | None
    driven: NDArray[np.bool_]  # by action row: whether a motor followed
    images: tuple[ImageSeries, ...]


def align(bag: Bag | Path | str, contract: Contract, options: Options | None = None) -> list[Episode]:
    """Align a bag; see `align_with_report`."""
    return align_with_report(bag, contract, options)[0]


def align_with_report(
    bag: Bag | Path | str, contract: Contract, options: Options | None = None
) -> tuple[list[Episode], AlignReport]:
    """Cut a bag into episodes on the contract's grid, and say what was found on the way.

    Episodes go from event to event (start; end, success, failure) or, without events, over the whole bag; a silence longer
    than `gap_s` splits them. An episode's grid starts at its first usable stamp.

    Raises:
        BagError: a topic or joint is missing, numbers or stamps cannot be trusted, or nothing is left to learn from.
        ContractError: the bag was recorded under another model-facing contract, or the reward function cannot be loaded.
    """
    bag = bag if isinstance(bag, Bag) else open_bag(bag)
    options = options or Options()
    if bag.contract is not None and not options.any_contract:
        contract.require_data_of(bag.contract, f"{bag.path}")
    streams = _read(bag, contract, options.policy, with_images=True)
    events = tuple(bag.events())
    episodes: list[Episode] = []
    notes: dict[str, int] = {}
    for span in _spans(streams, events, options):
        episode, reason = _episode(span, streams, events, contract, options, str(bag.path))
        if episode is None:
            notes[reason] = notes.get(reason, 0) + 1
        else:
            episodes.append(episode)
    every = (*streams.observations, *(images.series for images in streams.images))
    named = dict(zip(contract.modalities, every, strict=True))
    report = describe(str(bag.path), named, streams.action, streams.reward, episodes, notes)
    if not episodes:
        raise BagError(f"{bag.path}: no episode of two model steps or more in it ({report.reasons() or 'it is empty'})")
    return episodes, report


def read_action(bag: Bag, contract: Contract, policy: Policy | None = None) -> tuple[str, Series]:
    """The topic that holds the action, and its stream in SI units: the contract's topic or, in a bag of our own recorder of a
    robot whose contract was drafted from other logs, `applied`. Raises BagError where neither can be read."""
    action = contract.action
    part, topic = action.field or action.mode, action.topic
    if bag.find(topic) is None and bag.find(APPLIED) is not None:
        part, topic = action.mode, APPLIED
    if part == "data":
        return topic, bag.read_tensor(topic, slice(0, action.size), action.names, policy)
    return topic, bag.read_joints(topic, part, action.names, policy)


def measurements(bag: Bag, contract: Contract, policy: Policy | None = None) -> dict[str, Series]:
    """Every measurement as it was recorded, by observation (not images), off the grid; raises as `align_with_report`."""
    streams = _read(bag, contract, policy or Policy(), with_images=False)
    return {o.name: series for o, series in zip(contract.observations, streams.observations, strict=True)}


def tensor_columns(contract: Contract) -> dict[str, slice]:
    """Where each tensor observation lies in its topic's tensor: the concatenation, in contract order, per topic."""
    columns, ends = {}, dict[str, int]()
    for item in contract.observations:
        if item.field == "data":
            start = ends.get(item.topic, 0)
            ends[item.topic] = start + item.size
            columns[item.name] = slice(start, start + item.size)
    return columns


def _read(bag: Bag, contract: Contract, policy: Policy, with_images: bool) -> _Streams:
    action, relabel = contract.action, contract.reward.function
    if not relabel and contract.reward.topic and bag.find(contract.reward.topic) is None:
        there = ", ".join(bag.topics) or "none"
        raise BagError(
            f"{bag.path}: no reward topic {contract.reward.topic!r}; there are {there}; name a reward.function in the "
            "contract, or set reward.topic to '' to learn the motion alone"
        )
    bag.load([name for name in contract.numeric_topics() if bag.find(name) is not None])
    columns = tensor_columns(contract)

    def read(item: Observation) -> Series:
        if item.field == "data":
            return bag.read_tensor(item.topic, columns[item.name], item.names, policy)
        return bag.read_joints(item.topic, item.field, item.names, policy)

    topic, sent = read_action(bag, contract, policy)
    delay = round(action.delay_s * NS_PER_S)
    effect = Series(
        sent.topic, sent.stamps + delay, sent.receive, normalise(contract, sent.values), sent.rows, sent.report
    )
    reward = None
    if not relabel and contract.reward.topic:
        reward = bag.read_tensor(contract.reward.topic, slice(0, 1), ("reward",), policy)
    # Zero effort is what an unpowered motor gives; an unpowered motor has no position or velocity command at all.
    driven = np.ones(len(sent), bool) if action.mode == "effort" else bag.driven(topic)[sent.rows]
    images = tuple(read_images(bag, item) for item in contract.images if with_images)
    return _Streams(tuple(read(item) for item in contract.observations), effect, reward, driven, images)


def _spans(streams: _Streams, events: tuple[Event, ...], options: Options) -> list[Span]:
    """Episodes as spans of time in which every kind of data flows."""
    if not len(streams.action) or not any(len(s) for s in streams.observations):
        return []
    seen = np.unique(np.concatenate([s.stamps for s in streams.observations]))
    spans = event_spans(events, int(seen[0]), int(seen[-1]))
    for stamps in (seen, streams.action.stamps):
        spans = cut_gaps(spans, stamps, options.gap_s)
    return spans if streams.driven.all() else cut_idle(spans, streams.action.stamps, streams.driven)


def _episode(
    span: Span, streams: _Streams, events: tuple[Event, ...], contract: Contract, options: Options, source: str
) -> tuple[Episode | None, str]:
    """One span on its grid, or why it cannot be used."""
    inside = [_within(series, span) for series in streams.observations]
    seen = [_within(images.series, span) for images in streams.images]
    empty = [name for name, s in zip(contract.modalities, inside + seen, strict=True) if not len(s)]
    if empty:
        return None, f"without {', '.join(empty)}"
    step = Grid(contract.model_hz).step
    origin = min(int(s.stamps[0]) for s in inside) + round(options.phase * step)
    clock = Grid(contract.model_hz, origin)
    rows = clock.nearest(max(int(s.stamps[-1]) for s in inside)) + 1
    if rows < 2:
        return None, "shorter than two model steps"
    neutral = normalise(contract, np.clip(np.zeros(contract.action.size), contract.action.low, contract.action.high))
    action = grid.hold_means(streams.action.stamps, streams.action.values, origin, step, rows - 1, neutral)
    target = np.concatenate(
        [
            grid.interpolate(s.stamps, s.values, origin, step, rows, np.array([kind == "angle" for kind in o.encoding]))
            for o, s in zip(contract.observations, inside, strict=True)
        ],
        axis=1,
    )
    reward = _reward(streams, target, action, clock, contract)
    if reward is None:
        return None, "without reward"
    observation, mask, age = _observe(inside, clock, rows)
    pairs = zip(streams.images, seen, strict=True)
    images = [nearest(source, series, origin, step, rows) for source, series in pairs]
    return Episode(
        start=origin,
        step=step,
        observation=observation,
        mask=np.column_stack([mask, *(_single(there) for _, there, _ in images)]),
        age=np.column_stack([age, *(_single(ages) for _, _, ages in images)]),
        action=_single(np.concatenate([action, action[-1:]])),
        reward=_single(np.concatenate([reward, reward[-1:]])),
        target=_single(target),
        events=tuple(e for e in events if span.start <= e.stamp <= span.end),
        terminal=span.terminal,
        source=source,
        images=tuple(pixels for pixels, _, _ in images),
        delays=tuple(delays(series) for series in seen),
    ), ""


def _within(series: Series, span: Span) -> Series:
    first, last = np.searchsorted(series.stamps, [span.start, span.end + 1])
    part = slice(int(first), int(last))
    return Series(series.topic, series.stamps[part], series.receive[part], series.values[part], series.rows[part])


def _observe(inside: list[Series], clock: Grid, rows: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Nearest measurements (T, O), mask (T, M) and age (T, M)."""
    observations, masks, ages = [], [], []
    for series in inside:
        winner, age = grid.nearest_rows(series.stamps, clock.origin, clock.step, rows)
        there = winner >= 0
        observations.append(np.where(there[:, None], series.values[winner], 0.0))
        masks.append(there)
        ages.append(age)
    return _single(np.concatenate(observations, axis=1)), _single(np.stack(masks, 1)), _single(np.stack(ages, 1))


def _reward(
    streams: _Streams, target: FloatArray, action: FloatArray, clock: Grid, contract: Contract
) -> FloatArray | None:
    """Reward (T-1,) of every step that happened; None when the span has no sample at all."""
    steps = len(action)
    if contract.reward.function:
        return _relabel(contract, target[:-1], action)
    if streams.reward is None:
        return np.zeros(steps)
    means, present = grid.step_means(
        streams.reward.stamps, streams.reward.values[:, 0], clock.origin, clock.step, steps
    )
    return grid.fill_forward(means, present) if present.any() else None


def _relabel(contract: Contract, observation: FloatArray, action: FloatArray) -> FloatArray:
    """Call the contract's reward function: observation (T, O) and action (T, A), both SI units, to (T,)."""
    name = contract.reward.function
    result = np.asarray(load_function(name)(observation, denormalise(contract, action), contract), np.float64)
    if result.shape != (len(observation),) or not np.isfinite(result).all():
        raise ContractError(
            f"reward.function {name} must return {len(observation)} finite numbers, one per step; got shape {result.shape}"
        )
    return result


def _single(values: FloatArray | NDArray[np.bool_]) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float32)
