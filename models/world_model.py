"""The default world model: TD-MPC2-style latent dynamics without a decoder, with a recurrent posterior.

Other families (models/families.py) share everything but the dynamics: what a latent is, its prior and its posterior.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.anchors import Anchors
from models.images import ImageEncoder
from models.networks import (
    BINS,
    SIMPLEX,
    Ensemble,
    Mlp,
    NormedLinear,
    ObservationFeatures,
    Sizes,
    chain,
    expectation,
    linear,
    mlp,
    sizes_named,
)
from robot_wm.contract import Contract

LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0
CONSTANT = 1e-6  # deviation of a feature below which it is taken to be constant
HALF_LOG_TWO_PI = 0.9189385332046727


class PolicySample(NamedTuple):
    """What the policy prior says of each latent; actions are normalised."""

    action: Tensor  # (..., A) tanh(mean + std * noise)
    mean: Tensor  # (..., A) tanh(mean)
    log_std: Tensor  # (..., A) before the squashing
    entropy: Tensor  # (...) minus the sample's log density before the squashing, times A (as in TD-MPC2)


class WorldModel(nn.Module):
    """The model's verbs on tensors with any leading dimensions; shapes as in docs/architecture.md.

    O raw observation components, M modalities (observations, then images), L latent (SimNorm coordinates; where the contract has
    anchored observations, free coordinates and the anchors' part: models/anchors.py), E embedding (of the E_s of the observations
    and the E_i of each image), A action, Q value heads.
    """

    family = "tdmpc2"
    plain_prior = True  # without anchors the prior is one MLP: planning rearranges it (models/planner_graph.py)
    anchors: Anchors | None
    initial_latent: Tensor
    latent_size: int
    state_embedding_size: int

    def __init__(self, contract: Contract, size: str | Sizes = "nano") -> None:
        super().__init__()
        self.sizes = sizes = sizes_named(size)
        self.features = ObservationFeatures(contract)
        self.reaches = tuple(
            image.reach(contract.model_hz) for image in contract.images
        )  # [model steps]; 0: no history
        # Of the data, set once by `standardise`: the contract's own normalisation may be a guess, or none at all.
        self.input_mean = nn.Parameter(torch.zeros(self.features.size), requires_grad=False)
        self.input_scale = nn.Parameter(torch.ones(self.features.size), requires_grad=False)
        self.images = contract.images
        self.modalities = modalities = len(contract.modalities)
        self.action_size = actions = contract.action.size
        inputs = [self.features.size + 2 * modalities] + [sizes.encoder] * (sizes.encoder_layers - 1)
        self.encoder = Mlp(*(NormedLinear(width, sizes.encoder) for width in inputs))
        self.register_buffer("initial_latent", self._make_dynamics(contract))
        joint = self.latent_size + actions
        self.reward_head = mlp(joint, sizes.mlp, 2, BINS, zero=True)
        self.policy_head = mlp(self.latent_size, sizes.mlp, 2, 2 * actions)
        self.terminated_head = mlp(self.latent_size, sizes.mlp, 2, 1)
        self.probe = mlp(self.latent_size, sizes.mlp, 1, self.features.size)
        self.value_heads = Ensemble(sizes.value_heads, joint, sizes.mlp, BINS)
        self.target_heads = copy.deepcopy(self.value_heads).requires_grad_(False)
        encoders = (ImageEncoder(image.shape, sizes.encoder) for image in contract.images)
        self.image_encoders = (
            nn.ModuleList(encoders) if contract.images else None
        )  # an empty one would be in checkpoints
        pairs = (
            Mlp(NormedLinear(2 * sizes.encoder + 1, sizes.encoder), NormedLinear(sizes.encoder, sizes.encoder))
            if reach
            else Mlp()
            for reach in self.reaches
        )
        self.frame_pairs = nn.ModuleList(pairs) if any(self.reaches) else None

    def _make_dynamics(self, contract: Contract) -> Tensor:
        """Make the networks of prior and posterior, and set `anchors` and the sizes; returns the initial latent (L,)."""
        sizes, actions = self.sizes, self.action_size
        self.anchors = anchors = Anchors(contract) if any(o.anchored for o in contract.observations) else None
        count = anchors.size if anchors else 0
        self.plain_prior = anchors is None
        self.latent_size = sizes.latent + 3 * count
        self.state_embedding_size = sizes.encoder + (self.features.size + 2 * count if anchors else 0)
        prior_inputs, corrected = self.latent_size + actions, self.latent_size + self.merged_size + self.modalities
        if anchors:
            prior_inputs = sizes.latent + anchors.context_size + 2 * actions
            corrected += anchors.context_size - count
        self.posterior_hidden = NormedLinear(corrected, sizes.encoder)
        self.posterior_head = self._latent_head(sizes.encoder, 3 * count)
        self.prior_hidden = Mlp(NormedLinear(prior_inputs, sizes.mlp), NormedLinear(sizes.mlp, sizes.mlp))
        self.prior_head = self._latent_head(sizes.mlp, 2 * count)
        return torch.zeros(self.latent_size) if anchors else torch.full((sizes.latent,), 1.0 / SIMPLEX)

    @property
    def embedding_size(self) -> int:
        """Numbers that `join` makes."""
        return self.state_embedding_size + sum(self._view_sizes)

    @property
    def merged_size(self) -> int:
        """Numbers that `merge` leaves of them."""
        return self.state_embedding_size + len(self.images) * self.sizes.encoder

    @property
    def _view_sizes(self) -> list[int]:
        return [2 * self.sizes.encoder + 1 if reach else self.sizes.encoder for reach in self.reaches]

    def _latent_head(self, inputs: int, moves: int) -> nn.Module:
        """Last layer of prior and posterior: SimNorm coordinates, or moves of the free and of the anchored ones."""
        if self.anchors is None:
            return NormedLinear(inputs, self.sizes.latent, simplex=True)
        return linear(inputs, self.sizes.latent + moves, zero=True)

    def encode(self, observation: Tensor, mask: Tensor, age: Tensor) -> Tensor:
        """Embedding (..., E_s) of raw observations (..., O) with mask (..., M) and signed age (..., M) [model steps]."""
        features, seen = self.features(observation), self.features.spread(mask)
        inputs = (features - self.input_mean) / self.input_scale * seen
        embedding: Tensor = self.encoder(torch.cat([inputs, mask, age * mask], dim=-1))
        if self.anchors is None:
            return embedding
        return torch.cat([embedding, features * seen, self.anchors.measured(observation, age)], dim=-1)

    def encode_image(self, name: str, image: Tensor) -> Tensor:
        """Embedding (..., E_i) of the contract's image `name` (..., H, W, C) uint8."""
        names = [item.name for item in self.images]
        assert self.image_encoders is not None
        embedding: Tensor = self.image_encoders[names.index(name)](image)
        return embedding

    def join(self, state: Tensor, images: Sequence[Tensor], mask: Tensor) -> Tensor:
        """Embedding (..., E) of everything: that of the observations (..., E_s), then those of the contract's images in its order,
        (..., E_i) or with a history (..., 2 E_i + 1) as models/late_images.py pairs them, zero where the mask (..., M) is."""
        if not images:
            return state
        seen = mask[..., -len(images) :].unbind(-1)
        return torch.cat([state, *(one * there.unsqueeze(-1) for one, there in zip(images, seen, strict=True))], dim=-1)

    @torch.no_grad()
    def standardise(self, observation: Tensor, mask: Tensor) -> None:
        """Let the encoder see features of mean 0 and deviation 1 over these observations (N, O) with mask (N, M)."""
        features, seen = self.features(observation), self.features.spread(mask)
        count = seen.sum(0).clamp(min=1.0)
        mean = (features * seen).sum(0) / count
        deviation = ((features - mean).square() * seen).sum(0).div(count).sqrt()
        self.input_mean.copy_(mean)
        self.input_scale.copy_(torch.where(deviation > CONSTANT, deviation, 1.0))

    def posterior(self, prior_latent: Tensor, embedding: Tensor, mask: Tensor) -> Tensor:
        """Latent (..., L) corrected by an embedding; exactly `prior_latent` where the mask (..., M) is all zero."""
        embedding = self.merge(embedding, mask)
        if self.anchors is None:
            latent = chain(
                torch.cat([prior_latent, embedding, mask], dim=-1), self.posterior_hidden, self.posterior_head
            )
        else:
            free, part = self.split(prior_latent)
            if self.images:  # the anchors' part is last
                size = self.state_embedding_size
                embedding = torch.cat([embedding[..., size:], embedding[..., :size]], dim=-1)
            inputs = self.anchors.posterior_inputs(free, part, embedding, mask)
            change, moves = self.split(chain(inputs, self.posterior_hidden, self.posterior_head))
            latent = torch.cat([torch.tanh(free + change), self.anchors.correct(part, moves, embedding, mask)], dim=-1)
        return torch.where(mask.amax(-1, keepdim=True) > 0, latent, prior_latent)

    def merge(self, embedding: Tensor, mask: Tensor) -> Tensor:
        """Embedding in which each image that has a history, (..., 2 E_i + 1), became one of E_i, zero where the mask is."""
        if self.frame_pairs is None:
            return embedding
        state, *views = torch.split(embedding, [self.state_embedding_size, *self._view_sizes], dim=-1)
        seen = torch.split(mask[..., -len(self.images) :], 1, dim=-1)
        parts = zip(self.frame_pairs, views, seen, self.reaches, strict=True)
        return torch.cat(
            [state, *(pair(view) * there if reach else view for pair, view, there, reach in parts)], dim=-1
        )

    def prior(self, latent: Tensor, action: Tensor) -> Tensor:
        """Latent (..., L) one model step later under the step's mean action (..., A)."""
        if self.anchors is None:
            return chain(torch.cat([latent, action], dim=-1), *self.prior_hidden, self.prior_head)
        free, part = self.split(latent)
        change, moves = self.split(
            chain(self.anchors.prior_inputs(free, part, action), *self.prior_hidden, self.prior_head)
        )
        return torch.cat([torch.tanh(free + change), self.anchors.advance(part, moves)], dim=-1)

    def split(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Free coordinates, and the rest: the anchors' part of a latent, or what the networks do to them."""
        free = latent.shape[-1] if self.anchors is None else self.sizes.latent
        return latent[..., :free], latent[..., free:]

    def reward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Two-hot logits (..., BINS) of the reward of the step."""
        logits: Tensor = self.reward_head(torch.cat([latent, action], dim=-1))
        return logits

    def values(
        self,
        latent: Tensor,
        action: Tensor,
        dropout: Tensor | None = None,
        frozen: bool = False,
        heads: Tensor | None = None,
    ) -> Tensor:
        """Two-hot logits (Q, ..., BINS) of the discounted return; `dropout`, `frozen` and `heads` as in `Ensemble`."""
        logits: Tensor = self.value_heads(torch.cat([latent, action], dim=-1), dropout, frozen, heads)
        return logits

    def target_values(self, latent: Tensor, action: Tensor, heads: Tensor | None = None) -> Tensor:
        """As `values`, from the slowly moving target heads (no gradient reaches their weights)."""
        logits: Tensor = self.target_heads(torch.cat([latent, action], dim=-1), frozen=True, heads=heads)
        return logits

    def value(self, latent: Tensor, action: Tensor) -> Tensor:
        """Mean of the Q heads as a scalar (...)."""
        return expectation(self.values(latent, action)).mean(0)

    def policy(self, latent: Tensor, noise: Tensor | None = None) -> PolicySample:
        """Squashed Gaussian policy prior; `noise` (..., A) is standard normal, None means the mean action."""
        mean, spread = self.policy_head(latent).chunk(2, dim=-1)
        log_std = LOG_STD_MIN + 0.5 * (LOG_STD_MAX - LOG_STD_MIN) * (torch.tanh(spread) + 1.0)
        if noise is None:
            noise = torch.zeros_like(mean)
        log_density = (-0.5 * noise.square() - log_std - HALF_LOG_TWO_PI).sum(-1)
        action = torch.tanh(mean + noise * log_std.exp())
        return PolicySample(action, torch.tanh(mean), log_std, -log_density * self.action_size)

    def terminated(self, latent: Tensor) -> Tensor:
        """Logit (...) of the episode having ended in a terminal state."""
        logit: Tensor = self.terminated_head(latent).squeeze(-1)
        return logit

    def readout_features(self, latent: Tensor) -> Tensor:
        """Normalised features (..., F) probed from the latent; no gradient into the latent, anchors as they are."""
        latent = latent.detach()
        features: Tensor = self.probe(latent)
        if self.anchors is None:
            return features
        anchored = self.anchors.features(self.split(latent)[1])
        parts = list(features.unbind(-1))
        for i, index in enumerate(self.features.anchors):
            parts[index] = anchored[..., i]
        return torch.stack(parts, dim=-1)

    def readout(self, latent: Tensor) -> Tensor:
        """Raw observation (..., O) in SI units that the probe reads from the latent; angles in (-pi, pi]."""
        return self.features.inverse(self.readout_features(latent))
