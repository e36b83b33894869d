"""The plain trainer that the fast one is measured against and must agree with: TD-MPC2's update as one would first write it.

One module per value head, a loop over time, an optimiser over lists of parameters, nothing fused. It reads the same windows
and noise as models/train.py, and has the same weights, so losses and gradients can be compared number by number. Serves contracts
without anchored observations, one start per window.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.memory import PriorMemory
from models.networks import Ensemble, linear, simnorm, symexp, two_hot
from models.train_config import LossConfig, TrainConfig
from models.windows import Noise, Sequence, Windows, draw_noise, draw_sequence
from models.world_model import WorldModel


class Normed(nn.Module):
    """Linear, optional dropout, LayerNorm, then Mish or SimNorm."""

    def __init__(self, inputs: int, outputs: int, simplex: bool = False) -> None:
        super().__init__()
        self.linear = linear(inputs, outputs)
        self.norm = nn.LayerNorm(outputs)
        self.simplex = simplex

    def forward(self, x: Tensor, dropout: Tensor | None = None) -> Tensor:
        x = self.linear(x)
        if dropout is not None:
            x = x * dropout
        x = self.norm(x)
        return simnorm(x) if self.simplex else functional.mish(x)


class Head(nn.Module):
    """One value head."""

    def __init__(self, stack: Ensemble, index: int) -> None:
        super().__init__()
        first, second, last = stack.weights
        self.first = Normed(first.shape[1], first.shape[2])
        self.second = Normed(second.shape[1], second.shape[2])
        self.last = linear(last.shape[1], last.shape[2])
        for i, layer in enumerate((self.first, self.second)):
            layer.norm.weight.data.copy_(stack.gains[i][index, 0])
            layer.norm.bias.data.copy_(stack.shifts[i][index, 0])
        for i, layer in enumerate((self.first.linear, self.second.linear, self.last)):
            layer.weight.data.copy_(stack.weights[i][index].T)
            layer.bias.data.copy_(stack.biases[i][index, 0])

    def forward(self, x: Tensor, dropout: Tensor | None = None) -> Tensor:
        return self.last(self.second(self.first(x, dropout)))


class EagerTrainer:
    """Starts from the weights of `model` (copied) and the seed of `config`, like models.train.Trainer."""

    def __init__(self, model: WorldModel, dataset: Windows, config: TrainConfig) -> None:
        self.model = copy.deepcopy(model)
        self.heads = nn.ModuleList(Head(model.value_heads, i) for i in range(model.sizes.value_heads))
        self.target_heads = nn.ModuleList(Head(model.target_heads, i) for i in range(model.sizes.value_heads))
        self.target_heads.requires_grad_(False)
        self.dataset, self.config = dataset, config
        self.scale = torch.ones(())
        self.memory, self.start, self.priors = PriorMemory(model.initial_latent), None, []
        self.rng = np.random.default_rng(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        encoder = [self.model.encoder, self.model.posterior_hidden, self.model.posterior_head]
        dynamics = [self.model.prior_hidden, self.model.prior_head, self.model.reward_head, self.heads]
        self.of_model = [p for module in (*encoder, *dynamics) for p in module.parameters()]
        self.of_policy = list(self.model.policy_head.parameters())
        self.of_probe = list(self.model.probe.parameters())
        rate = config.optimiser.rate
        slow = {"params": [p for m in encoder for p in m.parameters()], "lr": rate * config.optimiser.encoder_rate}
        rest = [p for m in dynamics for p in m.parameters()] + self.of_probe
        self.optimiser = torch.optim.Adam([slow, {"params": rest}], lr=rate)
        self.policy_optimiser = torch.optim.Adam(self.of_policy, lr=rate, eps=1e-5)

    def update(self, count: int = 1) -> dict[str, float]:
        for _ in range(count):
            sequence = draw_sequence(self.dataset, self.rng, self.config)
            noise = draw_noise(self.model, self.config.loss, self.config.batch, self.generator)
            self.start = self.memory.recall(sequence.rows[0]) if self.config.loss.remember else None
            terms = self.backward(sequence, noise)
            if self.config.loss.remember:
                self.memory.keep(sequence.rows[1:], torch.stack(self.priors), sequence.valid[1:])
            for parameters in (self.of_model, self.of_policy, self.of_probe):
                nn.utils.clip_grad_norm_(parameters, self.config.optimiser.clip)
            self.optimiser.step()
            self.policy_optimiser.step()
            with torch.no_grad():
                for target, value in zip(self.target_heads.parameters(), self.heads.parameters(), strict=True):
                    target.lerp_(value, self.config.optimiser.target_rate)
        return {name: term.item() for name, term in terms.items()}

    def backward(self, sequence: Sequence, noise: Noise) -> dict[str, Tensor]:
        """Gradients of one update; returns the loss terms."""
        self.optimiser.zero_grad()
        self.policy_optimiser.zero_grad()
        terms, latents = self.model_losses(sequence, noise)
        sum(terms.values()).backward()
        terms["policy"] = self.policy_loss(latents.detach(), sequence, noise)
        terms["policy"].backward()
        return terms

    def model_losses(self, sequence: Sequence, noise: Noise) -> tuple[dict[str, Tensor], Tensor]:
        config: LossConfig = self.config.loss
        model, first, horizon = self.model, config.burn_in, config.horizon
        start = model.initial_latent.expand(sequence.mask.shape[1], -1)
        z = start if self.start is None else self.start
        self.priors = []
        for t in range(first + 1):
            if t:
                z = model.prior(z, sequence.action[t - 1])
                self.priors.append(z.detach())
            if t and t == first:
                z = torch.where(noise.cold, start, z)
            mask = sequence.mask[t] * noise.keep[t]
            z = model.posterior(z, model.encode(sequence.observation[t], mask, sequence.age[t]), mask)
        latents = [z]
        for t in range(first, first + horizon):
            latents.append(model.prior(latents[-1], sequence.action[t]))
        targets, posteriors = self.targets(latents[1].detach(), sequence, noise)
        zero = torch.zeros(())
        terms = {"consistency": zero, "reward": zero, "value": zero, "probe": zero}
        dropout = noise.dropout.unflatten(1, (horizon, -1))
        for k in range(horizon):
            at, end = first + k, sequence.valid[first + k + 1] * config.rho**k
            joint = torch.cat([latents[k], sequence.action[at]], dim=-1)
            error = (latents[k + 1] - posteriors[k]).square().mean(-1)
            terms["consistency"] = terms["consistency"] + config.consistency * (end * error).mean() / horizon
            error = soft_cross_entropy(model.reward_head(joint), sequence.reward[at])
            terms["reward"] = terms["reward"] + config.reward * (end * error).mean() / horizon
            for q, head in enumerate(self.heads):
                error = soft_cross_entropy(head(joint, dropout[q, k]), targets[k])
                share = config.value / horizon / len(self.heads)
                terms["value"] = terms["value"] + share * (end * error).mean()
        few = len(z) // 4
        for k in range(horizon + 1):
            features = model.features(sequence.target[first + k, :few])
            error = (model.probe(latents[k][:few].detach()) - features).square().mean(-1)
            terms["probe"] = terms["probe"] + config.probe * (sequence.valid[first + k, :few] * error).mean() / (
                horizon + 1
            )
        return terms, torch.stack(latents)

    def pair(self, drawn: Tensor | None) -> list[int]:
        return [0, 1] if drawn is None else [int(q) for q in drawn]

    @torch.no_grad()
    def targets(self, prior: Tensor, sequence: Sequence, noise: Noise) -> tuple[list[Tensor], list[Tensor]]:
        """TD targets and posteriors of the open-loop instants."""
        config, targets, posteriors = self.config.loss, [], []
        for k in range(config.horizon):
            at = config.burn_in + 1 + k
            self.priors.append(prior)
            embedding = self.model.encode(sequence.observation[at], sequence.mask[at], sequence.age[at])
            z = self.model.posterior(prior, embedding, sequence.mask[at])
            action = self.model.policy(z, noise.target[k]).action
            joint = torch.cat([z, action], dim=-1)
            values = [scalar(self.target_heads[q](joint)) for q in self.pair(noise.target_heads)]
            alive = 1.0 - sequence.terminal[at]
            targets.append(sequence.reward[at - 1] + config.discount * alive * torch.minimum(*values))
            posteriors.append(z)
            prior = self.model.prior(z, sequence.action[at])
        return targets, posteriors

    def policy_loss(self, latents: Tensor, sequence: Sequence, noise: Noise) -> Tensor:
        config, loss = self.config.loss, torch.zeros(())
        self.heads.requires_grad_(False)
        for k, z in enumerate(latents):
            at = config.burn_in + k
            sample = self.model.policy(z, noise.policy[k])
            joint = torch.cat([z, sample.action], dim=-1)
            value = torch.stack([scalar(self.heads[q](joint)) for q in self.pair(noise.policy_heads)]).mean(0)
            if k == 0:
                low, high = torch.quantile(value.detach(), torch.tensor([0.05, 0.95]))
                self.scale = self.scale + config.scale_rate * (high - low - self.scale)
            error = -(value / self.scale.clamp(min=1.0) + config.entropy * sample.entropy)
            error = error + config.behaviour_cloning * (sample.mean - sequence.action[at]).square().mean(-1)
            loss = loss + config.rho**k * (sequence.valid[at] * error).mean() / (config.horizon + 1)
        self.heads.requires_grad_(True)
        return loss


def soft_cross_entropy(logits: Tensor, value: Tensor) -> Tensor:
    return -(two_hot(value) * torch.log_softmax(logits, dim=-1)).sum(-1)


def scalar(logits: Tensor) -> Tensor:
    bins = torch.linspace(-10.0, 10.0, logits.shape[-1])
    return symexp((torch.softmax(logits, dim=-1) * bins).sum(-1))
