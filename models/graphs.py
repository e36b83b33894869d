"""The verbs of a world model as single-purpose modules, and their tracing to ONNX (signatures: docs/architecture.md)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.utils
import torch
from onnxscript import opset18 as op
from torch import Tensor, nn

from models.networks import expectation
from models.planner_graph import Propose, Refine
from models.world_model import WorldModel
from robot_wm.bundle import PlannerDefaults, image_graph
from robot_wm.contract import Contract

OPSET = 18  # the first with everything the graphs need; ONNX Runtime 1.23, the last for Python 3.10, reads up to 23
IR_VERSION = 10


@dataclass(frozen=True)
class Signature:
    """Input and output names of one graph, and what the first dimension of some inputs is called where it is free."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    free: dict[str, str] | None = None  # input → name; None: all of them are a batch of N


SIGNATURES = {
    "encode": Signature(("observation", "mask", "age"), ("embedding",)),
    "posterior": Signature(("prior_latent", "embedding", "mask"), ("latent",)),
    "prior": Signature(("latent", "action"), ("next_latent",)),
    "policy": Signature(("latent",), ("action",)),
    "heads": Signature(("latent", "action"), ("reward", "value", "disagreement")),
    "propose": Signature(("latent", "noise"), ("proposals",), free={}),
    "refine": Signature(
        (
            *("latent", "mean", "std", "noise", "proposals", "low", "high", "rate", "jerk", "previous"),
            *("temperature", "action_cost", "change_cost", "disagreement_cost", "elites"),
        ),
        ("next_mean", "next_std", "best", "value", "elite_value", "disagreement"),
        free={"noise": "S"},
    ),
    "readout": Signature(("latent",), ("observation",)),
}


def signatures(contract: Contract) -> dict[str, Signature]:
    """The signature of every graph of a bundle for this contract: one more for each image."""
    encoders = {image_graph(image.name): Signature(("image",), ("embedding",)) for image in contract.images}
    return SIGNATURES | encoders


class Verb(nn.Module):
    """One verb of a world model as a module."""

    def __init__(self, model: WorldModel, verb: str) -> None:
        super().__init__()
        self.model = model
        self.verb = verb

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.model, self.verb)(*inputs)


class ImageVerb(nn.Module):
    """Graph `encode_<name>`: the embedding of one image."""

    def __init__(self, model: WorldModel, name: str) -> None:
        super().__init__()
        self.model = model
        self.name = name

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.encode_image(self.name, inputs[0])


class Policy(Verb):
    """Graph `policy`: the mean action."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.policy(inputs[0]).mean


class Heads(Verb):
    """Graph `heads`: reward, mean of all value heads and their standard deviation, each (N,)."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        latent, action = inputs
        values = expectation(self.model.values(latent, action))
        return expectation(self.model.reward(latent, action)), values.mean(0), values.std(0, unbiased=False)


def graph_modules(
    model: WorldModel,
    planner: PlannerDefaults,
    discount: float,
    terminations: bool = False,
    cost: nn.Module | None = None,
) -> dict[str, nn.Module]:
    """Every graph's module, in evaluation mode, on the model's weights as they are now; arguments as `Refine`'s."""
    modules: dict[str, nn.Module] = {name: Verb(model, name) for name in ("encode", "posterior", "prior", "readout")}
    modules["policy"] = Policy(model, "policy")
    modules["heads"] = Heads(model, "heads")
    modules["propose"] = Propose(model, planner.horizon)
    modules["refine"] = Refine(model, planner, discount, terminations, cost)
    encoders = {image_graph(image.name): ImageVerb(model, image.name) for image in model.images}
    return {name: module.eval() for name, module in ({name: modules[name] for name in SIGNATURES} | encoders).items()}


