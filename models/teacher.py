"""A teacher: a bundle that has every state measured shows a model with cameras what to know at each instant.

A robot whose world is seen only by a camera needs many images to find out what there is to know. Where the same episodes were
also recorded with every state measured (in simulation, or by motion capture), a bundle that was trained on these has an answer
for every instant: its latent. The camera's model takes over the teacher's dynamics, reward, values and policy as they are, and
learns one thing: to know from images, late and with gaps, what the teacher knows. Learning from one who sees more is the idea
of "Learning by Cheating" (arXiv 1912.12294), where it is a policy that is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.dataset import Dataset
from models.export import load_world_model
from models.families import DEFAULT
from models.world_model import WorldModel
from robot_wm.bags.storage import FULL
from robot_wm.bundle import load_bundle
from robot_wm.contract import Contract
from robot_wm.errors import BagError, ContractError

TAKEN_OVER = (
    "prior_hidden", "prior_head", "reward_head", "policy_head", "terminated_head", "value_heads", "target_heads",
)  # fmt: skip
SAME = 1e-6  # largest difference of the actions of what is the same episode


class Teacher:
    """A bundle's latents along bags.

    Args:
        bundle: made for a robot with the same action and model rate that measures more.
        contract: the camera robot's.

    Raises:
        BundleError: the bundle is damaged or has no weights.
        ContractError: it acts otherwise, or its family of models has nothing to take over.
    """

    def __init__(self, bundle: Path, contract: Contract) -> None:
        found = load_bundle(bundle)
        own, other = contract, found.contract
        acts = [(c.model_hz, c.action.names, c.action.mode, c.action.low, c.action.high) for c in (own, other)]
        if acts[0] != acts[1]:
            raise ContractError(
                f"teacher {bundle}: acts as {other.name} (model_hz, names, mode, low, high: {acts[1]}), {own.name} as {acts[0]}"
            )
        self.bundle_id = found.bundle_id
        self.size = found.manifest.size
        self.contract = other
        self.hashes: dict[str, str] = {}  # content hash of each bag that it was shown
        self._model = load_world_model(found).requires_grad_(False).eval()
        if self._model.family != DEFAULT or not self._model.plain_prior:
            raise ContractError(
                f"teacher {bundle}: only a model of family {DEFAULT} without anchored observations teaches"
            )
        self._latents: NDArray[np.float32] = np.zeros((0, self._model.latent_size), np.float32)

    def hand_over(self, model: WorldModel) -> None:
        """Give `model`, which must be of the same size, all but what perceives; it stays as it is in training."""
        state = self._model.state_dict()
        taken = {name: value for name, value in state.items() if name.split(".")[0] in TAKEN_OVER}
        model.load_state_dict(taken, strict=False)
        for name in TAKEN_OVER:
            getattr(model, name).requires_grad_(False)

    def watch(self, dataset: Dataset, bags: Sequence[Path]) -> None:
        """Follow the episodes of `bags`, which `dataset` was made of, where every state is measured: in `full` beside them.

        Raises BagError where one is missing, or is another episode.
        """
        twins = [bag.parent / FULL / bag.name for bag in bags]
        for bag, twin in zip(bags, twins, strict=True):
            if not twin.exists():
                raise BagError(
                    f"{twin}: is missing: a teacher needs {bag.name} with every state measured, as `robot-wm collect` writes it"
                )
        full = Dataset(twins, self.contract, cache_dir=dataset.cache_dir)
        self.hashes |= full.hashes
        if len(dataset.episodes) != len(full.episodes):
            raise BagError(f"{twins[0].parent}: has other episodes than the bags beside it; collect both in one run")
        for own, other in zip(dataset.episodes, full.episodes, strict=True):
            same = own.length == other.length
            if same:
                actions = [
                    data.window(np.array([e.start]), own.length).action for data, e in ((dataset, own), (full, other))
                ]
                same = bool(np.abs(actions[0] - actions[1]).max() <= SAME)
            if not same:
                raise BagError(f"{other.source}: is not the same episode as {own.source}; collect both in one run")
        ends = max(e.start + e.length for e in dataset.episodes)
        latents = np.zeros((ends, self._model.latent_size), np.float32)
        filtered = self._follow(full)
        for i, episode in enumerate(dataset.episodes):
            latents[episode.start : episode.start + episode.length] = filtered[: episode.length, i]
        self._latents = latents

    def latents(self, rows: Tensor) -> Tensor:
        """What it knows at the `rows` (...) of the dataset that it watched: (..., L)."""
        return torch.from_numpy(self._latents[rows.numpy()])

    @torch.no_grad()
    def _follow(self, data: Dataset) -> NDArray[np.float32]:
        """The filter's posteriors (T, N, L) along all N episodes, T instants of the longest."""
        model, longest = self._model, max(e.length for e in data.episodes)
        first = np.array([e.start for e in data.episodes])
        batch = data.window(first, longest)
        parts = (batch.observation, batch.mask, batch.age, batch.action)
        observation, mask, age, action = (torch.from_numpy(x.swapaxes(0, 1).copy()) for x in parts)
        latent, latents = model.initial_latent.expand(len(first), -1), []
        for t in range(longest):
            latent = model.posterior(latent, model.encode(observation[t], mask[t], age[t]), mask[t])
            latents.append(latent)
            latent = model.prior(latent, action[t])
        return torch.stack(latents).numpy()
