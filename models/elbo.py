"""The evidence lower bound that trains the RSSM families: divergence of posterior from prior, reconstruction, latent overshooting.

Windows are filtered once more than for the other losses, with z sampled. KL balancing and free bits are those of DreamerV3
(arXiv 2301.04104v1, section "World model learning"), latent overshooting is that of PlaNet (arXiv 1811.04551, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from models.decoder import ImageDecoder
from models.late_images import paired, see
from models.rssm import Rssm
from models.stochastic import Distribution

if TYPE_CHECKING:
    from models.train_config import LossConfig
    from models.windows import Noise, Sequence

# A decoder of images costs many times what all the rest of an update does. Odd, for a camera has every second or fourth instant.
DECODED = 7


@dataclass(frozen=True)
class ElboConfig:
    """Coefficients; defaults are DreamerV3's unless said otherwise."""

    dynamics: float = 0.5  # of KL(stopped posterior ‖ prior): the prior learns to predict
    representation: float = 0.1  # of KL(posterior ‖ stopped prior): the posterior stays predictable
    free: float = 1.0  # divergence of an instant that costs nothing [nats]
    overshooting: float = 0.0  # of KL(stopped posterior ‖ prior from several steps before); off as in Dreamer
    reconstruction: float = 1.0  # squared errors / 2, summed over standardised features and over pixels
    sampled: float = 0.5  # ours: chance that a window passes samples on, else means, as the filter on the robot does


class LatentNoise(NamedTuple):
    """What is random in one filtering of a batch of windows."""

    draws: Tensor  # (T, B, S) as the distribution draws them
    sampled: Tensor  # (B, 1) whether the window passes samples on


class Filtered(NamedTuple):
    """Windows filtered with sampled latents."""

    priors: Tensor  # (T, B, R) raw
    posteriors: Tensor  # (T, B, R) raw; the prior where nothing was observed
    latents: Tensor  # (T, B, L)


def draw_latent_noise(
    model: Rssm, config: ElboConfig, instants: int, batch: int, generator: torch.Generator
) -> LatentNoise:
    """Draw the noise of windows of so many instants from `generator`."""
    draws = model.distribution.draw((instants, batch), generator)
    return LatentNoise(draws, torch.rand(batch, 1, generator=generator) < config.sampled)


def elbo_terms(
    model: Rssm,
    config: LossConfig,
    sequence: Sequence,
    noise: Noise,
    start: Tensor | None,
    rollout: Tensor,
) -> dict[str, Tensor]:
    """Weighted terms of windows `sequence` filtered from the prior `start` (B, L) on (default: the initial latent).

    `rollout` (H + 1, N, L) are the open-loop latents of `models.rollout.Rollout`, for overshooting.
    """
    elbo = config.elbo
    assert elbo is not None
    count = config.burn_in + config.starts
    mask = torch.cat([sequence.mask[:count] * noise.keep, sequence.mask[count:]])
    initial = model.initial_latent.expand(mask.shape[1], -1)
    found = filter_sampled(model, config.burn_in, sequence, noise, mask, initial if start is None else start)
    terms = divergences(model.distribution, elbo, found.posteriors, found.priors, sequence.valid)
    terms["reconstruction"] = elbo.reconstruction * reconstruction_error(model, sequence, mask, found.latents)
    if elbo.overshooting:
        starts = range(config.burn_in, count)
        later = slice(1, config.horizon + 1)
        targets = torch.cat([found.posteriors[s:][later] for s in starts], dim=1).detach()
        valid = torch.cat([sequence.valid[s:][later] for s in starts], dim=1)
        ahead = model.prior_raw(model.state(rollout[1:]))
        excess = model.distribution.divergence(targets, ahead).clamp(min=elbo.free)
        terms["overshooting"] = elbo.overshooting * (valid * excess).mean()
    return terms


def filter_sampled(
    model: Rssm, cold_at: int, sequence: Sequence, noise: Noise, mask: Tensor, start: Tensor
) -> Filtered:
    """Filter what the mask (T, B, M) shows of the windows, from the prior `start` (B, L) on; some start anew at `cold_at`."""
    assert noise.latent is not None
    views = paired(model, see(model, sequence.images, noise.shifts, mask), mask)
    embedding = model.join(model.encode(sequence.observation, mask, sequence.age), views, mask)
    seen = mask.amax(-1, keepdim=True) > 0
    h, initial = model.state(start), model.state(model.initial_latent)
    priors, posteriors, latents = [], [], []
    for t in range(len(mask)):
        if t:
            h = model.advance(latents[-1], sequence.action[t - 1])
            h = torch.where(sequence.begins[t].unsqueeze(-1) > 0, initial, h)
        if t == cold_at:
            h = torch.where(noise.cold, initial, h)
        priors.append(model.prior_raw(h))
        posteriors.append(torch.where(seen[t], model.posterior_raw(h, embedding[t], mask[t]), priors[-1]))
        drawn = model.distribution.sample(posteriors[-1], noise.latent.draws[t])
        z = torch.where(noise.latent.sampled, drawn, model.distribution.mean(posteriors[-1]))
        latents.append(torch.cat([h, z], dim=-1))
    return Filtered(torch.stack(priors), torch.stack(posteriors), torch.stack(latents))


def divergences(
    distribution: Distribution, config: ElboConfig, posteriors: Tensor, priors: Tensor, valid: Tensor
) -> dict[str, Tensor]:
    """The balanced divergence of posteriors from priors, raw (T, B, R), where `valid` (T, B) is not 0."""

    def mean(raw: Tensor, other: Tensor) -> Tensor:
        return (valid * distribution.divergence(raw, other).clamp(min=config.free)).mean()

    return {
        "dynamics": config.dynamics * mean(posteriors.detach(), priors),
        "representation": config.representation * mean(posteriors, priors.detach()),
    }


def reconstruction_error(model: Rssm, sequence: Sequence, mask: Tensor, latents: Tensor) -> Tensor:
    """Minus the log likelihood () per instant of the targets and of the images seen, given latents (T, B, L), for deviations of 1.

    Of the images, those of one instant in `DECODED` stand for all: windows begin anywhere.
    Images are to be found where they are, not where the random shift moved them: so the latent need not know of it.
    """
    features = (model.features(sequence.target) - model.input_mean) / model.input_scale
    errors = (model.decoder.features(latents) - features).square().sum(-1)
    total = (sequence.valid * errors).sum()
    some = slice(None, None, DECODED)
    for i, decoder in enumerate(model.decoder.images):
        shown = (mask[..., i - len(model.images)] * sequence.valid > 0)[some]
        measure = pixel_errors if shown.is_cuda else few_pixel_errors
        total = total + DECODED * measure(decoder, latents[some], sequence.images[i][some], shown)
    return 0.5 * total / sequence.valid.numel()


def few_pixel_errors(decoder: ImageDecoder, latents: Tensor, images: Tensor, shown: Tensor) -> Tensor:
    """Sum () of the squared errors of the images (T, B, H, W, C) that were `shown` (T, B), as decoded from latents (T, B, L)."""
    instant, window = shown.nonzero(as_tuple=True)
    return (decoder(latents[instant, window]) - centred(images[instant, window])).square().sum()


def pixel_errors(decoder: ImageDecoder, latents: Tensor, images: Tensor, shown: Tensor) -> Tensor:
    """The same by way of every image, as `models.late_images.encode_all`."""
    errors = (decoder(latents) - centred(images)).square().sum((-3, -2, -1))
    return (errors * shown).sum()


def centred(images: Tensor) -> Tensor:
    """Bytes scaled to [-0.5, 0.5]."""
    return images.float() / 255.0 - 0.5
