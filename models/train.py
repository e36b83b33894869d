"""The trainer: draws windows from bags, updates the world model, and stops and resumes at the exact step."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.captured import Captured, pinned, to_device
from models.families import DEFAULT
from models.feed import ahead
from models.fused import kernels
from models.losses import anchor_loss, compute_losses, td_target
from models.memory import PriorMemory
from models.networks import expectation
from models.optimiser import CLIPPED, Optimiser
from models.rollout import roll_out
from models.rssm import Rssm
from models.teacher import Teacher
from models.train_config import TrainConfig, changed, facts
from models.windows import Noise, Sequence, Windows, draw_noise, draw_sequence
from models.world_model import WorldModel
from robot_wm.bundle import load_bundle
from robot_wm.contract import Contract
from robot_wm.errors import BundleError, RunError

STANDARDISED = 4096  # instants from which the normalisation of the inputs is taken


class Trainer:
    """Updates `model` in place, on the device it is on, from windows of `dataset`.

    The state is: model, optimiser, value scale, remembered priors, two random generators and the step; `save` and `load` carry
    all of it. On a CPU the same state gives the same update, bit for bit; on a GPU nearly so.
    """

    def __init__(
        self, model: WorldModel, dataset: Windows, config: TrainConfig, teacher: Teacher | None = None
    ) -> None:
        if isinstance(model, Rssm) != (config.loss.elbo is not None):
            raise AssertionError(f"a model of family {model.family} needs the configuration of `config_for(family=)`")
        self.model = model
        self.dataset = dataset
        self.config = config
        self.teacher = teacher
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
        if self.teacher is not None:
            sequence = sequence._replace(taught=(self.teacher.latents(sequence.rows),))
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
            instants = slice(1, 1 + len(priors))
            self._memory.keep(sequence.rows[instants], priors, sequence.valid[instants])
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
            "config": facts(self.config),
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
        if state["config"] != facts(self.config):
            raise RunError(f"{path}: was made with another configuration: {changed(state['config'], self.config)}")
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
