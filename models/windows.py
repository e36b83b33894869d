"""What one update is made from: windows of the data, and everything random in it.

Both are drawn on the CPU, so that an update is a pure function of tensors: it can be compiled, captured, resumed exactly, and
compared with the plain reference in tests/models/eager_reference.py.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from models.elbo import LatentNoise, draw_latent_noise
from models.late_images import draw_outage, draw_quantile, draw_shift
from models.networks import DROPOUT
from models.rssm import Rssm
from models.train_config import LossConfig, TrainConfig
from models.world_model import WorldModel


class Windows(Protocol):
    """What the trainer needs of a dataset: windows of consecutive instants of one episode, as float32 arrays (B, T, ...), a tuple
    of uint8 `images` (B, T, H, W, C), and int64 `rows` (B, T) that tell every instant of the data apart. They may begin up to
    `lead` instants before their episode."""

    def sample(self, rng: np.random.Generator, batch: int, length: int, lead: int = 0) -> Any: ...


class Sequence(NamedTuple):
    """A batch of windows, time first."""

    observation: Tensor  # (T, B, O) raw SI
    mask: Tensor  # (T, B, M)
    age: Tensor  # (T, B, M) signed [model steps]
    action: Tensor  # (T, B, A) normalised mean over the step
    reward: Tensor  # (T, B) of the step that starts at the instant
    target: Tensor  # (T, B, O) observation interpolated at the instant
    terminal: Tensor  # (T, B) 1 where the instant is a terminal state
    valid: Tensor  # (T, B) 0 before the start and after the end of the episode
    begins: Tensor  # (T, B) 1 at the first instant of an episode
    rows: Tensor  # (T, B) int64, which row of the data
    images: tuple[Tensor, ...] = ()  # each (T, B, H, W, C) uint8; behind the rest, for only the filter sees them
    taught: tuple[Tensor, ...] = ()  # of a teacher: its latents (T, B, L)

    @property
    def recorded(self) -> tuple[Tensor, ...]:
        """What there is once an instant, in the order of the fields."""
        return tuple(part for part in self if isinstance(part, Tensor))


class Noise(NamedTuple):
    """Everything random in one update."""

    keep: Tensor  # (burn_in + starts, B, M) 0 drops an observation
    cold: Tensor  # (B, 1) True starts the filter anew at the first start of a rollout
    target: Tensor  # (H, B, A) standard normal, policy actions of the TD target
    policy: Tensor  # (H + 1, B, A) standard normal
    target_heads: Tensor | None  # (2,) value heads whose minimum is the TD target; None: all (two) of them
    policy_heads: Tensor | None  # (2,) value heads whose mean the policy follows; None: all (two) of them
    mirror: Tensor  # (B, 1) -1 negates a window, 1 leaves it
    dropout: Tensor  # (Q, H * starts * B, mlp) factor on the value ensemble's first layer
    late: Tensor | None = None  # (B, I) how late each image comes [model steps]; None: a robot without images
    shown: Tensor | None = None  # (burn_in + starts, B, I) 0 while a camera is hidden
    shifts: tuple[Tensor, ...] = ()  # of each image (B, 2), as `random_shift` takes them
    latent: LatentNoise | None = None  # of the RSSM families


def draw_sequence(dataset: Windows, rng: np.random.Generator, config: TrainConfig) -> Sequence:
    """One batch of windows as tensors, time first."""
    batch = dataset.sample(rng, config.batch, config.loss.length, config.loss.lead)

    def time_first(array: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)))

    parts = (time_first(getattr(batch, name)) for name in Sequence._fields if name not in ("images", "taught"))
    return Sequence(*parts, images=tuple(time_first(pixels) for pixels in batch.images))


def draw_noise(model: WorldModel, config: LossConfig, batch: int, generator: torch.Generator) -> Noise:
    """Draw the randomness of one update from `generator`."""

    def chance(p: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) < p

    heads, modalities, horizon = model.sizes.value_heads, model.modalities, config.horizon
    cold = chance(config.cold, batch, 1)
    instants, rows = config.burn_in + config.starts, config.starts * batch
    dropped = chance(config.drop, instants, batch, 1)
    if modalities > 1:
        dropped = dropped | chance(config.drop, instants, batch, modalities)
    dropped = dropped.expand(-1, -1, modalities).clone()
    dropped[0] = False
    dropped[config.burn_in] &= ~cold
    mirror = 1.0 - 2.0 * chance(0.5, batch, 1).float() if config.mirrored else torch.ones(batch, 1)
    policies = rows if config.with_reward else 0  # of which nothing is needed without a reward
    usual = Noise(
        keep=(~dropped).float(),
        cold=cold,
        target=torch.randn(horizon, policies, model.action_size, generator=generator),
        policy=torch.randn(horizon + 1, policies, model.action_size, generator=generator),
        target_heads=torch.randperm(heads, generator=generator)[:2] if heads > 2 else None,
        policy_heads=torch.randperm(heads, generator=generator)[:2] if heads > 2 else None,
        mirror=mirror,
        dropout=sparse_dropout((heads, horizon * rows, model.sizes.mlp), generator),
    )
    if config.elbo is not None:
        assert isinstance(model, Rssm)
        usual = usual._replace(latent=draw_latent_noise(model, config.elbo, config.length, batch, generator))
    if not model.images:
        return usual
    return usual._replace(
        late=torch.stack([draw_quantile(table, batch, generator) for table in config.late], dim=-1),
        shown=torch.stack(
            [draw_outage(longest, config.hidden, instants, batch, generator) for longest in config.outage], dim=-1
        ),
        shifts=tuple(draw_shift(image.shape, config.shift, batch, generator) for image in model.images),
    )


def sparse_dropout(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Dropout factors, drawn in a time proportional to the few zeros: hits as a Poisson process leave exactly independent ones."""
    factors = torch.full((math.prod(shape),), 1.0 / (1.0 - DROPOUT))
    hits = torch.poisson(torch.tensor(-len(factors) * math.log1p(-DROPOUT)), generator=generator)
    factors[torch.randint(len(factors), (int(hits),), generator=generator)] = 0.0
    return factors.reshape(shape)
