"""The MPPI step as torch modules, exported as the graphs `propose` and `refine` (TD-MPC2, arXiv 2310.16828, section 3.2).

No control flow depends on data, so that the whole step is one graph. Every sampled sequence obeys limits, rate and jerk by
construction, and so does their weighted mean, since these sets are convex. N is the number of samples and proposals.

`Refine` copies what it needs of a world model, rearranged for speed (models/planner_layers.py).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from models.planner_layers import PlanMlp, SimNormed, centred, hidden_layers, last_layer, layer_of, member, two_hot_mean
from models.world_model import WorldModel
from robot_wm.bundle import PlannerDefaults

WORST = -1e9  # score of a rollout that is not finite
PLANNING_HEADS = (
    2  # value heads that `refine` averages: the first two (the reference draws two at random); `heads` uses all
)


class Propose(nn.Module):
    """Graph `propose`: roll the policy prior out from one latent."""

    def __init__(self, model: WorldModel, horizon: int) -> None:
        super().__init__()
        self.model = model
        self.horizon = horizon

    def forward(self, latent: Tensor, noise: Tensor) -> Tensor:
        """latent (1, L), standard normal noise (P, H, A) → proposals (P, H, A); zero noise gives the mean policy's rollout."""
        z = latent.expand(noise.shape[0], -1)
        actions = []
        for t in range(self.horizon):
            actions.append(self.model.policy(z, noise[:, t]).action)
            if t + 1 < self.horizon:
                z = self.model.prior(z, actions[t])
        return torch.stack(actions, dim=1)


