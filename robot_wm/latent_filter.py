"""The latent filter: predict with the prior from applied actions, correct at the stamp of each observation.

Corrections are always late, only by how much varies. The filter therefore keeps, over a bounded history of grid instants,
what was measured and what was applied; the latent is a function of these records alone. A late record only marks where
that function must be evaluated again (rewind, correct, replay), so the order of arrival cannot matter.

Encoding an image takes long, so no replay does it: an image comes with its embedding, or is encoded once when it comes. Its
pixels are kept as long as its instant, for the next model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from robot_wm.actions import ActionHistory
from robot_wm.backend import Float32, Model
from robot_wm.contract import Contract
from robot_wm.errors import BackendError, MessageError
from robot_wm.messages import Applied, Latent, Measurement
from robot_wm.timebase import NS_PER_S, Grid

FUTURE_TOLERANCE_S = 0.005
LARGEST = float(np.finfo(np.float32).max)  # what the graphs can take


@dataclass(frozen=True)
class Correction:
    """What became of one measurement: `outcome` is accepted, superseded, duplicate, too_old, future or invalid."""

    name: str
    stamp: int
    outcome: str
    late_steps: int = 0  # instants that have to be replayed because of it
    reason: str = ""


@dataclass
class _Instant:
    """One grid instant: the measurements that belong to it and, once evaluated, its latents."""

    measured: dict[str, Measurement] = field(default_factory=dict)
    views: dict[str, Float32] = field(default_factory=dict)  # of each image among them its embedding (1, E_i)
    embedding: Float32 | None = None  # of the merged measurements; None: must be encoded again
    prior: Float32 | None = None
    posterior: Float32 | None = None


@dataclass(frozen=True)
class Estimate:
    """One instant as it is known now: latents (L,) before and after its correction, and what corrected it."""

    prior: Float32
    posterior: Float32
    measured: Mapping[str, Measurement]


class LatentFilter:
    """Stamped history of measurements, applied actions and latents of one model; not thread-safe by design."""

    def __init__(self, contract: Contract, model: Model, history_s: float = 1.0, start: int = 0) -> None:
        self.contract = contract
        self.model = model
        self.grid = Grid(contract.model_hz)
        self.actions = ActionHistory(contract, history_s + 0.5)
        self.outcomes: Counter[str] = Counter()
        self._length = max(2, round(history_s * contract.model_hz))
        self._slices = contract.slices()
        self._shapes = {image.name: image.shape for image in contract.images}
        self._reach = {image.name: image.reach(contract.model_hz) for image in contract.images}
        self.reset(start)

    def reset(self, stamp: int) -> None:
        """Forget everything; the episode starts at the instant nearest `stamp` with the model's initial latent."""
        first = self.grid.nearest(stamp)
        self.actions.clear()
        self._instants: dict[int, _Instant] = {first: _Instant()}
        self._gone: dict[str, tuple[int, Float32]] = {}  # the newest view of each image older than that
        self._base = first  # oldest instant kept; its prior is the start of every replay
        self._head = first  # newest instant with a measurement
        self._base_prior: Float32 = self.model.initial_latent
        self._clean = first - 1  # instants up to here are evaluated

    def applied(self, applied: Applied) -> None:
        """Record what was really sent; steps that it changes are replayed."""
        effect = self.actions.add(applied)
        self._clean = min(self._clean, max(self.grid.floor(effect), self._base - 1))

    def observe(self, measurement: Measurement, now: int | None = None) -> Correction:
        """Record a measurement at the instant nearest its stamp; `now` [ns] lets stamps from the future be refused."""
        correction = self._place(measurement, now)
        self.outcomes[correction.outcome] += 1
        return correction

    def latent(self) -> Latent:
        """The posterior at the newest instant that has a measurement."""
        self._evaluate()
        values = self._instants[self._head].posterior
        assert values is not None
        return Latent(self.grid.stamp(self._head), values, self.model.bundle_id)

    def predict(self, stamp: int) -> Latent:
        """The latent at the first grid instant at or after `stamp`, rolled forward through applied actions, never backwards."""
        latent = self.latent()
        k, until, values = self.grid.nearest(latent.stamp), self.grid.ceil(stamp), latent.values.astype(np.float32)
        while k < until:
            values = self.model.prior(
                values[None], _row(self.actions.mean(self.grid.stamp(k), self.grid.stamp(k + 1)))
            )[0]
            k += 1
        return Latent(self.grid.stamp(k), values, latent.bundle_id)

    def innovation(self) -> float:
        """Root mean square change that the newest correction made to the predicted latent."""
        self._evaluate()
        instant = self._instants[self._head]
        assert instant.prior is not None and instant.posterior is not None
        return float(np.sqrt(np.mean((instant.posterior - instant.prior) ** 2)))

    def images(self) -> list[Measurement]:
        """The images kept, oldest first."""
        return [instant.measured[name] for instant in self._instants.values() for name in instant.views]

    def estimate(self, k: int) -> Estimate | None:
        """What is known of grid instant `k`; None where it is older than the history or newer than any measurement."""
        self._evaluate()
        instant = self._instants.get(k)
        if instant is None:
            return None
        assert instant.prior is not None and instant.posterior is not None
        return Estimate(instant.prior, instant.posterior, instant.measured)

    def without(self, k: int, name: str) -> Float32:
        """The posterior (L,) that instant `k` of the history would have had without its image `name`."""
        self._evaluate()
        instant = self._instants[k]
        measured = {key: m for key, m in instant.measured.items() if key != name}
        views = {key: view for key, view in instant.views.items() if key != name}
        return self._correct(_Instant(measured, views, prior=instant.prior), k)

    def corrected(self, k: int, prior: Float32) -> Float32:
        """The posterior (L,) that instant `k` of the history would have from another `prior` (L,)."""
        self._evaluate()
        return self._correct(replace(self._instants[k], prior=prior), k)

    def swap(self, model: Model, encoded: Iterable[Measurement] | None = None) -> None:
        """Continue with another bundle: the kept raw observations are encoded again and replayed from its initial latent.

        Args:
            encoded: kept images that `model` has encoded in the background; the others are forgotten and counted so. None: encode
                them here, one by one. Those that it cannot digest count as invalid.
        """
        self.model = model
        self._base_prior = model.initial_latent
        self._gone.clear()
        known = None if encoded is None else {(image.name, image.stamp): image for image in encoded}
        for instant in self._instants.values():
            instant.embedding = None
            for name in list(instant.views):
                kept = instant.measured.pop(name)
                del instant.views[name]
                image = kept if known is None else known.get((name, kept.stamp))
                try:
                    if image is not None:
                        instant.views[name] = self._view(image)
                        instant.measured[name] = image
                    else:
                        self.outcomes["forgotten"] += 1
                except BackendError:
                    self.outcomes["invalid"] += 1
        self._clean = self._base - 1

    def _place(self, measurement: Measurement, now: int | None) -> Correction:
        name, stamp = measurement.name, measurement.stamp
        reason = self._defect(measurement)
        if reason:
            return Correction(name, stamp, "invalid", reason=reason)
        if now is not None and stamp > now + FUTURE_TOLERANCE_S * NS_PER_S:
            ahead = (stamp - now) / NS_PER_S
            return Correction(name, stamp, "future", reason=f"{name}: stamp is {ahead:.3f} s ahead of the clock")
        k = self.grid.nearest(stamp)
        if k < self._base:
            old = (self._head - k) / self.contract.model_hz
            return Correction(
                name, stamp, "too_old", reason=f"{name}: {old:.3f} s before the newest, history is shorter"
            )
        other = self._instants[k].measured.get(name) if k <= self._head else None
        if other is not None and not self._closer(stamp, other.stamp, k):
            outcome = "duplicate" if stamp == other.stamp else "superseded"
            return Correction(name, stamp, outcome)
        try:
            view = self._view(measurement) if name in self._shapes else None
        except BackendError as error:
            return Correction(name, stamp, "invalid", reason=f"{name}: {error}")
        if k > self._head + self._length:
            self._restart(k)
        self._advance(k)
        instant = self._instants[k]
        instant.measured[name] = measurement
        if view is not None:
            instant.views[name] = view
            for after in range(k + 1, min(k + self._reach[name], self._head) + 1):
                self._instants[after].embedding = None  # this may be the frame before
        instant.embedding = None
        late = max(0, self._clean - k + 1)
        self._clean = min(self._clean, k - 1)
        return Correction(name, stamp, "accepted", late_steps=late)

    def _defect(self, measurement: Measurement) -> str:
        """Say why the values cannot be used, or nothing."""
        name, shape = measurement.name, np.shape(measurement.values)
        if name in self._shapes:
            kind = np.asarray(measurement.values).dtype
            usable = shape == self._shapes[name] and kind == np.uint8
            return "" if usable else f"{name}: {kind} of shape {shape}, expected uint8 of shape {self._shapes[name]}"
        expected = self._slices.get(name)
        if expected is None:
            raise MessageError(f"no observation {name!r} in contract {self.contract.name}")
        size = expected.stop - expected.start
        if shape != (size,):
            return f"{name}: shape {shape}, expected ({size},)"
        if not (np.abs(measurement.values) <= LARGEST).all():  # false for NaN, too
            return f"{name}: not finite in single precision"
        return ""

    def _view(self, measurement: Measurement) -> Float32:
        """Embedding (1, E_i) of an image: the one it brought, if this model made it, or a new one."""
        encoded = measurement.encoded
        if encoded is not None and encoded.bundle_id == self.model.bundle_id:
            return np.asarray(encoded.embedding, np.float32)[None]
        return self.model.encode_image(measurement.name, np.asarray(measurement.values, np.uint8)[None])

    def _closer(self, stamp: int, other: int, k: int) -> bool:
        """Of several measurements at one instant the one nearest to it counts, of two as near the later."""
        at = self.grid.stamp(k)
        return (abs(stamp - at), -stamp) < (abs(other - at), -other)

    def _restart(self, k: int) -> None:
        """A gap longer than the history: nothing that was known still helps."""
        self._instants = {k: _Instant()}
        self._gone.clear()
        self._base = self._head = k
        self._base_prior = self.model.initial_latent
        self._clean = k - 1

    def _advance(self, k: int) -> None:
        """Make instants up to `k` exist and let the oldest go, keeping the latent they lead to."""
        while self._head < k:
            self._head += 1
            self._instants[self._head] = _Instant()
        surplus = self._head - self._base + 1 - self._length
        if surplus <= 0:
            return
        base = self._base + surplus
        self._evaluate(base)
        prior = self._instants[base].prior
        assert prior is not None
        self._base_prior = prior
        for old in range(self._base, base):
            self._gone |= {name: (old, view) for name, view in self._instants.pop(old).views.items()}
        self._base = base

    def _evaluate(self, until: int | None = None) -> None:
        """Bring the latents of all instants up to `until` (default: the newest) up to date."""
        until = self._head if until is None else until
        for k in range(self._clean + 1, until + 1):
            instant = self._instants[k]
            if k == self._base:
                instant.prior = self._base_prior
            else:
                before = self._instants[k - 1].posterior
                assert before is not None
                action = self.actions.mean(self.grid.stamp(k - 1), self.grid.stamp(k))
                instant.prior = self.model.prior(before[None], _row(action))[0]
            try:
                instant.posterior = self._correct(instant, k)
            except BackendError:  # once, by name; the next call goes on without these measurements
                self.outcomes["invalid"] += len(instant.measured)
                instant.measured.clear()
                instant.views.clear()
                self._clean = max(self._clean, k - 1)
                raise
        self._clean = max(self._clean, until)

    def _correct(self, instant: _Instant, k: int) -> Float32:
        assert instant.prior is not None
        if not instant.measured:
            return instant.prior
        observation, mask, age = self._merge(instant, k)
        if instant.embedding is None:
            state = self.model.encode(observation, mask, age)
            views = {name: self._paired(name, view, k) for name, view in instant.views.items()}
            instant.embedding = self.model.join(state, views) if self._shapes else state
        corrected: Float32 = self.model.posterior(instant.prior[None], instant.embedding, mask)[0]
        return corrected

    def _paired(self, name: str, view: Float32, k: int) -> Float32:
        """The view of an image at instant `k` with that of the frame before, where the contract asks for it."""
        reach = self._reach[name]
        if not reach:
            return view
        for gap in range(1, reach + 1):
            before = self._instants.get(k - gap)
            if before is not None and name in before.views:
                return self.model.pair(name, view, before.views[name], gap)
        gone, last = self._gone.get(name, (k - reach - 1, view))
        return self.model.pair(name, view, last, k - gone) if k - gone <= reach else self.model.pair(name, view)

    def _merge(self, instant: _Instant, k: int) -> tuple[Float32, Float32, Float32]:
        """Everything measured for one instant as (1, O), (1, M), (1, M)."""
        count = len(self.contract.modalities)
        observation = np.zeros((1, self.contract.observation_size), np.float32)
        mask, age = np.zeros((1, count), np.float32), np.zeros((1, count), np.float32)
        for i, name in enumerate(self.contract.modalities):
            measurement = instant.measured.get(name)
            if measurement is not None:
                if name in self._slices:
                    observation[0, self._slices[name]] = measurement.values
                mask[0, i] = 1.0
                age[0, i] = self.grid.age(measurement.stamp, k)
        return observation, mask, age


def _row(action: NDArray[np.floating]) -> Float32:
    return np.asarray(action, np.float32)[None]
