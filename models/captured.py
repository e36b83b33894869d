"""One CUDA graph for a function of tensors.

An update of a small model is thousands of kernels, and launching them one by one takes longer than they do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture, in which libraries choose their algorithms and allocate


class Captured:
    """`function` with its tensors in fixed places; from the fourth call on it is a replay of what was captured.

    The function takes tuples of tensors (nested, some None) that keep their shapes, returns tensors, and never waits for the
    device. Results are overwritten by the next call.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._inputs: tuple[Any, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, *inputs: Any) -> tuple[Tensor, ...]:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            self._place(inputs)
            if self._graph is not None:
                self._graph.replay()
            elif self._calls < WARM_UP:
                self._outputs = self._function(*self._inputs)
            else:
                self._capture()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self._calls += 1
        return self._outputs

    def _place(self, inputs: tuple[Any, ...]) -> None:
        if not self._inputs:
            self._inputs = to_device(inputs, self._device)
            return
        for place, value in zip(leaves(self._inputs), leaves(inputs), strict=True):
            place.copy_(value, non_blocking=True)

    def _capture(self) -> None:
        graph = torch.cuda.CUDAGraph()
        self._stream.synchronize()
        # Other threads may allocate meanwhile, for models of their own.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            self._outputs = self._function(*self._inputs)
        graph.replay()
        self._graph = graph


def leaves(tree: Any) -> list[Tensor]:
    """The tensors of nested tuples, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    return [] if tree is None else [leaf for part in tree for leaf in leaves(part)]


def to_device(tree: Any, device: torch.device) -> Any:
    """Copies of the tensors of nested (named) tuples on `device`, in the same tuples."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return tree.to(device, copy=True)
    return rebuild(tree, [to_device(part, device) for part in tree])


def pinned(tree: Any) -> Any:
    """The same in memory from which a device copies without waiting."""
    if tree is None:
        return None
    if isinstance(tree, Tensor):
        return tree.pin_memory()
    return rebuild(tree, [pinned(part) for part in tree])


def rebuild(tree: Any, parts: list[Any]) -> Any:
    """A (named) tuple like `tree` of other parts."""
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
