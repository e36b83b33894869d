"""The trainer: draws windows from bags, updates the world model, and stops and resumes at the exact step."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.captured import Captured, pinned, to_device
from models.elbo import ElboConfig
from models.families import DEFAULT, FAMILIES
from models.feed import ahead
from models.fused import kernels
from models.losses import LossConfig, Noise, Sequence, anchor_loss, compute_losses, draw_noise, roll_out, td_target
from models.memory import PriorMemory
from models.networks import expectation
from models.optimiser import CLIPPED, Optimiser, OptimiserConfig
from models.rssm import Rssm
from models.world_model import WorldModel
from robot_wm.bundle import load_bundle
from robot_wm.contract import Contract
from robot_wm.errors import BundleError, RunError

# Training on logs without a task (`dynamics_only`): how long to filter first, from how long a stretch to predict, how far.
BURN_IN_S, STARTS_S, AHEAD_S = 0.2, 0.16, 0.24
DECAY = 3_000  # updates
STANDARDISED = 4096  # instants from which the normalisation of the inputs is taken
# Windows with images are long, for these may be late or missing: few of them, and rollouts from many instants of each. That far
# the recorded rewards are there, too: values learned from them need fewer updates, which are dear here.
SEEING_BATCH, SEEING_STARTS, SEEING_TRACE = 32, 16, 0.9
PHASES = 4  # shifted grids of each log: rows come much faster than the grid


class Windows(Protocol):
    """What the trainer needs of a dataset: windows of consecutive instants of one episode, as float32 arrays (B, T, ...), a tuple
    of uint8 `images` (B, T, H, W, C), and int64 `rows` (B, T) that tell every instant of the data apart. They may begin up to
    `lead` instants before their episode."""

    def sample(self, rng: np.random.Generator, batch: int, length: int, lead: int = 0) -> Any: ...


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what training computes, given data and seed."""

    seed: int = 0
    batch: int = 256
    fused: bool = True  # use the kernels of models/fused.py where they can be built
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)


def discount_for(contract: Contract) -> float:
    """Discount from the episode length in model steps, clamp((L/5 - 1) / (L/5), 0.95, 0.995) (TD-MPC2, appendix)."""
    fraction = contract.episode_s * contract.model_hz / 5.0
    return float(min(max((fraction - 1.0) / fraction, 0.95), 0.995))


def config_for(
    contract: Contract,
    seed: int = 0,
    offline: bool = False,
    delays: Ordered[Ordered[float]] = (),
    family: str = DEFAULT,
    **changes: Any,
) -> TrainConfig:
    """The usual configuration for a contract and a family of models; `delays` are quantiles [s] of how late each image comes,
    measured (`models.dataset.Dataset.delays`), `changes` are fields of LossConfig.

    `offline` (a fixed set of bags, nothing new will correct an over-estimated value) adds TD3+BC's behaviour-cloning
    term with its alpha = 2.5 (arXiv 2106.06860), so that policy and TD targets stay near logged actions.
    """
    loss = LossConfig(
        discount=discount_for(contract),
        with_reward=contract.rewarded,
        behaviour_cloning=1.0 / 2.5 if offline else 0.0,
        mirrored=contract.mirrored,
        remember=not contract.mirrored,  # a latent of one side is none of the other
    )
    if contract.images:
        late = delays_for(contract, delays)
        outage = tuple(contract.model_hz * image.outage_s for image in contract.images)
        burn_in = burn_in_for(contract, late) + math.ceil(max(outage))
        loss = replace(
            loss, late=late, outage=outage, burn_in=burn_in, early=True, starts=SEEING_STARTS, trace=SEEING_TRACE
        )
    if issubclass(FAMILIES[family], Rssm):
        loss = replace(loss, consistency=0.0, elbo=ElboConfig())
    if learns_motion_alone(contract, family):
        return dynamics_only(contract, seed, loss, **changes)
    batch = SEEING_BATCH if contract.images else TrainConfig.batch
    return TrainConfig(seed=seed, batch=batch, loss=replace(loss, **changes))


