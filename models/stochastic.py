"""Stochastic latents of the RSSM families: diagonal Gaussians and groups of categoricals, by their networks' raw outputs.

`raw` (..., R) is what a prior or posterior network says, z (..., S) a latent. The filter and the planner pass the mean on: it is
continuous in weights and inputs, where a mode jumps, at other places on other devices.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

LEAST_DEVIATION = 0.1  # of a Gaussian (PlaNet, DreamerV2)
UNIMIX = 0.01  # share of the uniform distribution in every categorical (DreamerV3)
CLASSES = 8


class Distribution(Protocol):
    """What the RSSM needs of its stochastic latent."""

    size: int  # S
    raw_size: int  # R

    def initial(self) -> Tensor:
        """z (S,) before anything is known."""

    def mean(self, raw: Tensor) -> Tensor: ...

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise (*shape, S) for `sample`."""

    def sample(self, raw: Tensor, noise: Tensor) -> Tensor:
        """z that depends differentiably on `raw`."""

    def divergence(self, raw: Tensor, other: Tensor) -> Tensor:
        """KL(raw ‖ other) (...) [nats]."""


class Gaussian:
    """Independent normal coordinates; `raw` is the mean, then what gives the deviation (DreamerV2's sigmoid2)."""

    def __init__(self, size: int) -> None:
        self.size, self.raw_size = size, 2 * size

    def initial(self) -> Tensor:
        return torch.zeros(self.size)

    def mean(self, raw: Tensor) -> Tensor:
        return raw[..., : self.size]

    def deviation(self, raw: Tensor) -> Tensor:
        """Standard deviation (..., S): from 0.1 to 2.1, near 1 at first."""
        return LEAST_DEVIATION + 2.0 * torch.sigmoid(0.5 * raw[..., self.size :])

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(*shape, self.size, generator=generator)

    def sample(self, raw: Tensor, noise: Tensor) -> Tensor:
        return self.mean(raw) + self.deviation(raw) * noise

    def divergence(self, raw: Tensor, other: Tensor) -> Tensor:
        ratio = self.deviation(raw) / self.deviation(other)
        apart = (self.mean(raw) - self.mean(other)) / self.deviation(other)
        return (0.5 * (ratio.square() + apart.square() - 1.0) - ratio.log()).sum(-1)


class Categorical:
    """Groups of `CLASSES` one-hot coordinates; `raw` are logits, z of a sample is one-hot with straight-through gradients.

    Sources: DreamerV2 (arXiv 2010.02193, section 2), DreamerV3 (arXiv 2301.04104) for the uniform share.
    """

    def __init__(self, size: int) -> None:
        self.size = self.raw_size = size

    def initial(self) -> Tensor:
        return torch.full((self.size,), 1.0 / CLASSES)

    def mean(self, raw: Tensor) -> Tensor:
        return self._probabilities(raw).flatten(-2)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Gumbel noise: the largest of log probabilities with it is a sample."""
        exponential = torch.empty(*shape, self.size).exponential_(generator=generator)
        return -exponential.clamp(min=torch.finfo(torch.float32).tiny).log()

    def sample(self, raw: Tensor, noise: Tensor) -> Tensor:
        probabilities = self._probabilities(raw)
        chosen = (probabilities.detach().log() + self._groups(noise)).argmax(-1)
        return (functional.one_hot(chosen, CLASSES) + (probabilities - probabilities.detach())).flatten(-2)

    def divergence(self, raw: Tensor, other: Tensor) -> Tensor:
        ours, theirs = self._probabilities(raw), self._probabilities(other)
        return (ours * (ours.log() - theirs.log())).sum((-2, -1))

    def _probabilities(self, raw: Tensor) -> Tensor:
        return (1.0 - UNIMIX) * torch.softmax(self._groups(raw), dim=-1) + UNIMIX / CLASSES

    @staticmethod
    def _groups(x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], -1, CLASSES)
