"""Normed layers rearranged for planning: the same function in fewer passes over memory, exactly, by algebra alone.

Between two matrix products a CPU spends its time on reading and writing activations, one pass per operator. So what can be moved
into the weights, once, is:

- the mean that LayerNorm subtracts: weights and bias that are centred over the outputs give outputs whose mean is zero;
- LayerNorm's gain: scaled into weights and bias; the variance is then a product of the squares with 1 / (n gain^2);
- the mean of two-hot logits, which a softmax does not see; the expectation is a quotient of two products with exp(logits);
- the product of a latent that all rows share: one row.

Parameters have names of their own, so that a traced graph gets new weights by name (models/export.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.networks import BINS, SIMPLEX, SYMLOG_LIMIT, Ensemble, NormedLinear, symexp

EPSILON = 1e-5  # of LayerNorm
LARGEST = 80.0  # exponents beyond which float32 would overflow; two-hot logits and SimNorm's inputs stay far below
SMALLEST_GAIN = 1e-12  # a gain of exactly zero cannot be divided out


class Layer(NamedTuple):
    """Weights of one normed layer as trained: weight (I, W), bias, gain and shift (W,)."""

    weight: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor


class Normed(nn.Module):
    """Product, bias and LayerNorm of one layer: `before` the activation."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        gain = torch.where(layer.gain.abs() < SMALLEST_GAIN, SMALLEST_GAIN, layer.gain)
        self.product = frozen((layer.weight - layer.weight.mean(1, keepdim=True)) * gain)
        self.bias = frozen((layer.bias - layer.bias.mean()) * gain)
        self.spread = frozen((1.0 / (len(gain) * gain.square())).unsqueeze(1))
        self.shift = frozen(layer.shift)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, I) → normed (N, W)."""
        return self.normed(torch.addmm(self.bias, x, self.product))

    def normed(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt((x * x) @ self.spread + EPSILON) + self.shift


class SharedNormed(Normed):
    """The same for inputs (latent, action), also where all rows share one latent."""

    def __init__(self, layer: Layer, latent: int) -> None:
        super().__init__(layer)
        self.of_latent = frozen(self.product[:latent])  # an exporter would fold slices into constants without names
        self.of_action = frozen(self.product[latent:])

    def of_shared(self, latent: Tensor, action: Tensor) -> Tensor:
        """latent (1, L), action (N, A) → normed (N, W)."""
        shared = torch.addmm(self.bias, latent, self.of_latent)
        return self.normed(torch.addmm(shared, action, self.of_action))


class PlanMlp(nn.Module):
    """An MLP whose input is a latent, or a latent and an action: normed layers with Mish, then perhaps a linear one."""

    def __init__(
        self, layers: Iterable[Layer], last: tuple[Tensor, Tensor] | None = None, shared_latent: int = 0
    ) -> None:
        """Copy the normed `layers` and the `last` linear one (weight (W, out), bias), where there is one.

        `shared_latent`: size of the latent, for `of_shared`.
        """
        super().__init__()
        first, *rest = layers
        head = SharedNormed(first, shared_latent) if shared_latent else Normed(first)
        self.layers = nn.ModuleList([head, *(Normed(layer) for layer in rest)])
        self.last = nn.ParameterList(frozen(x) for x in last or ())

    def forward(self, x: Tensor) -> Tensor:
        """x (N, I) → (N, W) hidden, or (N, out) with a last layer."""
        return self._rest(mish(self.layers[0](x)))

    def of_shared(self, latent: Tensor, action: Tensor) -> Tensor:
        """The same for rows (latent, action) that share one latent (1, L)."""
        return self._rest(mish(self.layers[0].of_shared(latent, action)))

    def _rest(self, x: Tensor) -> Tensor:
        for layer in list(self.layers)[1:]:
            x = mish(layer(x))
        return torch.addmm(self.last[1], x, self.last[0]) if len(self.last) else x


class SimNormed(Normed):
    """The last layer of the prior."""

    def forward(self, x: Tensor) -> Tensor:
        """x (N, I) → (N, W), softmax within groups of `SIMPLEX`."""
        powers = super().forward(x).clamp(-LARGEST, LARGEST).exp().reshape(-1, SIMPLEX)
        return (powers / powers.sum(1, keepdim=True)).reshape(-1, self.shift.shape[0])


def two_hot_mean(logits: Tensor) -> Tensor:
    """Scalars (N,) that two-hot logits (N, BINS) of a centred last layer stand for."""
    bins = torch.linspace(-SYMLOG_LIMIT, SYMLOG_LIMIT, BINS, dtype=logits.dtype)
    powers = logits.clamp(-LARGEST, LARGEST).exp()
    return symexp((powers * bins).sum(1) / powers.sum(1))


def mish(x: Tensor) -> Tensor:
    """x tanh(softplus(x)) = x - x / (u^2 / 2 + 1/2) with u = e^x + 1; where e^x overflows, the quotient is 0."""
    u = x.exp() + 1.0
    return x - x / (u * u * 0.5 + 0.5)


def hidden_layers(stack: nn.Sequential) -> list[Layer]:
    """The normed layers of an MLP."""
    return [layer_of(module) for module in stack if isinstance(module, NormedLinear)]


def layer_of(module: NormedLinear) -> Layer:
    return Layer(module.linear.weight.T, module.linear.bias, module.norm.weight, module.norm.bias)


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


def centred(last: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A last layer whose outputs have mean zero."""
    weight, bias = last
    return weight - weight.mean(1, keepdim=True), bias - bias.mean()


def frozen(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x.detach().clone(memory_format=torch.contiguous_format), requires_grad=False)
