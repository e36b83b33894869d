"""Replay of recorded bags through a bundle: how far its predictions are from what was measured, by horizon.

From a start every `every_s`, the latent is filtered with measurements up to the start alone and then predicted open loop under
the time-averaged recorded command. The target is the recorded row nearest the horizon, and the prediction is taken at that
row's own stamp, so that irregular logs are compared fairly; the horizons that resulted are reported.

A controller's recorded command depends on the state that followed the start: under feedback it leaks some of the future.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.backend import Float32, Model
from robot_wm.bags.align import Episode, Options, align, measurements
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.bags.series import Series
from robot_wm.contract_observations import Observation
from robot_wm.errors import BagError, ContractError
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S, Grid

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Protocol:
    """What is compared."""

    horizons_s: tuple[float, ...] = (0.1, 0.2)
    every_s: float = 0.1  # between starts
    observation: str = ""  # whose rows are starts and targets; empty: the contract's first


@dataclass(frozen=True)
class Filtered:
    """One episode through the filter: latents (T, L) before and after each instant's correction."""

    episode: Episode
    priors: Float32
    posteriors: Float32


@dataclass
class Errors:
    """Squared errors of many starts at one horizon, per component."""

    model: list[FloatArray] = field(default_factory=list)  # each (S, K)
    persistence: list[FloatArray] = field(default_factory=list)
    horizon: list[FloatArray] = field(default_factory=list)  # each (S,), what the target rows made of it [s]

    def figures(self) -> dict[str, float]:
        """Root mean square per component, then the mean over components; horizons in milliseconds."""
        horizon = 1e3 * np.concatenate(self.horizon)
        return {
            "model": _rms(np.concatenate(self.model)),
            "persistence": _rms(np.concatenate(self.persistence)),
            "starts": len(horizon),
            "horizon_ms_mean": float(horizon.mean()),
            "horizon_ms_min": float(horizon.min()),
            "horizon_ms_max": float(horizon.max()),
        }


def replay(bags: Sequence[Path | str], model: Model, protocol: Protocol | None = None) -> dict[str, Any]:
    """Prediction error by horizon, over all bags and by group (a bag's name without its last `_part`), SI units.

    Returns `{"rmse": {"<ms>": {"model", "persistence", ..., "groups": {...}}}, "innovation": {observation: rms}, ...}`.

    Raises:
        BagError: no bags, one that cannot be used, or none long enough for a single start.
        ContractError: the contract has no such observation, or a bag was recorded under another one.
    """
    protocol = protocol or Protocol()
    contract = model.bundle.contract
    scored = contract.observation(protocol.observation) if protocol.observation else contract.observations[0]
    if not bags:
        raise BagError("no bags given: name at least one to replay")
    if any(h * contract.model_hz < 1.0 for h in protocol.horizons_s):
        raise ContractError(f"horizons must be at least one model step, {1e3 / contract.model_hz:g} ms")
    errors: dict[str, dict[float, Errors]] = defaultdict(lambda: defaultdict(Errors))
    innovation: dict[str, list[FloatArray]] = defaultdict(list)
    for path in bags:
        bag = open_bag(path)
        rows = measurements(bag, contract)
        for episode in align(bag, contract, Options()):
            filtered = filter_episode(model, episode)
            for name, values in innovations(model, filtered).items():
                innovation[name].append(values)
            _score(model, filtered, rows, scored, protocol, errors[group_of(bag)])
    if not any(table for table in errors.values()):
        longest = max(protocol.horizons_s)
        raise BagError(f"no bag is longer than {protocol.every_s + longest:g} s, so there is no start to predict from")
    return {
        "rmse": {f"{1e3 * h:g}": _by_group(errors, h) for h in protocol.horizons_s},
        "observation": scored.name,
        "unit": ", ".join(dict.fromkeys(scored.unit)),
        "innovation": {name: _rms(np.concatenate(values)) for name, values in innovation.items() if len(values)},
        "bags": len(bags),
        "bundle_id": model.bundle_id,
    }