def delays_for(contract: Contract, measured: Ordered[Ordered[float]] = ()) -> tuple[tuple[float, ...], ...]:
    """Quantiles [model steps] of how late each image comes: in the contract's range where it has one, else as measured [s] or,
    where no bag tells, as the contract expects."""
    known = list(measured) or [()] * len(contract.images)
    return tuple(
        tuple(contract.model_hz * d for d in image.delay_range_s or (quantiles if any(quantiles) else (image.delay_s,)))
        for image, quantiles in zip(contract.images, known, strict=True)
    )


def burn_in_for(contract: Contract, late: Ordered[Ordered[float]]) -> int:
    """Instants to filter first, so that an image has arrived by the start of the rollout, however late they come."""
    periods = (max(1.0, contract.model_hz / image.rate_hz) if image.rate_hz else 1.0 for image in contract.images)
    return max(math.ceil(max(delays) + period) for delays, period in zip(late, periods, strict=True))


def learns_motion_alone(contract: Contract, family: str = DEFAULT) -> bool:
    """Whether there is no reward, and something to learn the motion from without one: anchors, or a decoder."""
    return not contract.rewarded and (
        issubclass(FAMILIES[family], Rssm) or any(o.anchored for o in contract.observations)
    )


def phases_for(contract: Contract, family: str = DEFAULT) -> int:
    """On how many shifted grids to align a log (`models.dataset.Dataset`)."""
    return PHASES if learns_motion_alone(contract, family) else 1


def dynamics_only(contract: Contract, seed: int, loss: LossConfig, **changes: Any) -> TrainConfig:
    """For logs without a task: long rollouts, many per window, and a rate that falls to zero."""
    usual: dict[str, Any] = {
        "burn_in": round(BURN_IN_S * contract.model_hz),
        "starts": round(STARTS_S * contract.model_hz),
        "horizon": round(AHEAD_S * contract.model_hz),
        "rho": 1.0,
        "drop": 0.02,  # measured gaps are in the logs already
        "cold": 0.0,
        "remember": False,  # the burn-in is long
        "consistency": 0.0,  # the anchors are compared with measurements, step by step
    }
    usual["burn_in"] = max(usual["burn_in"], loss.burn_in)
    if loss.elbo is not None:
        usual["elbo"] = replace(
            loss.elbo, overshooting=loss.elbo.dynamics
        )  # otherwise long rollouts would teach nothing
    optimiser = OptimiserConfig(rate=1e-3, encoder_rate=1.0, decay=DECAY)
    return TrainConfig(seed=seed, batch=64, loss=replace(loss, **(usual | changes)), optimiser=optimiser)


