"""Losses of one update: consistency, reward, value, policy, termination and probe (TD-MPC2, arXiv 2310.16828, section 3).

Everything random in an update is an input (`Noise`), so that an update is a pure function: it can be compiled, resumed
exactly, and compared with the plain reference in tests/models/eager_reference.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.anchors import RATE_S, Anchors
from models.elbo import ElboConfig, LatentNoise, draw_latent_noise, elbo_terms
from models.late_images import arrived, draw_outage, draw_quantile, draw_shift, hide, see
from models.networks import DROPOUT, cross_entropy, expectation
from models.rssm import Rssm
from models.world_model import WorldModel


@dataclass(frozen=True)
class LossConfig:
    """Coefficients; defaults are TD-MPC2's unless said otherwise."""

    horizon: int = 3  # open-loop steps that are trained [model steps]
    burn_in: int = (
        1  # filtered instants before the rollout starts, gradients included (ours: the posterior is recurrent)
    )
    early: bool = False  # ours: windows may begin up to `burn_in` before their episode, when nothing is measured yet
    starts: int = 1  # ours: so many consecutive instants after the burn-in each start a rollout
    rho: float = 0.5  # weight of step k is rho ** k
    consistency: float = 20.0
    reward: float = 0.1
    value: float = 0.1
    terminated: float = 1.0
    anchor: float = 1.0  # ours: squared error of the anchors, posterior and rollout, in tolerances
    tolerance: float = 0.01  # of an anchor at the start of a rollout [normalised: radians for an angle] ...
    tolerance_growth: float = 0.15  # ... and how much more per second ahead: late errors are large anyhow
    mirrored: bool = False  # the robot is its own mirror image: negate half of the windows
    probe: float = 1.0  # ours: reads frozen latents, so it changes nothing else
    entropy: float = 1e-4
    behaviour_cloning: float = 0.0  # TD3+BC (arXiv 2106.06860): keeps the policy, hence the TD targets, inside the data
    discount: float = 0.99
    trace: float = 0.0  # ours: share of the recorded rewards in what follows a step; 0: one step, as TD-MPC2
    drop: float = 0.1  # chance that an instant's observations, and that one observation of several, is missing
    cold: float = 0.1  # chance that the filter starts anew at the last burn-in instant
    remember: bool = True  # windows start from the prior that was left at their first row (models/memory.py)
    scale_rate: float = 0.01  # of the running 5-95 percentile range of the values
    with_reward: bool = True  # off: no reward, value and policy losses (logs without a task)
    with_terminals: bool = False  # on: the data has terminal states
    late: tuple[
        tuple[float, ...], ...
    ] = ()  # of each image: quantiles of the time from capture to arrival [model steps]
    outage: tuple[float, ...] = ()  # of each image: longest time without one [model steps]
    hidden: float = 0.3  # share of the windows in which a camera is hidden for a time
    shift: float = 4.0  # largest random shift of images [pixels of 64]
    elbo: ElboConfig | None = None  # of the RSSM families, which have no consistency loss

    @property
    def with_posteriors(self) -> bool:
        """Whether the losses ask for the posteriors of the open-loop instants."""
        return self.with_reward or self.consistency > 0.0

    @property
    def lead(self) -> int:
        """Instants before its episode at which a window may begin."""
        return self.burn_in if self.early else 0

    @property
    def latest(self) -> int:
        """Instants before a start from which an image may still be on its way; a stamp is half a step from its instant at most."""
        return max((math.ceil(max(delays) + 0.5) for delays in self.late), default=0)

    @property
    def length(self) -> int:
        """Instants of a training sequence."""
        return self.burn_in + self.starts + self.horizon


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
    images: tuple[Tensor, ...] = ()  # each (T, B, H, W, C) uint8; last, for only the filter sees them


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


class Rollout(NamedTuple):
    """Latents of the rollouts of a batch of windows; with several starts per window, N = starts * B rows, start by start."""

    latents: Tensor  # (H + 1, N, L) the posterior at the start, then open loop
    posteriors: Tensor  # (H, N, L) the filter's, at the open-loop instants; no gradient. Empty if unasked
    sequence: Sequence  # (H + 1, N, ...) what was recorded from each start on
    priors: Tensor  # (T - 1, B, L) what the filter predicted for the windows' instants 1, 2, ...; no gradient


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
        known, priors = late_posteriors(model, config, sequence, noise, shown, views, begin)
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
            filtered, priors = follow(model, config, sequence, noise, every, later_views, begin)
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
        return Sequence(*(part[first:] for part in sequence[:-1]))
    starts = range(first, first + config.starts)
    return Sequence(*(torch.cat([part[s : s + instants] for s in starts], dim=1) for part in sequence[:-1]))


def mirror(sequence: Sequence, sign: Tensor) -> Sequence:
    """Negate observations and actions of the windows whose `sign` (B, 1) is -1."""
    return sequence._replace(
        observation=sequence.observation * sign, target=sequence.target * sign, action=sequence.action * sign
    )


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
