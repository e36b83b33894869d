"""From a world model to a bundle: traced graphs, parity against PyTorch, golden samples, and weights for fine-tuning.

Tracing takes a quarter of a minute, so a flywheel that exports after every episode keeps a `BundleTemplate`: it puts new weights
into the graphs that were traced once. Graphs are self-contained files (any ONNX tool opens one), at the price of holding the
weights that several graphs share more than once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import torch

from models.costs import cost_of
from models.families import make_model
from models.graphs import graph_modules, reweight, signatures, trace
from models.networks import Sizes
from models.parity import TOLERANCE, TOLERANCES, Draw, as_golden, golden_sample, parity
from models.train_config import discount_for
from models.world_model import WorldModel
from robot_wm.bundle import Bundle, Manifest, PlannerDefaults, load_bundle, write_bundle
from robot_wm.contract import Contract
from robot_wm.errors import BundleError
from robot_wm.verify import write_golden

DRAWS = 4  # random inputs per graph in a full export


def export_bundle(
    world_model: WorldModel,
    contract: Contract,
    path: Path | str,
    planner: PlannerDefaults | None = None,
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    name: str = "",
    discount: float | None = None,
    terminations: bool = False,
) -> Bundle:
    """Trace every graph and write a checked bundle at `path` (replaced as a whole where one exists).

    Args:
        planner: sizes and constants of the planner's graphs.
        name: of the bundle (default: the last part of `path`).
        discount: per model step (default: from the contract, as the trainer's).
        terminations: plan with the predicted probability that the episode goes on.

    Raises:
        BundleError: a graph's output is not finite, or differs from PyTorch by more than the tolerance; nothing is written.
    """
    template = BundleTemplate.trace(world_model, contract, planner, discount, terminations)
    return template.write(world_model, path, provenance, metrics, name, draws=DRAWS)


def export_again(bundle: Path | str, path: Path | str, contract: Contract | None = None) -> Bundle:
    """Write the weights of `bundle` at `path` with the graphs of this version, its name, budget, history and metrics kept, and
    whatever else lies in its folder.

    Args:
        contract: in place of the bundle's own, with the same model-facing part; its costs are built in.

    Raises:
        BundleError: the bundle is damaged, has no weights, or its new graphs differ from PyTorch.
        ContractError: the contract is for another model.
    """
    found = load_bundle(bundle)
    if contract is not None:
        contract.require_same(found.contract, f"bundle {found.path}")
    kept, old = found.manifest, BundleTemplate.load(bundle)
    beside = {file.name: file.read_bytes() for file in found.path.iterdir() if file.is_file()}
    written = export_bundle(
        load_world_model(found), contract or found.contract, path, kept.planner, kept.provenance, kept.metrics,
        kept.name, kept.discount, old.terminations,
    )  # fmt: skip
    for name, content in beside.items():
        if not (written.path / name).exists():  # learning curves, notes
            (written.path / name).write_bytes(content)
    return written


class BundleTemplate:
    """Traced graphs of one contract, size and planner, ready to take other weights."""

    def __init__(self, contract: Contract, manifest: Manifest, terminations: bool, graphs: dict[str, onnx.ModelProto]):
        """Keep what `trace` or `load` made; `manifest` gives everything that does not depend on the weights."""
        self.contract = contract
        self.manifest = manifest
        self.terminations = terminations
        self._graphs = graphs

    @classmethod
    def trace(
        cls,
        world_model: WorldModel,
        contract: Contract,
        planner: PlannerDefaults | None = None,
        discount: float | None = None,
        terminations: bool = False,
    ) -> BundleTemplate:
        """Trace every graph of a world model; takes a quarter of a minute, needs no particular weights."""
        manifest = Manifest(
            name="",
            family=world_model.family,
            size=world_model.sizes.name,
            latent=world_model.latent_size,
            initial_latent=(),
            discount=discount_for(contract) if discount is None else discount,
            contract_hash=contract.hash,
            planner=planner or PlannerDefaults(),
        )
        model = _distinct(_portable(world_model, contract))
        draw = Draw(model, contract, manifest.planner, seed=0)
        cost = cost_of(model, contract)
        modules = graph_modules(model, manifest.planner, manifest.discount, terminations, cost)
        graphs = trace(signatures(contract), modules, {name: draw.inputs(name) for name in modules})
        for name, graph in graphs.items():
            onnx.helper.set_model_props(graph, _metadata(name, contract, manifest.family, terminations))
        return cls(contract, manifest, terminations, graphs)

    @classmethod
    def load(cls, path: Path | str, contract: Contract | None = None) -> BundleTemplate:
        """Take the graphs of an existing bundle. Raises BundleError or ContractError where it does not fit."""
        bundle = load_bundle(path, contract)
        graphs = {name: onnx.load(bundle.graph(name)) for name in signatures(bundle.contract)}
        metadata = {item.key: item.value for item in graphs["refine"].metadata_props}
        return cls(bundle.contract, bundle.manifest, metadata.get("terminations") == "true", graphs)

    def write(
        self,
        world_model: WorldModel,
        path: Path | str,
        provenance: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        name: str = "",
        draws: int = 1,
        seed: int = 0,
    ) -> Bundle:
        """Write a bundle with the present weights of `world_model`, each graph compared with PyTorch on `draws` random inputs.

        Raises:
            BundleError: the model is of another family or size than the graphs, or as `export_bundle`.
        """
        if world_model.family != self.manifest.family:
            raise BundleError(
                f"{path}: a model of family {world_model.family} does not fit graphs of {self.manifest.family}"
            )
        if (world_model.sizes.name, world_model.latent_size) != (self.manifest.size, self.manifest.latent):
            raise BundleError(
                f"{path}: a model of size {world_model.sizes.name} does not fit graphs of {self.manifest.size}"
            )
        model = _portable(world_model, self.contract)
        cost = cost_of(model, self.contract)
        modules = graph_modules(model, self.manifest.planner, self.manifest.discount, self.terminations, cost)
        for graph, module in modules.items():
            reweight(self._graphs[graph], module)
        rounds = [Draw(model, self.contract, self.manifest.planner, seed + i) for i in range(draws)]
        samples = {graph: [golden_sample(draw, graph, module) for draw in rounds] for graph, module in modules.items()}
        errors = self._check(samples, path)
        manifest = replace(
            self.manifest,
            name=name or Path(path).name,
            initial_latent=tuple(model.initial_latent.tolist()),
            provenance=dict(provenance or {}),
            metrics=dict(metrics or {}),
            parity=errors,
        )

        def fill(directory: Path) -> None:
            (directory / "graphs").mkdir()
            for graph, proto in self._graphs.items():
                (directory / "graphs" / f"{graph}.onnx").write_bytes(proto.SerializeToString(deterministic=True))
            self.contract.save(directory / "contract.yaml")
            write_golden(directory, as_golden({graph: several[0] for graph, several in samples.items()}))
            torch.save(model.state_dict(), directory / "weights.pt")

        return write_bundle(path, manifest, fill)

    def _check(self, samples: Mapping[str, list[Any]], path: Path | str) -> dict[str, float]:
        errors = {}
        for name, several in samples.items():
            errors[name] = max(parity(name, self._graphs[name], self.contract, sample) for sample in several)
            allowed = TOLERANCES.get(name, TOLERANCE)
            if not errors[name] <= allowed:
                raise BundleError(
                    f"{path}: not written: graph {name} differs from PyTorch by {errors[name]:.2g} on random inputs "
                    f"(allowed: {allowed:g})"
                )
        return errors


def load_world_model(bundle: Bundle | Path | str, sizes: Sizes | None = None) -> WorldModel:
    """The PyTorch model of a bundle, for fine-tuning; `sizes` where the bundle's size is no preset.

    Raises:
        BundleError: the bundle is damaged, or its weights are missing or do not fit.
    """
    found = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    file = found.path / "weights.pt"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        model = make_model(found.contract, sizes or found.manifest.size, found.manifest.family)
        model.load_state_dict(state)
    except FileNotFoundError as error:
        raise BundleError(f"{found.path}: has no weights.pt, so training cannot start from it") from error
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        raise BundleError(f"{file}: does not fit the bundle: {str(error).splitlines()[0]}") from error
    return model


def _portable(world_model: WorldModel, contract: Contract) -> WorldModel:
    """A copy on the CPU in evaluation mode, so that training goes on undisturbed, on whatever device."""
    model = make_model(contract, world_model.sizes, world_model.family)
    model.load_state_dict({key: value.detach().cpu() for key, value in world_model.state_dict().items()})
    model.requires_grad_(False)
    return model.eval()


def _distinct(model: WorldModel) -> WorldModel:
    """Disturb every weight: the exporter merges equal ones and drops neutral ones, which later weights are not."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    return model


def _metadata(graph: str, contract: Contract, family: str, terminations: bool) -> dict[str, str]:
    return {
        "graph": graph,
        "family": family,
        "contract_hash": contract.hash,
        "contract": json.dumps(contract.model_facing(), sort_keys=True, separators=(",", ":")),
        "terminations": "true" if terminations else "false",
    }
