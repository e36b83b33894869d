"""Losses of one update: consistency, reward, value, policy, termination and probe (TD-MPC2, arXiv 2310.16828, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.anchors import RATE_S, Anchors
from models.elbo import elbo_terms
from models.networks import SIMPLEX, cross_entropy, expectation
from models.rollout import as_known, mirror, roll_out
from models.rssm import Rssm
from models.train_config import LossConfig
from models.windows import Noise, Sequence
from models.world_model import WorldModel

SMALLEST = 1e-6  # coordinate of a latent, in a logarithm


def compute_losses(
    model: WorldModel,
    config: LossConfig,
    sequence: Sequence,
    noise: Noise,
    scale: Tensor,
    start: Tensor | None = None,
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Every weighted term of the loss, by name (their sum is minimised), the updated value scale (), and the priors of `Rollout`;
    `start` as in `roll_out`."""
    if config.taught:
        return taught_losses(model, config, sequence, noise, scale, start)
    if config.mirrored:
        sequence = mirror(sequence, noise.mirror)
    windows = sequence
    latents, posteriors, sequence, priors = roll_out(model, config, windows, noise, start)
    here = sequence.valid * _powers(config.rho, sequence.valid)  # (H + 1, N)
    ahead = sequence.valid[1:] * _powers(config.rho, sequence.valid[1:])  # (H, N) of the steps' ends
    terms = {}
    if config.consistency > 0.0:
        errors = (model.split(latents[1:])[0] - model.split(posteriors)[0]).square().mean(-1)
        terms["consistency"] = config.consistency * (ahead * errors).mean()
    if config.elbo is not None:
        assert isinstance(model, Rssm)
        terms |= elbo_terms(model, config, windows, noise, start, latents)
    if model.anchors is not None:
        terms["anchor"] = config.anchor * anchor_loss(model.anchors, config, model.split(latents)[1], sequence)
    if config.with_terminals:
        logits = model.terminated(latents[1:])
        errors = functional.binary_cross_entropy_with_logits(logits, sequence.terminal[1:], reduction="none")
        terms["terminated"] = config.terminated * (sequence.valid[1:] * errors).mean()
    if config.with_reward:
        action = sequence.action[:-1]
        rewards = model.reward(latents[:-1], action)
        terms["reward"] = config.reward * (ahead * cross_entropy(rewards, sequence.reward[:-1])).mean()
        targets = td_target(model, config, sequence, noise, posteriors)
        values = model.values(latents[:-1], action, dropout=noise.dropout)
        terms["value"] = config.value * (ahead * cross_entropy(values, targets)).mean()
        policy, scale = policy_loss(model, config, sequence, noise, latents.detach(), scale)
        terms["policy"] = (here * policy).mean()
    # The probe is cheap to learn: a quarter of the batch is enough, but a quarter of every start.
    probed = slice(None, None, 4) if config.starts > 1 else slice(0, max(1, latents.shape[1] // 4))
    features = model.features(sequence.target[:, probed])
    errors = (model.readout_features(latents[:, probed]) - features).square().mean(-1)
    terms["probe"] = config.probe * (sequence.valid[:, probed] * errors).mean()
    return terms, scale, priors


def taught_losses(
    model: WorldModel, config: LossConfig, sequence: Sequence, noise: Noise, scale: Tensor, start: Tensor | None
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """`compute_losses` with a teacher: the divergence of what the filter knows from what the teacher does, with late images at the
    starts (`late`) and with all of them at every instant (`seen`); and the probe."""
    known, filtered, priors = as_known(model, config, sequence, noise, start)
    count = config.burn_in + config.starts
    (teacher,) = sequence.taught
    starts = slice(config.burn_in, count)
    late, seen = teacher[starts].flatten(0, 1), teacher[:count]
    valid = sequence.valid[:count]
    latents = torch.stack(filtered)
    terms = {
        "late": (valid[starts].flatten() * divergence(late, known)).mean(),
        "seen": (valid * divergence(seen, latents)).mean(),
    }
    features = model.features(sequence.target[starts].flatten(0, 1)[::4])
    errors = (model.readout_features(known[::4]) - features).square().mean(-1)
    terms["probe"] = config.probe * (valid[starts].flatten()[::4] * errors).mean()
    return terms, scale, torch.stack(priors).detach()


def divergence(true: Tensor, believed: Tensor) -> Tensor:
    """Kullback-Leibler divergence (...) of latents (..., L) of SimNorm coordinates, mean over their groups."""
    groups = true.shape[-1] // SIMPLEX
    ratio = true.clamp(min=SMALLEST).log() - believed.clamp(min=SMALLEST).log()
    return (true * ratio).sum(-1) / groups


def td_target(model: WorldModel, config: LossConfig, sequence: Sequence, noise: Noise, posteriors: Tensor) -> Tensor:
    """r + discount * min of two target heads at the next posterior, under the policy's action: (H, N).

    With a `trace`, what follows the next posterior is that value only in part, and as far as the window reaches the recorded
    rewards: the return of TD(lambda) (Sutton and Barto, 2nd edition, section 12.1).
    """
    with torch.no_grad():
        if not config.trace:
            alive = 1.0 - sequence.terminal[1:]
            return sequence.reward[:-1] + config.discount * alive * least_value(model, noise, posteriors, noise.target)
        starts = config.starts
        value = least_value(model, noise, *(in_order(part, starts) for part in (posteriors, noise.target)))
        reward, terminal, valid = (
            in_order(part, starts) for part in (sequence.reward[:-1], sequence.terminal[1:], sequence.valid[1:])
        )
        targets = [torch.empty(0)] * len(value)
        following = value[-1]
        for i in reversed(range(len(value))):
            targets[i] = reward[i] + config.discount * (1.0 - terminal[i]) * following
            if i:  # from the instant before the step on
                following = value[i - 1] + config.trace * valid[i] * (targets[i] - value[i - 1])
        return torch.stack([torch.cat(targets[k : k + starts]) for k in range(config.horizon)])


def least_value(model: WorldModel, noise: Noise, latents: Tensor, drawn: Tensor) -> Tensor:
    """The smaller value (...) of two target heads at latents (..., L) under the policy's action, drawn by (..., A)."""
    action = model.policy(latents, drawn).action
    return expectation(model.target_values(latents, action, noise.target_heads)).amin(0)


def in_order(rows: Tensor, starts: int) -> Tensor:
    """What (H, starts * B, ...) says of the instants after the first start, each of them once: (starts + H - 1, B, ...)."""
    every = rows[0].unflatten(0, (starts, -1))
    return torch.cat([every, rows[1:, -every.shape[1] :]])


def anchor_loss(anchors: Anchors, config: LossConfig, parts: Tensor, sequence: Sequence) -> Tensor:
    """Mean squared error of the anchors (H + 1, N, 3n) at the stamps of the measurements, in units of the tolerance."""
    errors = anchors.difference(anchors.at_stamps(parts, sequence.age), anchors.normalised(sequence.observation))
    ahead = torch.arange(config.horizon + 1, device=errors.device).reshape(-1, 1, 1) * (anchors.step * RATE_S)  # [s]
    errors = errors / (config.tolerance + config.tolerance_growth * ahead)
    seen = sequence.mask[..., anchors.modality] * sequence.valid.unsqueeze(-1)
    return (seen * errors.square()).mean()


def policy_loss(
    model: WorldModel, config: LossConfig, sequence: Sequence, noise: Noise, latents: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Maximise the scaled value and the entropy, and stay near the data's actions where asked: loss (H + 1, B), scale ()."""
    sample = model.policy(latents, noise.policy)
    value = expectation(model.values(latents, sample.action, frozen=True, heads=noise.policy_heads)).mean(0)
    scale = scale + config.scale_rate * (percentile_range(value[0].detach()) - scale)
    loss = -(value / scale.clamp(min=1.0) + config.entropy * sample.entropy)
    if config.behaviour_cloning:
        loss = loss + config.behaviour_cloning * (sample.mean - sequence.action).square().mean(-1)
    return loss, scale


def percentile_range(values: Tensor) -> Tensor:
    """95th minus 5th percentile of values (B,), by linear interpolation."""
    ordered, _ = torch.sort(values)
    picked = []
    for fraction in (0.05, 0.95):
        position = fraction * (len(values) - 1)
        low = int(position)
        high = min(low + 1, len(values) - 1)
        picked.append(torch.lerp(ordered[low], ordered[high], position - low))
    return picked[1] - picked[0]


def _powers(rho: float, like: Tensor) -> Tensor:
    """1, rho, rho ** 2, ... as a column with the rows of `like`, on its device."""
    return rho ** torch.arange(len(like), dtype=like.dtype, device=like.device).unsqueeze(-1)
