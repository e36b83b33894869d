"""The RSSM families: a deterministic recurrent state and a stochastic latent (PlaNet, arXiv 1811.04551; DreamerV2, 2010.02193).

A latent is [h (D), z (S)]. h carries everything forward; z is what the instant adds to it, the mean of the posterior once there was
an observation and of the prior before. So prior and posterior are deterministic functions, as the filter, the planner and
exported graphs need them; only training samples z (models/elbo.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.decoder import Decoder
from models.networks import Mlp, NormedLinear, chain, linear
from models.stochastic import Categorical, Distribution, Gaussian
from models.world_model import WorldModel
from robot_wm.contract import Contract

UPDATE_BIAS = -1.0  # an untrained state changes slowly (DreamerV2)


class NormedGru(nn.Module):
    """A gated recurrent unit with one layer norm over all gates, after a normed layer on its inputs (DreamerV2)."""

    def __init__(self, inputs: int, hidden: int, size: int) -> None:
        super().__init__()
        self.inputs = NormedLinear(inputs, hidden)
        self.gates = linear(hidden + size, 3 * size)
        self.norm = nn.LayerNorm(3 * size)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """State (..., D) after inputs (..., I)."""
        gates: Tensor = self.norm(self.gates(torch.cat([chain(x, self.inputs), h], dim=-1)))
        reset, candidate, update = gates.chunk(3, dim=-1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        return h + torch.sigmoid(update + UPDATE_BIAS) * (candidate - h)


class Rssm(WorldModel):
    """A world model with these dynamics; of `anchored` observations nothing is kept apart. R raw outputs of a distribution."""

    plain_prior = False
    distribution: Distribution

    def _make_dynamics(self, contract: Contract) -> Tensor:
        sizes = self.sizes
        self.anchors = None
        self.deterministic_size = sizes.latent
        self.distribution = self._make_distribution(sizes.latent)
        self.latent_size = sizes.latent + self.distribution.size
        self.state_embedding_size = sizes.encoder
        corrected = sizes.latent + self.merged_size + self.modalities
        self.posterior_hidden = NormedLinear(corrected, sizes.encoder)
        self.posterior_head = linear(sizes.encoder, self.distribution.raw_size)
        self.recurrence = NormedGru(self.distribution.size + self.action_size, sizes.mlp, sizes.latent)
        self.prior_hidden = Mlp(NormedLinear(sizes.latent, sizes.mlp))
        self.prior_head = linear(sizes.mlp, self.distribution.raw_size)
        self.decoder = Decoder(contract, self.latent_size, sizes.mlp, self.features.size)  # of training alone
        return torch.cat([torch.zeros(sizes.latent), self.distribution.initial()])

    def _make_distribution(self, deterministic: int) -> Distribution:
        raise NotImplementedError

    def prior(self, latent: Tensor, action: Tensor) -> Tensor:
        h = self.advance(latent, action)
        return torch.cat([h, self.distribution.mean(self.prior_raw(h))], dim=-1)

    def posterior(self, prior_latent: Tensor, embedding: Tensor, mask: Tensor) -> Tensor:
        h = self.state(prior_latent)
        latent = torch.cat([h, self.distribution.mean(self.posterior_raw(h, embedding, mask))], dim=-1)
        return torch.where(mask.amax(-1, keepdim=True) > 0, latent, prior_latent)

    def state(self, latent: Tensor) -> Tensor:
        """The deterministic state h (..., D) of a latent (..., L)."""
        return latent[..., : self.deterministic_size]

    def advance(self, latent: Tensor, action: Tensor) -> Tensor:
        """The state h (..., D) one model step after a latent (..., L) under the step's mean action (..., A)."""
        following: Tensor = self.recurrence(
            self.state(latent), torch.cat([latent[..., self.deterministic_size :], action], dim=-1)
        )
        return following

    def prior_raw(self, h: Tensor) -> Tensor:
        """What is expected of z before the observation: raw (..., R) of h (..., D)."""
        return chain(h, *self.prior_hidden, self.prior_head)

    def posterior_raw(self, h: Tensor, embedding: Tensor, mask: Tensor) -> Tensor:
        """What is known of z after it: raw (..., R) of h (..., D), embedding (..., E) and mask (..., M)."""
        inputs = torch.cat([h, self.merge(embedding, mask), mask], dim=-1)
        return chain(inputs, self.posterior_hidden, self.posterior_head)


class GaussianRssm(Rssm):
    """z: half as many normal coordinates as h has."""

    family = "rssm-gaussian"

    def _make_distribution(self, deterministic: int) -> Distribution:
        return Gaussian(deterministic // 2)


class CategoricalRssm(Rssm):
    """z: as many coordinates as h has, one-hot within groups."""

    family = "rssm-categorical"

    def _make_distribution(self, deterministic: int) -> Distribution:
        return Categorical(deterministic)
