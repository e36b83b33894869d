"""Is this bundle, on this machine and execution provider, the model that was exported? Golden parity of every graph.

`golden.npz` holds inputs and outputs of every graph (`<graph>/in/<name>`, `<graph>/out/<name>`). Not a number in a golden output
means that the inputs do not determine it: a tie between elites, the angle of a vector of length zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from robot_wm.backend import Float32, Model
from robot_wm.bundle import Bundle, graphs_for
from robot_wm.contract import Contract
from robot_wm.errors import BackendError, BundleError

# Largest error allowed, by provider: CUDA multiplies in TF32, TensorRT in half precision.
TOLERANCES = {"cpu": 1e-3, "openvino": 1e-3, "cuda": 1e-2, "tensorrt": 5e-2, "openvino-bf16": 1e-1}
EXACT = 1e-3  # up to this tolerance the same rollouts must become elites
CHOSEN = ("next_mean", "next_std", "best")  # outputs of `refine` that depend on which rollouts are elites

Array = NDArray[np.float32] | NDArray[np.uint8]
Golden = dict[str, tuple[dict[str, Any], dict[str, Any]]]  # graph → (inputs, outputs), each by name


@dataclass(frozen=True)
class Verification:
    """What `verify_on_device` found: the largest error of each graph, none above `tolerance`."""

    bundle_id: str
    provider: str
    tolerance: float
    errors: dict[str, float]


def verify_on_device(bundle: Bundle, model: Model, tolerance: float | None = None) -> Verification:
    """Run every graph of `model` on the bundle's golden inputs and compare with its golden outputs.

    Args:
        tolerance: largest error allowed, absolute below 1 and relative above (default: by the provider of each graph).

    Raises:
        BundleError: the golden file is unusable, a graph belongs to another contract, returns something that is not finite
            or differs; the message names the graph.
    """
    errors, largest = {}, 0.0
    for name, (inputs, expected) in read_golden(bundle).items():
        session = model.sessions[name]
        limit = TOLERANCES[session.provider] if tolerance is None else tolerance
        largest = max(largest, limit)
        embedded = session.metadata.get("contract_hash")
        if embedded != bundle.contract.hash:
            raise BundleError(
                f"{bundle.path}: graph {name} was exported for contract {embedded}, not {bundle.contract.hash}"
            )
        try:
            got = session.run(**inputs)
        except BackendError as error:
            raise BundleError(f"{bundle.path}: graph {name} fails on its golden inputs: {error}") from error
        compared = [key for key in expected if limit <= EXACT or name != "refine" or key not in CHOSEN]
        wraps = angle_columns(bundle.contract) if name == "readout" else []
        errors[name] = max(largest_error(expected[key], got[key], wraps) for key in compared)
        if not errors[name] <= limit:
            raise BundleError(
                f"{bundle.path}: graph {name} differs from its golden outputs by {errors[name]:.2g} (allowed: {limit:g} on "
                f"{session.provider}): the graph was altered, or this provider computes it wrongly"
            )
    return Verification(bundle.bundle_id, model.provider, largest, errors)


def read_golden(bundle: Bundle) -> Golden:
    """The golden inputs and outputs of every graph. Raises BundleError when the file is missing, damaged or incomplete."""
    file = bundle.path / "golden.npz"
    try:
        with np.load(file) as archive:
            arrays = {key: as_fed(archive[key]) for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise BundleError(f"{file}: cannot be read: {error}; export the bundle again") from error
    golden: Golden = {name: ({}, {}) for name in graphs_for(bundle.contract)}
    for key, value in arrays.items():
        graph, side, name = (*key.split("/"), "", "")[:3]
        if graph not in golden or side not in ("in", "out"):
            raise BundleError(f"{file}: holds {key!r}, which is no graph's input or output")
        golden[graph][side == "out"][name] = value
    for graph, (_, outputs) in golden.items():
        if not outputs:
            raise BundleError(f"{file}: holds nothing for graph {graph}; export the bundle again")
    return golden


def write_golden(directory: Path, golden: Golden) -> None:
    """Write `golden.npz` into a bundle's directory; equal arrays give equal bytes."""
    arrays = {}
    for graph, (inputs, outputs) in golden.items():
        arrays.update({f"{graph}/in/{name}": value for name, value in inputs.items()})
        arrays.update({f"{graph}/out/{name}": value for name, value in outputs.items()})
    np.savez(directory / "golden.npz", **arrays)


def as_fed(values: NDArray[Any]) -> Array:
    """Numbers as a graph takes them: images are bytes, everything else is in single precision."""
    return values if values.dtype == np.uint8 else np.asarray(values, np.float32)


def largest_error(expected: Float32, got: Float32, wraps: list[int] | None = None) -> float:
    """Largest difference, divided by the expected value where that is above 1; infinite for another shape or NaN in `got`.

    Args:
        wraps: columns of the last dimension that are angles [rad], compared modulo a turn.
    """
    if expected.shape != got.shape or not np.isfinite(got).all():
        return float("inf")
    difference = np.asarray(got, np.float64) - expected
    for column in wraps or []:
        angle = difference[..., column]
        difference[..., column] = angle - 2 * np.pi * np.round(angle / (2 * np.pi))
    scaled = np.abs(difference) / np.maximum(1.0, np.abs(expected))
    return float(np.max(scaled[np.isfinite(expected)], initial=0.0))


def angle_columns(contract: Contract) -> list[int]:
    """Where the angles are in the concatenated raw observation."""
    kinds = [kind for item in contract.observations for kind in item.encoding]
    return [i for i, kind in enumerate(kinds) if kind == "angle"]