def filter_episode(model: Model, episode: Episode) -> Filtered:
    """Filter a whole episode from the bundle's initial latent, as the robot does."""
    embeddings = embed(model, episode)
    latent = model.initial_latent[None]
    priors, posteriors = [], []
    for k in range(len(episode)):
        priors.append(latent)
        latent = model.posterior(latent, embeddings[k : k + 1], episode.mask[k : k + 1])
        posteriors.append(latent)
        latent = model.prior(latent, episode.action[k : k + 1])
    return Filtered(episode, np.concatenate(priors), np.concatenate(posteriors))


def embed(model: Model, episode: Episode) -> Float32:
    """Embeddings (T, E) of everything that was measured for each instant."""
    state, images = model.encode(episode.observation, episode.mask, episode.age), model.bundle.contract.images
    if not images:
        return state
    views: dict[str, Float32] = {}
    for item, pixels, mask in zip(images, episode.images, episode.mask[:, -len(images) :].T, strict=True):
        seen = np.flatnonzero(mask)
        parts = [model.encode_image(item.name, pixels[k : k + 1]) for k in seen.tolist()]
        gaps = np.diff(seen, prepend=-len(episode)).tolist()
        near = [gap <= item.reach(model.bundle.contract.model_hz) for gap in gaps]
        paired = [
            model.pair(item.name, part, parts[i - 1], gaps[i]) if near[i] and i else model.pair(item.name, part)
            for i, part in enumerate(parts)
        ]
        if paired:
            views[item.name] = np.zeros((len(episode), paired[0].shape[1]), np.float32)
            views[item.name][seen] = np.concatenate(paired)
    return model.join(state, views)


def innovations(model: Model, filtered: Filtered) -> dict[str, FloatArray]:
    """Squared difference of every measurement to the prediction one step before, moved to its stamp; (rows, K) by name."""
    contract, episode = model.bundle.contract, filtered.episode
    before, after = model.readout(filtered.posteriors[:-1]), model.readout(filtered.priors[1:])
    result = {}
    for m, (name, part) in enumerate(contract.slices().items()):
        item = contract.observation(name)
        seen = episode.mask[1:, m] > 0
        back = episode.age[1:, m, None][seen]
        motion = difference(item, after[seen, part], before[seen, part])
        predicted = after[seen, part] - back * motion
        result[name] = difference(item, episode.observation[1:][seen, part], predicted) ** 2
    return result


def start_rows(stamps: Index, every: int, longest: int) -> Index:
    """Rows nearest to every `every` ns after the first row, the first excluded, with `longest` ns of rows after them."""
    wanted = np.arange(int(stamps[0]) + every, int(stamps[-1]) - longest + 1, every)
    rows = np.unique(nearest(stamps, wanted))
    result: Index = rows[stamps[rows] + longest <= stamps[-1]]
    return result


def nearest(stamps: Index, wanted: Index) -> Index:
    """Row whose stamp is nearest to each wanted one; stamps increase."""
    right = np.clip(np.searchsorted(stamps, wanted), 1, len(stamps) - 1)
    nearer = wanted - stamps[right - 1] <= stamps[right] - wanted
    result: Index = np.where(nearer, right - 1, right)
    return result


