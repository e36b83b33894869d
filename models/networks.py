"""Building blocks of the TD-MPC2 family (arXiv 2310.16828): sizes, normed layers, ensembles, two-hot coding, features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models import fused
from robot_wm.contract import Contract
from robot_wm.errors import ContractError

BINS = 101  # two-hot bins, evenly spaced in symlog
SYMLOG_LIMIT = 10.0
SIMPLEX = 8  # coordinates per SimNorm group
DROPOUT = 0.01  # of the value ensemble's first layer, while training


@dataclass(frozen=True)
class Sizes:
    """Widths of one model size."""

    name: str
    latent: int  # SimNorm coordinates, without anchors; of the RSSM families the deterministic state
    mlp: int  # hidden width of every head
    encoder: int  # hidden width of encoder and posterior, and of the embedding
    value_heads: int
    encoder_layers: int


SIZES = {
    sizes.name: sizes
    for sizes in (
        Sizes("nano", latent=64, mlp=128, encoder=128, value_heads=2, encoder_layers=2),
        Sizes("1M", latent=128, mlp=384, encoder=256, value_heads=2, encoder_layers=2),
        Sizes("5M", latent=512, mlp=512, encoder=256, value_heads=5, encoder_layers=2),
        Sizes("19M", latent=768, mlp=1024, encoder=1024, value_heads=5, encoder_layers=3),
    )
}


def sizes_named(size: str | Sizes) -> Sizes:
    """Return the preset called `size`, or `size` itself. Raises ContractError for an unknown name."""
    if isinstance(size, Sizes):
        return size
    if size not in SIZES:
        raise ContractError(f"unknown model size {size!r}; known are {', '.join(SIZES)}")
    return SIZES[size]


def symlog(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Tensor) -> Tensor:
    return torch.sign(x) * torch.expm1(torch.abs(x))


def two_hot(x: Tensor) -> Tensor:
    """Spread each scalar of x (...) over its two neighbouring symlog bins: (..., BINS), rows sum to 1."""
    step = 2 * SYMLOG_LIMIT / (BINS - 1)
    position = (symlog(x).clamp(-SYMLOG_LIMIT, SYMLOG_LIMIT) + SYMLOG_LIMIT) / step
    bins = torch.arange(BINS, dtype=x.dtype, device=x.device)
    return (1.0 - (position.unsqueeze(-1) - bins).abs()).clamp(min=0.0)


def expectation(logits: Tensor) -> Tensor:
    """Scalar that two-hot logits (..., BINS) stand for: (...)."""
    if fused.usable(logits):
        return fused.expectation(logits, SYMLOG_LIMIT)
    bins = torch.linspace(-SYMLOG_LIMIT, SYMLOG_LIMIT, BINS, dtype=logits.dtype, device=logits.device)
    return symexp((torch.softmax(logits, dim=-1) * bins).sum(-1))


def cross_entropy(logits: Tensor, value: Tensor) -> Tensor:
    """Cross entropy of two-hot logits (..., BINS) against scalars; `value` broadcasts over leading dimensions."""
    if fused.usable(logits):
        return fused.cross_entropy(logits, value, SYMLOG_LIMIT)
    return -(two_hot(value) * torch.log_softmax(logits, dim=-1)).sum(-1)


def simnorm(x: Tensor) -> Tensor:
    """Softmax within groups of `SIMPLEX` coordinates (TD-MPC2, section 3.1)."""
    return torch.softmax(x.reshape(*x.shape[:-1], -1, SIMPLEX), dim=-1).flatten(-2)


class NormedLinear(nn.Module):
    """Linear, LayerNorm, then Mish (or SimNorm where `simplex`)."""

    def __init__(self, inputs: int, outputs: int, simplex: bool = False) -> None:
        super().__init__()
        self.linear = linear(inputs, outputs)
        self.norm = nn.LayerNorm(outputs)
        self.simplex = simplex

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.linear(x))
        return simnorm(x) if self.simplex else functional.mish(x)


class Mlp(nn.Sequential):
    """Normed layers, the last of them perhaps linear."""

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, *self)


def chain(x: Tensor, *modules: nn.Module) -> Tensor:
    """Apply normed layers, of which the last may be linear, to x (..., I)."""
    if fused.usable(x):
        return fused.mlp(x.reshape(-1, x.shape[-1]), [_layer(m) for m in modules]).reshape(*x.shape[:-1], -1)
    for module in modules:
        x = module(x)
    return x


def _layer(module: nn.Module) -> fused.Layer:
    if isinstance(module, NormedLinear):
        linear, norm = module.linear, module.norm
        return fused.Layer(linear.weight, linear.bias, norm.weight, norm.bias, module.simplex)
    assert isinstance(module, nn.Linear)
    return fused.Layer(module.weight, module.bias)


def linear(inputs: int, outputs: int, zero: bool = False) -> nn.Linear:
    """Linear layer with the reference's initialisation: truncated normal of std 0.02 (or zero), zero bias."""
    layer = nn.Linear(inputs, outputs)
    initialise(layer.weight, zero)
    nn.init.zeros_(layer.bias)
    return layer


def initialise(weight: Tensor, zero: bool = False) -> None:
    if zero:
        nn.init.zeros_(weight)
    else:
        nn.init.trunc_normal_(weight, std=0.02)


