"""The MPPI step as torch modules, exported as the graphs `propose` and `refine` (TD-MPC2, arXiv 2310.16828, section 3.2).

No control flow depends on data, so that the whole step is one graph. Every sampled sequence lies inside the limits and the
rate by construction, and so does their weighted mean, since both sets are convex. N is the number of samples and proposals.

The modules copy what they need of a world model, rearranged for speed, under parameter names of their own: a traced graph gets
new weights by name (models/export.py).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks import Ensemble, NormedLinear, expectation
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


class Layer(NamedTuple):
    """Weights of one normed layer: weight (I, W), bias, gain and shift (W,)."""

    weight: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor


class JointMlp(nn.Module):
    """An MLP of (latent, action) whose first product is split, so that a latent (1, L) shared by all rows is multiplied once."""

    def __init__(self, latent: int, layers: Iterable[Layer], last: tuple[Tensor, Tensor] | None = None) -> None:
        """Copy the normed `layers` and the `last` linear one (weight (W, out), bias), where there is one."""
        super().__init__()
        first, *rest = layers
        self.of_latent = frozen(first.weight[:latent])
        self.of_action = frozen(first.weight[latent:])
        self.vectors = nn.ParameterList(frozen(x) for layer in (first, *rest) for x in layer[1:])
        self.products = nn.ParameterList(frozen(layer.weight) for layer in rest)
        self.last = nn.ParameterList(frozen(x) for x in last or ())

    def forward(self, z: Tensor, action: Tensor) -> Tensor:
        """z (1 or N, L), action (N, A) → (N, W) hidden, or (N, out) with a last layer."""
        x = z @ self.of_latent + self.vectors[0] + action @ self.of_action
        x = functional.mish(functional.layer_norm(x, x.shape[-1:], self.vectors[1], self.vectors[2]))
        for i, product in enumerate(self.products, 1):
            bias, gain, shift = self.vectors[3 * i], self.vectors[3 * i + 1], self.vectors[3 * i + 2]
            x = functional.mish(functional.layer_norm(x @ product + bias, x.shape[-1:], gain, shift))
        return x @ self.last[0] + self.last[1] if len(self.last) else x


class Refine(nn.Module):
    """Graph `refine`: sample, roll out, score, and move the proposal towards the elites."""

    def __init__(
        self, model: WorldModel, planner: PlannerDefaults, discount: float, terminations: bool = False
    ) -> None:
        """`terminations`: weigh what follows by the predicted probability that the episode goes on."""
        super().__init__()
        self.planner = planner
        self.discount = discount
        latent = model.latent_size
        self.reward = JointMlp(latent, hidden_layers(model.reward_head), last_layer(model.reward_head))
        self.anchored = None if model.anchors is None else model  # its prior is no plain MLP
        self.prior = JointMlp(latent, hidden_layers(model.prior_hidden)) if model.anchors is None else None
        self.prior_head = copy.deepcopy(model.prior_head) if model.anchors is None else None
        self.policy = copy.deepcopy(model.policy_head)
        self.terminated = copy.deepcopy(model.terminated_head) if terminations else None
        used = range(min(PLANNING_HEADS, model.sizes.value_heads))
        self.values = nn.ModuleList(JointMlp(latent, *member(model.value_heads, i)) for i in used)

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
        previous: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """One refinement; shapes as in docs/architecture.md, actions normalised.

        `value` is the score of `best` as it is: not a number only when no rollout at all was finite.
        """
        planner = self.planner
        samples = torch.cat([mean + std * noise, proposals], dim=0)
        samples = bounded(samples, low, high, rate, previous)
        raw = self.score(latent, samples)
        scores = torch.where(raw.abs() < -WORST, raw, torch.full_like(raw, WORST))  # false for NaN, too
        elite_scores, index = torch.topk(scores, planner.elites)
        elites = samples[index]
        weights = torch.softmax(planner.temperature * (elite_scores - elite_scores[0]), dim=0)[:, None, None]
        next_mean = (weights * elites).sum(0)
        variance = (weights * (elites - next_mean).square()).sum(0)
        next_std = variance.sqrt().clamp(planner.std_min, planner.std_max)
        next_mean = bounded(next_mean[None], low, high, rate, previous)[0]  # convex already: this removes rounding
        return next_mean, next_std, elites[0], raw[index[0]], elite_scores.mean()

    def score(self, latent: Tensor, samples: Tensor) -> Tensor:
        """Expected return (N,) of each sequence (N, H, A) from one latent (1, L): discounted rewards, then the value."""
        z, total = latent, torch.zeros(())
        factor: float | Tensor = 1.0
        for t in range(self.planner.horizon):
            action = samples[:, t]
            total = total + factor * expectation(self.reward(z, action))
            z = self.step(z, action)
            factor = factor * self.discount
            if self.terminated is not None:
                factor = factor * torch.sigmoid(-self.terminated(z).squeeze(-1))
        action = torch.tanh(self.policy(z).chunk(2, dim=-1)[0])
        value = torch.stack([expectation(head(z, action)) for head in self.values]).mean(0)
        return total + factor * value

    def step(self, z: Tensor, action: Tensor) -> Tensor:
        """Next latents (N, L) of z (1 or N, L) under actions (N, A)."""
        if self.anchored is not None:
            return self.anchored.prior(z.expand(len(action), -1), action)
        assert self.prior is not None and self.prior_head is not None
        following: Tensor = self.prior_head(self.prior(z, action))
        return following


def bounded(samples: Tensor, low: Tensor, high: Tensor, rate: Tensor, previous: Tensor) -> Tensor:
    """Clamp sequences (N, H, A) step by step to `rate` from the action before, then to the limits; all bounds are (A,)."""
    steps, before = [], previous
    for action in samples.unbind(1):
        before = torch.minimum(torch.maximum(action, before - rate), before + rate)
        before = torch.minimum(torch.maximum(before, low), high)
        steps.append(before)
    return torch.stack(steps, dim=1)


def hidden_layers(stack: nn.Sequential) -> list[Layer]:
    """The normed layers of an MLP."""
    found = [layer for layer in stack if isinstance(layer, NormedLinear)]
    return [Layer(x.linear.weight.T, x.linear.bias, x.norm.weight, x.norm.bias) for x in found]


def last_layer(stack: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Weight (W, out) and bias of an MLP's linear end."""
    last = stack[-1]
    assert isinstance(last, nn.Linear)
    return last.weight.T, last.bias


def member(heads: Ensemble, index: int) -> tuple[list[Layer], tuple[Tensor, Tensor]]:
    """One member of an ensemble as plain layers, which a CPU runs faster than the batched product."""
    weights, biases = [x[index] for x in heads.weights], [x[index, 0] for x in heads.biases]
    gains, shifts = [x[index, 0] for x in heads.gains], [x[index, 0] for x in heads.shifts]
    layers = [Layer(*parts) for parts in zip(weights, biases, gains, shifts, strict=False)]
    return layers, (weights[-1], biases[-1])


def frozen(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x.detach().clone(memory_format=torch.contiguous_format), requires_grad=False)