def evaluate(signature: Signature, module: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run a graph's module in PyTorch."""
    with torch.no_grad():
        result = module(*(inputs[key] for key in signature.inputs))
    results = (result,) if isinstance(result, Tensor) else result
    return dict(zip(signature.outputs, results, strict=True))


class _Together(nn.Module):
    """Several graphs' modules as one: all their inputs in a row, all their outputs.

    A part that several graphs share is registered once, under one name: the exporter's time grows with the names of parameters.
    """

    def __init__(self, known: Mapping[str, Signature], modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.graphs = tuple(modules.values())
        self.parts = nn.ModuleList({part: None for module in self.graphs for part in module.children()})
        self.counts = [len(known[name].inputs) for name in modules]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        rest, outputs = list(inputs), []
        for module, count in zip(self.graphs, self.counts, strict=True):
            result = module(*rest[:count])
            outputs += [result] if isinstance(result, Tensor) else result
            rest = rest[count:]
        return tuple(outputs)


def trace(
    known: Mapping[str, Signature], modules: Mapping[str, nn.Module], inputs: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, onnx.ModelProto]:
    """Trace graphs on example inputs (a batch of two or more where it is free), by name.

    They are traced together and cut apart, since most of the exporter's time does not depend on what it is given. Initialisers
    keep the names of their module's parameters, so that `reweight` finds them; for that, no two of these may be equal. Nothing
    of this machine (paths, stack traces) stays in a graph: equal weights give equal bytes.
    """
    dims = {"N": torch.export.Dim("N", min=1, max=65536), "S": torch.export.Dim("S", min=2, max=65536)}
    arguments, dynamic, ins, outs = [], [], [], []
    for name in modules:
        signature = known[name]
        free = dict.fromkeys(signature.inputs, "N") if signature.free is None else signature.free
        arguments += [inputs[name][key] for key in signature.inputs]
        dynamic += [{0: dims[free[key]]} if key in free else None for key in signature.inputs]
        ins += _edges(name, signature.inputs)
        outs += _edges(name, signature.outputs)
    with _quiet():
        program = torch.onnx.export(
            _Together(known, modules).eval(),
            tuple(arguments),
            dynamo=True,
            opset_version=OPSET,
            input_names=ins,
            output_names=outs,
            dynamic_shapes={"inputs": tuple(dynamic)},
            custom_translation_table={torch.ops.aten.mish.default: _mish},
            verbose=False,
        )
    assert program is not None  # only the older exporter returns nothing
    whole = program.model_proto
    whole.ir_version = IR_VERSION
    _strip(whole)
    cutter = onnx.utils.Extractor(whole)
    return {name: _cut(cutter, name, known[name], module) for name, module in modules.items()}


def _edges(graph: str, keys: tuple[str, ...]) -> list[str]:
    return [f"{graph}.{key}" for key in keys]


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_buffers(remove_duplicate=False)) | dict(module.named_parameters(remove_duplicate=False))


def _cut(cutter: onnx.utils.Extractor, name: str, signature: Signature, module: nn.Module) -> onnx.ModelProto:
    """One graph of several: edges named as in its signature, initialisers as in its module's parameters, which they equal."""
    ins, outs = _edges(name, signature.inputs), _edges(name, signature.outputs)
    model = cutter.extract_model(ins, outs)
    _strip(model)
    own = {(tuple(x.shape), x.detach().numpy().tobytes()): key for key, x in _tensors(module).items()}
    names = dict(zip((*ins, *outs), (*signature.inputs, *signature.outputs), strict=True))
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        found = own.get((value.shape, value.tobytes())) if value.dtype == np.float32 else None
        names[tensor.name] = found or f"constant.{tensor.name}"
    taken = set(names.values())
    for node in model.graph.node:
        for edge in node.output:
            if edge not in names and edge in taken:
                names[edge] = f"inner.{edge}"
    for item in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        item.name = names[item.name]
    for node in model.graph.node:
        node.input[:] = [names.get(edge, edge) for edge in node.input]
        node.output[:] = [names.get(edge, edge) for edge in node.output]
    return model


def reweight(model: onnx.ModelProto, module: nn.Module) -> None:
    """Replace every initialiser that is named like a parameter of `module` by that parameter's present value."""
    weights = module.state_dict()
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            value = weights[tensor.name].detach().cpu().contiguous()
            if list(value.shape) != list(tensor.dims) or value.dtype != torch.float32:
                raise ValueError(f"{tensor.name}: {tuple(value.shape)} does not fit the traced {list(tensor.dims)}")
            tensor.raw_data = value.numpy().tobytes()


def _mish(x):  # type: ignore[no-untyped-def]  # onnxscript reads the annotations of a translation as ONNX types
    """x * tanh(softplus(x)) = x - x / (u² / 2 + 1/2) with u = e^x + 1: three times as fast as ONNX Runtime's Mish on a CPU.

    No clamp is needed: where e^x overflows, the quotient is 0.
    """
    u = op.Add(op.Exp(x), 1.0)
    return op.Sub(x, op.Div(x, op.Add(op.Mul(op.Mul(u, u), 0.5), 0.5)))


def _strip(model: onnx.ModelProto) -> None:
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    graph = model.graph
    graph.ClearField("value_info")
    graph.name = "main"
    for item in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's notes are about its own internals; a failure still raises."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