class Refine(nn.Module):
    """Graph `refine`: sample, roll out, score, and move the proposal towards the elites."""

    def __init__(
        self,
        model: WorldModel,
        planner: PlannerDefaults,
        discount: float,
        terminations: bool = False,
        cost: nn.Module | None = None,
    ) -> None:
        """`terminations`: weigh what follows by the predicted probability that the episode goes on; `cost` as `models.costs`."""
        super().__init__()
        self.planner = planner
        self.discount = discount
        self.cost = cost
        latent = model.latent_size
        self.reward = PlanMlp(hidden_layers(model.reward_head), centred(last_layer(model.reward_head)), latent)
        self.dynamics = None if model.plain_prior else model
        self.prior = PlanMlp(hidden_layers(model.prior_hidden), None, latent) if model.plain_prior else None
        self.prior_head = SimNormed(layer_of(model.prior_head)) if model.plain_prior else None
        weight, bias = last_layer(model.policy_head)
        self.policy = PlanMlp(
            hidden_layers(model.policy_head), (weight[:, : model.action_size], bias[: model.action_size])
        )
        self.terminated = copy.deepcopy(model.terminated_head) if terminations else None
        members = (member(model.value_heads, i) for i in range(min(PLANNING_HEADS, model.sizes.value_heads)))
        self.values = nn.ModuleList(PlanMlp(layers, centred(last)) for layers, last in members)

    def forward(
        self,
        latent: Tensor,
        mean: Tensor,
        std: Tensor,
        noise: Tensor,
        proposals: Tensor,
        low: Tensor,
        high: Tensor,
        rate: Tensor,
        jerk: Tensor,
        previous: Tensor,
        temperature: Tensor,
        action_cost: Tensor,
        change_cost: Tensor,
        disagreement_cost: Tensor,
        elites: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One refinement; shapes as in docs/architecture.md, actions normalised.

        `value` is the score of `best` as it is: not a number only when no rollout at all was finite.
        """
        planner = self.planner
        samples = bounded(torch.cat([mean + std * noise, proposals], dim=0), low, high, rate, jerk, previous)
        raw, disagreement = self.evaluate(latent, samples, previous, action_cost, change_cost, disagreement_cost)
        scores = torch.where(raw.abs() < -WORST, raw, torch.full_like(raw, WORST))  # false for NaN, too
        ranked, index = torch.sort(scores, descending=True)
        chosen = torch.where(torch.arange(scores.shape[0]) < elites, 1.0, 0.0)
        weights = torch.exp(temperature * (ranked - ranked[0])) * chosen
        weights = weights / weights.sum()
        sorted_samples = samples[index]
        next_mean = (weights[:, None, None] * sorted_samples).sum(0)
        variance = (weights[:, None, None] * (sorted_samples - next_mean).square()).sum(0)
        next_std = variance.sqrt().clamp(planner.std_min, planner.std_max)
        next_mean = clamped(next_mean, low, high)  # all bounds are convex: only rounding can leave them
        doubt = torch.where(ranked > WORST, disagreement[index], torch.zeros_like(ranked))
        elite_value = (chosen * ranked).sum() / elites
        return next_mean, next_std, sorted_samples[0], raw[index[0]], elite_value, (weights * doubt).sum()

    def evaluate(
        self,
        latent: Tensor,
        samples: Tensor,
        previous: Tensor,
        action_cost: Tensor,
        change_cost: Tensor,
        disagreement_cost: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Score less costs (N,) of sequences (N, H, A), and the value heads' disagreement (N,)."""
        value, disagreement = self.score(latent, samples)
        change = samples - torch.cat([previous[1].expand(samples.shape[0], 1, -1), samples[:, :-1]], dim=1)
        cost = (action_cost * samples.square() + change_cost * change.square()).sum((1, 2))
        return value - cost - disagreement_cost * disagreement, disagreement

    def score(self, latent: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Of each sequence (N, H, A) from one latent (1, L): its return (N,), which is discounted rewards, then the value, less
        the contract's cost functions; and the standard deviation (N,) of the value heads in it."""
        count, actions = samples.shape[0], samples.unbind(1)
        joint = self.steps(latent, actions)
        logits = [self.reward.of_shared(latent, actions[0])]
        if len(joint) > 1:
            logits.append(self.reward(torch.cat(joint[:-1])))
        z = joint[-1]
        end = torch.cat([z, torch.tanh(self.policy(z))], dim=1)
        logits += [head(end) for head in self.values]
        scalars = two_hot_mean(torch.cat(logits)).reshape(-1, count)  # rewards (H), values
        rewards, values = list(scalars[: len(actions)]), scalars[len(actions) :]
        if self.cost is not None:
            after = [x[:, : latent.shape[1]] for x in joint]
            rewards = [r - self.cost(z, a) for r, z, a in zip(rewards, after, actions, strict=True)]
        parts = [*rewards, values.mean(0)]
        total = parts[0]
        factor: float | Tensor = 1.0
        for t, part in enumerate(parts[1:], 1):
            factor = factor * self.discount
            if self.terminated is not None:
                after = joint[t - 1][:, : latent.shape[1]]
                factor = factor * torch.sigmoid(-self.terminated(after).squeeze(-1))
            total = total + factor * part
        return total, factor * (values - parts[-1]).square().mean(0).sqrt()

    def steps(self, latent: Tensor, actions: tuple[Tensor, ...]) -> list[Tensor]:
        """Latents (N, L) after each step; but for the last of them, with the action (N, L + A) that follows."""
        following, joint = actions[1:], []
        for t, action in enumerate(actions):
            z = self.step(joint[-1] if joint else latent, action, first=t == 0)
            joint.append(torch.cat([z, following[t]], dim=1) if t < len(following) else z)
        return joint

    def step(self, x: Tensor, action: Tensor, first: bool) -> Tensor:
        """Next latents (N, L) of x: at `first` the shared latent (1, L), then latents with their actions (N, L + A)."""
        if self.dynamics is not None:
            z = x.expand(action.shape[0], -1) if first else x[:, : -action.shape[1]]
            return self.dynamics.prior(z, action)
        assert self.prior is not None and self.prior_head is not None
        following: Tensor = self.prior_head(self.prior.of_shared(x, action) if first else self.prior(x))
        return following


def bounded(samples: Tensor, low: Tensor, high: Tensor, rate: Tensor, jerk: Tensor, previous: Tensor) -> Tensor:
    """`Bounds.apply` of robot_wm/bounds.py for sequences (N, H, A) at once, all from the same two actions `previous` (2, A).

    Inside, a step is (A, N): ONNX Runtime broadcasts a bound along a row faster than over many short ones.
    """
    low, high, rate, jerk, earlier, before = (x[:, None] for x in (low, high, rate, jerk, previous[0], previous[1]))
    steps, change = [], before - earlier
    for action in samples.permute(1, 2, 0).unbind(0):
        straight = before + change
        after = clamped(action, straight - jerk, straight + jerk)
        room = torch.where(after > before, high - before, before - low)
        reach = torch.minimum(rate, stoppable(room, jerk))
        after = clamped(clamped(after, before - reach, before + reach), low, high)
        before, change = after, after - before
        steps.append(after)
    return torch.stack(steps).permute(2, 0, 1)


def stoppable(room: Tensor, jerk: Tensor) -> Tensor:
    """As in robot_wm/bounds.py."""
    room = torch.maximum(room, jerk)
    steps = torch.round(torch.sqrt(room * (2.0 / jerk) + 0.25))
    return room / steps + (steps - 1.0) * (0.5 * jerk)


def clamped(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`torch.clamp` in two operators; where the bounds cross, `high` holds."""
    return torch.minimum(torch.maximum(x, low), high)