def start_latents(model: Model, filtered: Filtered, rows: dict[str, Series], starts: Index, instants: Index) -> Float32:
    """Posteriors (S, L) at the start instants (S,), corrected by measurements stamped up to the starts [ns] alone; images of the
    start's own instant are left out, for they come later."""
    contract, episode = model.bundle.contract, filtered.episode
    clock = Grid(contract.model_hz, episode.start)
    observation = np.zeros((len(starts), contract.observation_size))
    mask, age = np.zeros((2, len(starts), len(contract.modalities)))
    for m, (name, part) in enumerate(contract.slices().items()):
        series = rows[name]
        for i, (start, k) in enumerate(zip(starts.tolist(), instants.tolist(), strict=True)):
            first, last = np.searchsorted(series.stamps, [clock.stamp(k) - clock.step // 2, start + 1])
            if first < last:
                row = first + int(np.argmin(np.abs(series.stamps[first:last] - clock.stamp(k))))
                observation[i, part] = series.values[row]
                mask[i, m], age[i, m] = 1.0, clock.age(int(series.stamps[row]), k)
    embedding = model.encode(*(x.astype(np.float32) for x in (observation, mask, age)))
    embedding = model.join(embedding, {}) if contract.images else embedding
    return model.posterior(filtered.priors[instants], embedding, mask.astype(np.float32))


def predict(model: Model, latents: Float32, actions: Float32) -> Float32:
    """Readouts (S, H + 1, O) from latents (S, L) under normalised actions (S, H, A), angles without jumps."""
    rollout = [latents]
    for k in range(actions.shape[1]):
        rollout.append(model.prior(rollout[-1], actions[:, k]))
    readouts = np.stack([model.readout(latent) for latent in rollout], axis=1)
    angle = np.array([kind == "angle" for o in model.bundle.contract.observations for kind in o.encoding])
    result: Float32 = np.where(angle, np.unwrap(readouts, axis=1), readouts)
    return result


def between(values: FloatArray, at: FloatArray) -> FloatArray:
    """Rows of (S, H + 1, K), H of 3 or more, at fractional positions (S,): a cubic through the four around (Lagrange)."""
    base = np.clip(np.floor(at).astype(np.int64), 1, values.shape[1] - 3)
    u = (at - base)[:, None]
    weights = (
        -u * (u - 1) * (u - 2) / 6,
        (u + 1) * (u - 1) * (u - 2) / 2,
        -(u + 1) * u * (u - 2) / 2,
        (u + 1) * u * (u - 1) / 6,
    )
    lane = np.arange(len(values))
    result: FloatArray = np.sum([w * values[lane, base + i - 1] for i, w in enumerate(weights)], axis=0)
    return result


def difference(item: Observation, a: FloatArray, b: FloatArray) -> FloatArray:
    """a - b (..., K) of one observation's components, angles the short way round."""
    angle = np.array([kind == "angle" for kind in item.encoding])
    result: FloatArray = np.where(angle, (a - b + np.pi) % (2 * np.pi) - np.pi, a - b)
    return result


def group_of(bag: Bag) -> str:
    """The bag's name without its last `_part`: runs of one kind are named alike."""
    return bag.path.stem.rpartition("_")[0] or bag.path.stem


def _score(
    model: Model,
    filtered: Filtered,
    rows: dict[str, Series],
    scored: Observation,
    protocol: Protocol,
    errors: dict[float, Errors],
) -> None:
    """Add the errors of one episode's starts."""
    contract, episode = model.bundle.contract, filtered.episode
    clock = Grid(contract.model_hz, episode.start)
    series, part = rows[scored.name], contract.slices()[scored.name]
    inside = slice(*np.searchsorted(series.stamps, [episode.start, clock.stamp(len(episode))]).tolist())
    stamps, values = series.stamps[inside], series.values[inside]
    longest = round(max(protocol.horizons_s) * NS_PER_S)
    if len(stamps) < 2 or (first := start_rows(stamps, round(protocol.every_s * NS_PER_S), longest)).size == 0:
        return
    starts = stamps[first]
    instants = np.minimum(np.array([clock.nearest(s) for s in starts.tolist()]), len(episode) - 1)
    steps = max(3, -(-longest // clock.step) + 3)
    ahead = np.minimum(instants[:, None] + np.arange(steps), len(episode) - 1)
    latents = start_latents(model, filtered, rows, starts, instants)
    predicted = predict(model, latents, episode.action[ahead])[..., part]
    origins = episode.start + instants * clock.step
    for horizon in protocol.horizons_s:
        target = nearest(stamps, starts + round(horizon * NS_PER_S))
        guess = between(predicted, (stamps[target] - origins) / clock.step)
        table = errors[horizon]
        table.model.append(difference(scored, guess, values[target]) ** 2)
        table.persistence.append(difference(scored, values[first], values[target]) ** 2)
        table.horizon.append((stamps[target] - starts) / NS_PER_S)


def _by_group(errors: dict[str, dict[float, Errors]], horizon: float) -> dict[str, Any]:
    groups = {name: table[horizon] for name, table in sorted(errors.items()) if horizon in table}
    every = Errors(*(_joined(groups.values(), part) for part in ("model", "persistence", "horizon")))
    return every.figures() | {"groups": {name: table.figures() for name, table in groups.items()}}


def _joined(tables: Iterable[Errors], part: str) -> list[FloatArray]:
    return [rows for table in tables for rows in getattr(table, part)]


def _rms(squares: FloatArray) -> float:
    """Mean over components of the root mean square (rows, K)."""
    return float(np.sqrt(squares.mean(axis=0)).mean()) if len(squares) else float("nan")