class Trainer:
    """Updates `model` in place, on the device it is on, from windows of `dataset`.

    The state is: model, optimiser, value scale, remembered priors, two random generators and the step; `save` and `load` carry
    all of it. On a CPU the same state gives the same update, bit for bit; on a GPU nearly so.
    """

    def __init__(self, model: WorldModel, dataset: Windows, config: TrainConfig) -> None:
        if isinstance(model, Rssm) != (config.loss.elbo is not None):
            raise AssertionError(f"a model of family {model.family} needs the configuration of `config_for(family=)`")
        self.model = model
        self.dataset = dataset
        self.config = config
        self.step = 0
        self._device = model.initial_latent.device
        self._optimiser = Optimiser(model, config.optimiser)
        self._scale = torch.ones((), device=self._device)
        self._memory = PriorMemory(model.initial_latent)
        self._rng = np.random.default_rng(config.seed)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._names: list[str] = []
        self._compute: Callable[[Sequence, Noise], tuple[Tensor, ...]]
        self._prepare()

    def _prepare(self) -> None:
        """Have updates computed; on a GPU as a graph, which holds on to the tensors that there are when it is captured."""
        gpu = self._device.type == "cuda"
        self._compute = Captured(self._learn, self._device) if gpu else self._learn

    def update(self, count: int = 1) -> dict[str, float]:
        """Make `count` updates; returns the mean of each loss term and gradient norm over them.

        Raises:
            RunError: a loss term or a gradient is not finite; it names the first and its step.
        """
        rows = []
        with kernels(self.config.fused):
            for sequence, noise in ahead(self._draw, count):
                self._optimiser.schedule(self.step)
                (figures,) = self._compute(sequence, noise)
                rows.append(figures.clone())
                self.step += 1
        if not rows:
            return {}
        figures = torch.stack(rows).cpu()
        for row, step in zip(figures, range(self.step - count, self.step), strict=True):
            self._require_finite(row, step)  # a GPU was not waited for
        return dict(zip(self._names, figures.mean(0).tolist(), strict=True)) | {"scale": float(self._scale)}

    def _draw(self) -> tuple[Sequence, Noise]:
        config = self.config
        sequence = draw_sequence(self.dataset, self._rng, config)
        noise = draw_noise(self.model, config.loss, config.batch, self._generator)
        if self._device.type == "cuda":
            sequence, noise = pinned(sequence), pinned(noise)
        return sequence, noise

    def _learn(self, sequence: Sequence, noise: Noise) -> tuple[Tensor]:
        """One update from what was drawn, on the device; its loss terms and gradient norms, as `_names` says."""
        config = self.config.loss
        self._optimiser.zero()
        start = self._memory.recall(sequence.rows[0]) if config.remember else None
        terms, scale, priors = compute_losses(self.model, config, sequence, noise, self._scale, start)
        self._names = [*terms, *(f"gradient_{name}" for name in CLIPPED)]
        values = torch.stack(list(terms.values()))
        if not values.is_cuda:  # nothing is learned from it
            self._require_finite(values.detach(), self.step)
        values.sum().backward()  # type: ignore[no-untyped-call]
        norms = self._optimiser.step()
        self._scale.copy_(scale)
        if config.remember:
            self._memory.keep(sequence.rows[1:], priors, sequence.valid[1:])
        return (torch.cat([values.detach(), norms]),)

    def _require_finite(self, values: Tensor, step: int) -> None:
        if not torch.isfinite(values.sum()):
            figures = zip(self._names, values.tolist(), strict=False)  # the gradients may not be known yet
            bad = [name for name, value in figures if not np.isfinite(value)]
            raise RunError(
                f"training step {step}: the {' and '.join(bad)} loss is not finite; check the bags and the "
                "contract's scale for extreme numbers, or resume from an earlier checkpoint"
            )

    def standardise(self) -> None:
        """Fit the normalisation of the model's inputs to the data; once, before the first update."""
        batch = self.dataset.sample(np.random.default_rng(self.config.seed), STANDARDISED, 1)
        parts = (np.asarray(x[:, 0], np.float32) for x in (batch.observation, batch.mask))
        observation, mask = (torch.from_numpy(part).to(self._device) for part in parts)
        self.model.standardise(observation, mask)

    def scale_rate(self, factor: float) -> None:
        """Learn at `factor` times the configured rates from now on."""
        self._optimiser.scale_rate(factor)

    def averaged(self) -> AbstractContextManager[None]:
        """Within the block the model has the running average of its weights, which is what bundles are made of."""
        return self._optimiser.averaged()

    def save(self, path: Path, notes: dict[str, Any] | None = None) -> None:
        """Write a checkpoint, never half of one; `notes` is plain data that `load` returns."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "family": self.model.family,
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scale": self._scale,
            "memory": self._memory.state_dict(),
            "rng": self._rng.bit_generator.state,
            "generator": self._generator.get_state(),
            "step": self.step,
            "config": _facts(self.config),
            "notes": notes or {},
        }
        temporary = path.with_name(f".{path.name}.tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> dict[str, Any]:
        """Continue from a checkpoint exactly as if training had never stopped (given the same bags); returns its notes.

        Raises:
            RunError: the file cannot be read, or was made with another configuration, family or size of model.
        """
        state = read_checkpoint(path)
        if (family := state.get("family", DEFAULT)) != self.model.family:
            raise RunError(f"{path}: is of family {family}, not {self.model.family}")
        if state["config"] != _facts(self.config):
            raise RunError(f"{path}: was made with another configuration: {_changed(state['config'], self.config)}")
        _load_weights(self.model, state["model"], path)
        self._optimiser.load_state_dict(state["optimiser"])
        self._scale.copy_(state["scale"])
        self._memory.load_state_dict(state["memory"])
        self._rng.bit_generator.state = state["rng"]
        self._generator.set_state(state["generator"])
        self.step = state["step"]
        self._prepare()
        notes: dict[str, Any] = state["notes"]
        return notes

    @torch.no_grad()
    def evaluate(self, dataset: Windows, batches: int = 8, seed: int = 0) -> dict[str, float]:
        """Held-out figures on other windows: consistency, reward error, TD error and probe error (see `held_out`)."""
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        rows = [held_out(self.model, self.config, dataset, rng, generator) for _ in range(batches)]
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def draw_sequence(dataset: Windows, rng: np.random.Generator, config: TrainConfig) -> Sequence:
    """One batch of windows as tensors, time first."""
    batch = dataset.sample(rng, config.batch, config.loss.length, config.loss.lead)

    def time_first(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)))

    parts = (time_first(getattr(batch, name)) for name in Sequence._fields if name != "images")
    return Sequence(*parts, images=tuple(time_first(pixels) for pixels in batch.images))


def held_out(
    model: WorldModel, config: TrainConfig, dataset: Windows, rng: np.random.Generator, generator: torch.Generator
) -> dict[str, float]:
    """Errors on one batch, nothing dropped but images as late as ever; call under `no_grad`.

    consistency: mean squared error of the open-loop latents; reward_error: mean absolute error of the predicted reward;
    value_error: mean absolute TD error; probe_error: rms of the normalised features read from the open-loop latents.
    """
    loss = replace(config.loss, drop=0.0, cold=0.0, shift=0.0, hidden=0.0, consistency=1.0)
    device = model.initial_latent.device
    sequence = to_device(draw_sequence(dataset, rng, config), device)
    noise = to_device(draw_noise(model, loss, config.batch, generator), device)
    latents, posteriors, sequence, _ = roll_out(model, loss, sequence, noise)
    ahead = sequence.valid[1:]

    def mean(errors: Tensor) -> float:
        return float((ahead * errors).sum() / ahead.sum().clamp(min=1.0))

    figures = {"consistency": mean((model.split(latents[1:])[0] - model.split(posteriors)[0]).square().mean(-1))}
    features = model.features(sequence.target[1:])
    figures["probe_error"] = mean((model.readout_features(latents[1:]) - features).square().mean(-1)) ** 0.5
    if model.anchors is not None:
        figures["anchor"] = float(anchor_loss(model.anchors, loss, model.split(latents)[1], sequence))
    if loss.with_reward:
        action = sequence.action[:-1]
        predicted = expectation(model.reward(latents[:-1], action))
        figures["reward_error"] = mean((predicted - sequence.reward[:-1]).abs())
        target = td_target(model, loss, sequence, noise, posteriors)
        figures["value_error"] = mean((model.value(latents[:-1], action) - target).abs())
    return figures


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file written by torch. Raises RunError where it is missing or damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"{path}: there is no such checkpoint") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise RunError(f"{path}: is not a readable checkpoint ({type(error).__name__})") from error
    return state


def load_bundle_weights(model: WorldModel, bundle: Path, contract: Contract) -> None:
    """Start from the weights of a bundle made for the same contract, family and size.

    Raises:
        BundleError: the bundle is damaged, has no weights, or another family or size.
        ContractError: it was made for another contract.
    """
    found = load_bundle(bundle, contract)
    if found.manifest.family != model.family:
        raise BundleError(
            f"{bundle}: its family is {found.manifest.family}, not {model.family}: choose it with --family"
        )
    if found.manifest.size != model.sizes.name:
        raise BundleError(f"{bundle}: its size is {found.manifest.size}, not {model.sizes.name}")
    weights = bundle / "weights.pt"
    if not weights.is_file():
        raise BundleError(f"{bundle}: has no weights.pt, so training cannot start from it")
    _load_weights(model, read_checkpoint(weights), weights)


def _load_weights(model: WorldModel, state: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise RunError(f"{path}: does not fit a model of size {model.sizes.name} for this contract") from error


def _facts(config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint says of the configuration: nothing about what this model does not have."""
    facts = asdict(config)
    if config.loss.elbo is None:
        del facts["loss"]["elbo"]
    if not config.loss.late:
        for name in ("late", "shift", "outage", "hidden", "early", "trace"):
            del facts["loss"][name]
    return facts


def _changed(old: dict[str, Any], config: TrainConfig) -> str:
    new = _facts(config)
    flat = [
        (f"{part}.{key}", old[part].get(key), new[part][key]) for part in ("loss", "optimiser") for key in new[part]
    ]
    flat += [(key, old.get(key), new[key]) for key in ("seed", "batch")]
    return "; ".join(f"{name}: {a} != {b}" for name, a, b in flat if a != b)
