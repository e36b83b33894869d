"""Fused layers and losses on a CPU: the same numbers as the plain torch ones in models/networks.py, in a fraction of the time.

Small networks spend most of their time between the matrix products: bias, dropout, LayerNorm, Mish or SimNorm, softmax over
bins. Here each of those is one pass in C (models/kernels.c), forwards and backwards. Used inside `with kernels():` alone, so
that export, planning and tests see plain torch.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.kernel_build import keep_memory, library

GRAIN = 1 << 14  # numbers below which a second thread costs more than it brings

_current: ContextVar[ctypes.CDLL | None] = ContextVar("kernels", default=None)


@contextmanager
def kernels(wanted: bool = True) -> Iterator[bool]:
    """Use the kernels in this block where they could be built; yields whether they are in use."""
    found = library() if wanted else None
    if found is not None:
        keep_memory()
    token = _current.set(found)
    try:
        yield found is not None
    finally:
        _current.reset(token)


def usable(x: Tensor) -> bool:
    """Whether the kernels are in use and take this tensor."""
    return _current.get() is not None and x.device.type == "cpu" and x.dtype is torch.float32


class Layer(NamedTuple):
    """One layer of an MLP: a normed one, or (without gain and shift) a linear one, which must be the last.

    weight is (O, I) as in nn.Linear, the others (O,); or a stack: weight (Q, I, O), the others (Q, 1, O).
    """

    weight: Tensor
    bias: Tensor
    gain: Tensor | None = None
    shift: Tensor | None = None
    simplex: bool = False


def mlp(x: Tensor, layers: list[Layer], dropout: Tensor | None = None) -> Tensor:
    """Normed layers, act(LayerNorm((x W + bias) * dropout) * gain + shift) with act Mish or SimNorm, then perhaps a linear one.

    The gradient of parameters that require one is *added to their `.grad`* during the backward pass, as `backward` does, but in
    place and without a node for each.

    Args:
        x: (N, I); with stacks of weights the result is (Q, N, O).
        dropout: factors (Q, N, O) of the first layer, or None.
    """
    out: Tensor = _Mlp.apply(x, layers[0].weight, layers, dropout)  # type: ignore[no-untyped-call]
    return out


def cross_entropy(logits: Tensor, value: Tensor, limit: float) -> Tensor:
    """Two-hot cross entropy: logits (Q, ..., bins) or (..., bins) against value (...): as logits without the bins."""
    out: Tensor = _TwoHot.apply(logits, value, limit)  # type: ignore[no-untyped-call]
    return out


def expectation(logits: Tensor, limit: float) -> Tensor:
    """Scalar (...) that two-hot logits (..., bins) stand for."""
    out: Tensor = _Expectation.apply(logits, limit)  # type: ignore[no-untyped-call]
    return out


def _call(name: str, *arguments: Any) -> None:
    """Call a kernel; tensors travel as pointers and must be contiguous."""
    plain = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    if getattr(library(), name)(*plain) and name == "norm_backward":
        raise MemoryError(f"{name}: no memory for sums over rows")


def _threads(x: Tensor) -> int:
    return torch.get_num_threads() if x.numel() > GRAIN else 1


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, layers: list[Layer], dropout: Tensor | None) -> Tensor:
        """`first`, a weight, makes autograd record this even where `x` needs no gradient."""
        tape: list[tuple[Tensor | None, ...]] = []
        for weight, bias, gain, shift, simplex in layers:
            stacked = weight.dim() == 3
            if stacked and x.dim() == 2:
                x = x.expand(len(weight), -1, -1)
            if gain is None:
                tape.append((x,))
                x = torch.baddbmm(bias, x, weight) if stacked else torch.addmm(bias, x, weight.t())
                continue
            product = torch.bmm(x, weight) if stacked else torch.mm(x, weight.t())
            out, deviation = torch.empty_like(product), product.new_empty(product.shape[:-1])
            factors = None if tape else dropout
            given = (product, bias, factors, gain, shift, deviation, out)
            _call("norm_forward", *given, *_sizes(product), int(simplex), _threads(product))
            tape.append((x, product, deviation, factors, out.detach() if simplex else None))
            x = out
        ctx.layers, ctx.tape = layers, tape
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradient.contiguous()
        layers, tape = ctx.layers, ctx.tape
        for i in range(len(layers) - 1, -1, -1):
            weight, bias, gain, shift, _ = layers[i]
            x, *kept = tape[i]
            learns = weight.requires_grad
            if gain is None:
                if learns:
                    _gradient(bias).add_(gradient.sum(-2, keepdim=bias.dim() == 3))
            else:
                normalised, deviation, factors, out = kept
                product = torch.empty_like(normalised)
                sums = (_gradient(gain), _gradient(shift), _gradient(bias)) if learns else (None, None, None)
                saved = (normalised, out, gain, shift, factors, deviation)
                _call("norm_backward", gradient, *saved, product, *sums, *_sizes(product), _threads(product))
                gradient = product
            stacked = weight.dim() == 3
            if learns and stacked:
                _gradient(weight).baddbmm_(x.mT, gradient)
            elif learns:
                _gradient(weight).addmm_(gradient.t(), x)
            if i or ctx.needs_input_grad[0]:
                gradient = torch.bmm(gradient, weight.mT) if stacked else torch.mm(gradient, weight)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        return gradient.sum(0) if gradient.dim() == 3 else gradient, None, None, None


def _sizes(x: Tensor) -> tuple[int, int, int]:
    return (x.shape[0] if x.dim() == 3 else 1), x.shape[-2], x.shape[-1]


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


class _TwoHot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, value: Tensor, limit: float) -> Tensor:
        logits, value = logits.contiguous(), value.contiguous()
        loss = torch.empty(logits.shape[:-1])
        partition = torch.empty_like(loss)
        ctx.sizes = (loss.numel(), value.numel(), logits.shape[-1], limit, _threads(logits))
        _call("two_hot_forward", logits, value, partition, loss, *ctx.sizes)
        ctx.save_for_backward(logits, value, partition)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        logits, value, partition = ctx.saved_tensors
        dlogits = torch.empty_like(logits)
        _call("two_hot_backward", dloss.contiguous(), logits, value, partition, dlogits, *ctx.sizes)
        return dlogits, None, None


class _Expectation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, limit: float) -> Tensor:
        logits = logits.contiguous()
        value = torch.empty(logits.shape[:-1])
        partition, mean = torch.empty_like(value), torch.empty_like(value)
        ctx.sizes = (value.numel(), logits.shape[-1], limit, _threads(logits))
        _call("expectation_forward", logits, partition, mean, value, *ctx.sizes)
        ctx.save_for_backward(logits, partition, mean)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dvalue: Tensor) -> tuple[Tensor | None, ...]:
        logits, partition, mean = ctx.saved_tensors
        dlogits = torch.empty_like(logits)
        _call("expectation_backward", dvalue.contiguous(), logits, partition, mean, dlogits, *ctx.sizes)
        return dlogits, None