def mlp(inputs: int, hidden: int, layers: int, outputs: int, zero: bool = False) -> Mlp:
    """`layers` normed hidden layers, then a linear one (zero-initialised where `zero`)."""
    widths = [inputs] + [hidden] * layers
    stack: list[nn.Module] = [NormedLinear(a, b) for a, b in pairwise(widths)]
    return Mlp(*stack, linear(hidden, outputs, zero))


class Ensemble(nn.Module):
    """Several equal two-hidden-layer MLPs as one stack of weights, so that all heads are one batched product per layer.

    Input (..., I), output (heads, ..., outputs).
    """

    def __init__(self, heads: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        widths = (inputs, hidden, hidden, outputs)
        pairs = list(pairwise(widths))
        self.weights = nn.ParameterList([nn.Parameter(torch.empty(heads, a, b)) for a, b in pairs])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(heads, 1, b)) for _, b in pairs])
        self.gains = nn.ParameterList([nn.Parameter(torch.ones(heads, 1, b)) for _, b in pairs[:-1]])
        self.shifts = nn.ParameterList([nn.Parameter(torch.zeros(heads, 1, b)) for _, b in pairs[:-1]])
        for i, weight in enumerate(self.weights):
            initialise(weight, zero=i == len(pairs) - 1)

    def forward(
        self, x: Tensor, dropout: Tensor | None = None, frozen: bool = False, heads: Tensor | None = None
    ) -> Tensor:
        """Logits of every head; `dropout` (heads, rows, hidden) multiplies the first layer before its norm.

        `frozen` lets the gradient through to `x` but not into the weights; then `heads` may pick some heads by index.
        """
        shape = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1])
        weights, biases, gains, shifts = (
            [_frozen(p, heads) if frozen else p for p in group]
            for group in (self.weights, self.biases, self.gains, self.shifts)
        )
        if fused.usable(x):
            layers = [
                fused.Layer(*layer) for layer in zip(weights, biases, [*gains, None], [*shifts, None], strict=True)
            ]
            return fused.mlp(x, layers, dropout).reshape(-1, *shape, weights[-1].shape[-1])
        x = x.unsqueeze(0)  # OpenVINO multiplies equal ranks only
        for i, (gain, shift) in enumerate(zip(gains, shifts, strict=True)):
            x = torch.matmul(x, weights[i]) + biases[i]
            if i == 0 and dropout is not None:
                x = x * dropout
            x = functional.mish(functional.layer_norm(x, x.shape[-1:]) * gain + shift)
        x = torch.matmul(x, weights[-1]) + biases[-1]
        return x.reshape(-1, *shape, x.shape[-1]) if len(shape) != 1 else x


def _frozen(parameter: Tensor, heads: Tensor | None) -> Tensor:
    fixed = parameter.detach()
    return fixed if heads is None else fixed[heads]


class ObservationFeatures(nn.Module):
    """The contract's encoding: raw SI components to features and back.

    linear → (x - mean) / scale; angle → (cos x, sin x). The buffers come from the contract, not from the weights.
    """

    mean: Tensor
    scale: Tensor
    modality: Tensor
    source: Tensor
    shift: Tensor
    angle: Tensor

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        raw: list[tuple[float, float, bool]] = []  # mean, scale and whether it is an angle, per raw component
        rows: list[tuple[int, int, float, bool]] = []  # per feature: raw component, observation, phase, anchored
        for modality, item in enumerate(contract.observations):
            for mean, scale, kind in zip(item.mean, item.scale, item.encoding, strict=True):
                angle = kind == "angle"
                phases = (0.5 * math.pi, 0.0) if angle else (0.0,)  # cos x = sin(x + pi / 2)
                rows += [(len(raw), modality, phase, item.anchored) for phase in phases]
                raw.append((0.0, 1.0, True) if angle else (mean, scale, False))
        sources = [row[0] for row in rows]
        self.size = len(rows)
        self.anchors = [i for i, row in enumerate(rows) if row[3]]  # features that are kept readable in the latent
        self.any_angle = any(item[2] for item in raw)
        self.first = [sources.index(i) for i in range(len(raw))]  # first (or only) feature of each raw component
        self.last = [i + raw[sources[i]][2] for i in self.first]  # its sine where the first is a cosine
        for name, values in {
            "mean": torch.tensor([item[0] for item in raw]),
            "scale": torch.tensor([item[1] for item in raw]),
            "source": torch.tensor(sources),
            "modality": torch.tensor([row[1] for row in rows]),
            "shift": torch.tensor([row[2] for row in rows]),
            "angle": torch.tensor([item[2] for item in raw]),
        }.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, observation: Tensor) -> Tensor:
        """Features (..., F) of raw observations (..., O)."""
        return self.expand((observation - self.mean) / self.scale)

    def expand(self, normalised: Tensor) -> Tensor:
        """Features (..., F) of components (..., O) that are normalised already; angles in radians."""
        x = normalised[..., self.source]
        return torch.where(self.angle[self.source], torch.sin(x + self.shift), x) if self.any_angle else x

    def inverse(self, features: Tensor) -> Tensor:
        """Raw observations (..., O) of features (..., F); angles in (-pi, pi]."""
        x = features[..., self.first]
        if self.any_angle:
            x = torch.where(self.angle, torch.atan2(features[..., self.last], x), x)
        return x * self.scale + self.mean

    def spread(self, mask: Tensor) -> Tensor:
        """Mask of each feature (..., F) from the mask of each observation (..., M)."""
        return mask[..., self.modality]
