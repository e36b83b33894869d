"""The filter and the prior over a batch of windows, as the robot will run them: images come late or not at all."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from models.late_images import arrived, hide, paired, see
from models.train_config import LossConfig
from models.windows import Noise, Sequence
from models.world_model import WorldModel


class Rollout(NamedTuple):
    """Latents of the rollouts of a batch of windows; with several starts per window, N = starts * B rows, start by start."""

    latents: Tensor  # (H + 1, N, L) the posterior at the start, then open loop
    posteriors: Tensor  # (H, N, L) the filter's, at the open-loop instants; no gradient. Empty if unasked
    sequence: Sequence  # (H + 1, N, ...) what was recorded from each start on
    priors: Tensor  # (T - 1, B, L) what the filter predicted for the windows' instants 1, 2, ...; no gradient


def roll_out(
    model: WorldModel, config: LossConfig, sequence: Sequence, noise: Noise, start: Tensor | None = None
) -> Rollout:
    """Filter as the runtime does from the prior `start` (B, L) on (default: the initial latent), predict `horizon` steps open loop
    from every start, and filter on without gradient.

    Where there are images, each rollout starts from what the filter knows at that moment, the newest images being still on their
    way and perhaps none for a while; the posteriors are those of a filter that sees all of them, in time.
    """
    first, count = config.burn_in, config.burn_in + config.starts
    kept = sequence.mask[:count] * noise.keep
    begin = model.initial_latent.expand(kept.shape[1], -1) if start is None else start
    if noise.late is not None and noise.shown is not None:
        shown = hide(kept, noise.shown)
        views = see(model, sequence.images, noise.shifts, shown)
        known, priors = late_posteriors(model, config, sequence, noise, shown, paired(model, views, shown), begin)
    else:
        views, shown = [], kept
        filtered, priors = follow(model, config, sequence, noise, kept, views, begin)
        known = torch.cat(filtered[first:])
    ahead = from_starts(config, sequence)
    latents = [known]
    for k in range(config.horizon):
        latents.append(model.prior(latents[-1], ahead.action[k]))
    if not config.with_posteriors:
        priors = [prior.detach() for prior in priors]
        return Rollout(torch.stack(latents), torch.empty(0), ahead, torch.stack(priors) if priors else torch.empty(0))
    with torch.no_grad():
        if views:
            every, extra = torch.cat([kept, sequence.mask[count:]]), sequence.mask.clone()
            extra[:count] -= shown
            later_views = see(model, sequence.images, noise.shifts, extra)
            for earlier, view in zip(views, later_views, strict=True):
                view[:count] += earlier
            filtered, priors = follow(model, config, sequence, noise, every, paired(model, later_views, every), begin)
        else:
            mask, prior = sequence.mask[count:], latents[1][-kept.shape[1] :]
            embedding = model.encode(sequence.observation[count:], mask, sequence.age[count:])
            for k in range(config.horizon):
                priors.append(prior)
                filtered.append(model.posterior(prior, embedding[k], mask[k]))
                if k + 1 < config.horizon:
                    prior = model.prior(filtered[-1], sequence.action[count + k])
        later = [torch.cat(filtered[first + k : first + k + config.starts]) for k in range(1, config.horizon + 1)]
    return Rollout(torch.stack(latents), torch.stack(later), ahead, torch.stack(priors).detach())


def follow(
    model: WorldModel,
    config: LossConfig,
    sequence: Sequence,
    noise: Noise,
    mask: Tensor,
    views: list[Tensor],
    begin: Tensor,
) -> tuple[list[Tensor], list[Tensor]]:
    """Posteriors, each (B, L), of the first T instants from the prior `begin` on, and the priors of all of them but the first,
    given all that the mask (T, B, M) says; `views` (at least T, B, E_i) as `see` gives them."""
    count = len(mask)
    state = model.encode(sequence.observation[:count], mask, sequence.age[:count])
    embedding = model.join(state, [view[:count] for view in views], mask)
    filtered, priors = [model.posterior(begin, embedding[0], mask[0])], []
    for t in range(1, count):
        prior = model.prior(filtered[-1], sequence.action[t - 1])
        if config.early:
            prior = restart(model, sequence.begins[t], prior)
        priors.append(prior)
        if t == config.burn_in:
            prior = torch.where(noise.cold, model.initial_latent, prior)
        filtered.append(model.posterior(prior, embedding[t], mask[t]))
    return filtered, priors


def as_known(
    model: WorldModel, config: LossConfig, sequence: Sequence, noise: Noise, start: Tensor | None = None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """What the filter knows at each start while images are late, (starts * B, L), start by start; and as they are all there in
    time, the posteriors and priors of `follow` up to the last start. All with gradients; arguments as of `roll_out`."""
    shown = sequence.mask[: config.burn_in + config.starts] * noise.keep
    begin = model.initial_latent.expand(shown.shape[1], -1) if start is None else start
    if noise.late is None or noise.shown is None:
        filtered, priors = follow(model, config, sequence, noise, shown, [], begin)
        return torch.cat(filtered[config.burn_in :]), filtered, priors
    shown = hide(shown, noise.shown)
    views = paired(model, see(model, sequence.images, noise.shifts, shown), shown)
    filtered, priors = follow(model, config, sequence, noise, shown, views, begin)
    known, _ = late_posteriors(model, config, sequence, noise, shown, views, begin)
    return known, filtered, priors


def late_posteriors(
    model: WorldModel,
    config: LossConfig,
    sequence: Sequence,
    noise: Noise,
    mask: Tensor,
    views: list[Tensor],
    begin: Tensor,
) -> tuple[Tensor, list[Tensor]]:
    """What the filter knows at each start, (starts * B, L), start by start, and the priors on the way; arguments as of `follow`.

    Up to `latest` instants before a start every image has arrived by then. From there each start has a mask of its own.
    """
    assert noise.late is not None
    back, starts = config.latest, config.starts
    filtered, priors = follow(model, config, sequence, noise, mask[: len(mask) - back], views, begin)
    first = config.burn_in - back
    latent = torch.cat(filtered[first:])
    late, cold = noise.late.repeat(starts, 1), noise.cold.repeat(starts, 1)

    def of_starts(rows: Tensor, t: int) -> Tensor:
        """Rows (starts * B, ...) of the instant that is `t` for the first start, one later for the next, and so on."""
        return rows[t : t + starts].flatten(0, 1)

    for t in range(first + 1, config.burn_in + 1):
        age = of_starts(sequence.age, t)
        seen = of_starts(mask, t) * arrived(age, config.burn_in - t, late)
        state = model.encode(of_starts(sequence.observation, t), seen, age)
        embedding = model.join(state, [of_starts(view, t) for view in views], seen)
        prior = model.prior(latent, of_starts(sequence.action, t - 1))
        if config.early:
            prior = restart(model, of_starts(sequence.begins, t), prior)
        if t == config.burn_in:
            prior = torch.where(cold, model.initial_latent, prior)
        latent = model.posterior(prior, embedding, seen)
    return latent, priors


def restart(model: WorldModel, begins: Tensor, prior: Tensor) -> Tensor:
    """The prior (N, L), or the initial latent where an episode `begins` (N,): nothing was known before."""
    return torch.where(begins.unsqueeze(-1) > 0, model.initial_latent, prior)


def from_starts(config: LossConfig, sequence: Sequence) -> Sequence:
    """The recorded `horizon + 1` instants from every start on, without images: (H + 1, starts * B, ...)."""
    first, instants = config.burn_in, config.horizon + 1
    if config.starts == 1:
        return Sequence(*(part[first:] for part in sequence.recorded))
    starts = range(first, first + config.starts)
    return Sequence(*(torch.cat([part[s : s + instants] for s in starts], dim=1) for part in sequence.recorded))


def mirror(sequence: Sequence, sign: Tensor) -> Sequence:
    """Negate observations and actions of the windows whose `sign` (B, 1) is -1."""
    return sequence._replace(
        observation=sequence.observation * sign, target=sequence.target * sign, action=sequence.action * sign
    )
