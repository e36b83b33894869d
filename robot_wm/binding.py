"""A graph's inputs and outputs bound once: one block of memory holds all inputs, another all outputs, and neither ever moves.

On a GPU a run then costs one transfer each way, however many inputs and outputs there are, and its kernels can be captured
and replayed as one (a CUDA graph), which needs addresses that stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

ALIGNMENT = 64  # numbers; 256 bytes, as a GPU allocates


class Binding:
    """Runs a session whose inputs and outputs are all float32 and of fixed shape; for one thread at a time."""

    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        """Reserve the blocks on `device`, "cpu" or "cuda". Raises ValueError for an input or output that is not as said."""
        self._session = session
        self._inputs = _Block(session.get_inputs(), device)
        self._outputs = _Block(session.get_outputs(), device)
        self._bound = session.io_binding()
        for name, view in self._inputs.views.items():
            self._bound.bind_input(name, device, 0, np.float32, view.shape, self._inputs.address(name))
        for name, view in self._outputs.views.items():
            self._bound.bind_output(name, device, 0, np.float32, view.shape, self._outputs.address(name))

    def capture(self) -> None:
        """Run on zeros, so that a GPU records its kernels now and not in the first plan."""
        self._session.run_with_iobinding(self._bound)

    @property
    def finite(self) -> bool:
        """Whether all outputs of the last run are: one look at the block costs less than one at each."""
        return bool(np.isfinite(self._outputs.fetched).all())

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Float32]:
        """Every input by name, in any type that float32 takes → every output by name; the arrays returned are the caller's.

        Raises:
            ValueError: an input is missing, unknown or of another shape.
        """
        views = self._inputs.views
        if inputs.keys() != views.keys():
            raise ValueError(f"missing or unknown inputs: {', '.join(sorted(inputs.keys() ^ views.keys()))}")
        for name, value in inputs.items():
            if value.shape != views[name].shape:
                raise ValueError(f"input {name!r} has shape {value.shape} where {views[name].shape} is bound")
            views[name][...] = value
        self._inputs.send()
        self._session.run_with_iobinding(self._bound)
        return self._outputs.fetch()


class _Block:
    """Arrays side by side in one piece of memory on a device, and in one on the host."""

    def __init__(self, items: Sequence[Any], device: str) -> None:
        for item in items:
            if item.type != "tensor(float)" or not all(isinstance(size, int) for size in item.shape):
                raise ValueError(f"{item.name!r} is {item.type} {item.shape}: only float32 of fixed shape can be bound")
        self._places: dict[str, tuple[slice, list[int]]] = {}
        end = 0
        for item in items:
            start = -(-end // ALIGNMENT) * ALIGNMENT
            end = start + math.prod(item.shape)
            self._places[item.name] = slice(start, end), item.shape
        self._host = np.zeros(end, np.float32)
        self._memory = None if device == "cpu" else ort.OrtValue.ortvalue_from_numpy(self._host, device, 0)
        self._base = self._host.ctypes.data if self._memory is None else self._memory.data_ptr()
        self.views = self._cut(self._host)
        self.fetched = self._host

    def address(self, name: str) -> int:
        return self._base + int(self._places[name][0].start) * self._host.itemsize

    def send(self) -> None:
        """Host to device."""
        if self._memory is not None:
            self._memory.update_inplace(self._host)

    def fetch(self) -> dict[str, Float32]:
        """What is on the device now, by name: cut from `fetched`, a copy of the whole."""
        self.fetched = self._host.copy() if self._memory is None else self._memory.numpy()
        return self._cut(self.fetched)

    def _cut(self, block: Float32) -> dict[str, Float32]:
        return {name: block[place].reshape(shape) for name, (place, shape) in self._places.items()}
