"""Random inputs for every graph, PyTorch's answers to them, and how far ONNX Runtime is from those."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from models.graphs import evaluate, signatures
from models.late_images import paired
from models.planner_graph import Refine, bounded
from models.world_model import WorldModel
from robot_wm.backend import Float32
from robot_wm.bundle import PlannerDefaults, image_graph
from robot_wm.contract import Contract
from robot_wm.errors import BundleError
from robot_wm.verify import CHOSEN, Golden, angle_columns, as_fed, largest_error

TOLERANCE = 1e-4  # largest error of a graph against PyTorch, absolute below 1 and relative above
# Policy rollouts chain `horizon` samples whose standard deviation reaches e^2: rounding grows by that much per step.
# A disagreement is the small difference of large values: their rounding, not its own.
TOLERANCES = {"propose": 1e-3, "refine": 1e-3, "heads": 1e-3}
TIE = 1e-5  # scores closer than this, relative to the largest, may change places between two implementations
SHORT = 0.02  # length of a (cosine, sine) pair below which its angle is not compared
BATCH = 16


class Draw:
    """Random inputs for a world model's graphs, from one generator.

    Observations spread as the contract normalises them, with missing and late ones; latents are ones that the model reaches.
    """

    def __init__(self, model: WorldModel, contract: Contract, planner: PlannerDefaults, seed: int) -> None:
        self.model = model
        self.contract = contract
        self.planner = planner
        self.generator = torch.Generator().manual_seed(seed)
        self._signatures = signatures(contract)

    def inputs(self, name: str, batch: int = BATCH) -> dict[str, Tensor]:
        """One random input of a graph; batched ones with `batch` rows, of which one has no observation at all."""
        actions = self.contract.action.size
        if name in ("propose", "refine"):
            return self._propose() if name == "propose" else self._refine()
        for image in self.contract.images:
            if name == image_graph(image.name):
                return {"image": self._pixels(batch, image.shape)}
        observation, mask, age = self._observations(batch)
        if name == "encode":
            return {"observation": observation, "mask": mask, "age": age}
        latent = self.latents(batch)
        if name == "posterior":
            with torch.no_grad():
                embedding = self._embedding(observation, mask, age)
            return {"prior_latent": latent, "embedding": embedding, "mask": mask}
        action = self._uniform(batch, actions)
        return {"latent": latent, "action": action} if "action" in self._signatures[name].inputs else {"latent": latent}

    def latents(self, count: int) -> Tensor:
        """Latents (count, L) two random steps and observations away from the initial one."""
        model = self.model
        z = model.initial_latent.expand(count, -1)
        with torch.no_grad():
            for _ in range(2):
                observation, mask, age = self._observations(count)
                z = model.posterior(z, self._embedding(observation, mask, age), mask)
                z = model.prior(z, self._uniform(count, self.contract.action.size))
        return z

    def _observations(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        mean = torch.tensor([x for o in self.contract.observations for x in o.mean])
        scale = torch.tensor([x for o in self.contract.observations for x in o.scale])
        angle = torch.zeros(len(mean), dtype=torch.bool)
        angle[angle_columns(self.contract)] = True
        linear = mean + scale * self._normal(count, len(mean))
        observation = torch.where(angle, math.pi * self._uniform(count, len(mean)), linear)
        mask = (self._uniform(count, len(self.contract.modalities)) > -0.5).float()
        mask[0] = 1.0
        if count > 1:
            mask[1] = 0.0
        sizes = torch.tensor([o.size for o in self.contract.observations])
        seen = mask[:, : len(sizes)].repeat_interleave(sizes, dim=1)
        return observation * seen, mask, 0.5 * self._uniform(*mask.shape)

    def _embedding(self, observation: Tensor, mask: Tensor, age: Tensor) -> Tensor:
        """Embedding (N, E) of these observations and of random images."""
        model, count = self.model, len(mask)
        views = [model.encode_image(item.name, self._pixels(count, item.shape)) for item in self.contract.images]
        every = mask.expand(2, *mask.shape)  # as if the frame before had been there, too
        together = paired(model, [view.expand(2, *view.shape) for view in views], every) if views else []
        return model.join(model.encode(observation, mask, age), [view[1] for view in together], mask)

    def _pixels(self, count: int, shape: tuple[int, int, int]) -> Tensor:
        return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=self.generator)

    def _propose(self) -> dict[str, Tensor]:
        planner = self.planner
        shape = (planner.proposals, planner.horizon, self.contract.action.size)
        return {"latent": self.latents(1), "noise": self._normal(*shape)}

    def _refine(self) -> dict[str, Tensor]:
        planner, actions = self.planner, self.contract.action.size
        shape = (planner.horizon, actions)
        # Few samples reach a bound: sequences that are clamped to the same corner would tie.
        return {
            "latent": self.latents(1),
            "mean": 0.2 * self._uniform(*shape),
            "std": 0.3 + 0.1 * self._uniform(*shape),
            "noise": self._normal(planner.samples, *shape),
            "proposals": 0.7 * self._uniform(planner.proposals, *shape),
            "low": -0.9 + 0.1 * self._uniform(actions),
            "high": 0.9 + 0.1 * self._uniform(actions),
            "rate": 1.5 + 0.3 * self._uniform(actions),
            "jerk": 0.8 + 0.1 * self._uniform(actions),
            "previous": 0.2 * self._uniform(2, actions),
            "temperature": 0.5 + 0.1 * self._uniform(),
            "action_cost": 0.1 + 0.1 * self._uniform(actions),
            "change_cost": 0.1 + 0.1 * self._uniform(actions),
            "disagreement_cost": 0.1 + 0.1 * self._uniform(),
            "elites": torch.tensor(float(planner.elites)),
        }

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def _uniform(self, *shape: int) -> Tensor:
        return 2.0 * torch.rand(shape, generator=self.generator) - 1.0


def golden_sample(
    draw: Draw, name: str, module: nn.Module, tries: int = 8
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random inputs of a graph and PyTorch's outputs, with NaN for what the inputs do not determine (robot_wm/verify.py).

    Raises:
        BundleError: the model itself returns something that is not finite.
    """
    inputs = draw.inputs(name)
    tied = False
    if isinstance(module, Refine):
        for _ in range(tries):
            tied = elite_gap(module, inputs) < TIE
            if not tied:
                break
            inputs = draw.inputs(name)
    outputs = evaluate(signatures(draw.contract)[name], module, inputs)
    for key, value in outputs.items():
        if not value.isfinite().all():
            raise BundleError(
                f"graph {name} is not exported: its output {key} is not finite in PyTorch; train a sound model"
            )
    if tied:
        outputs |= {key: torch.full_like(outputs[key], torch.nan) for key in CHOSEN}
    if name == "readout":
        outputs["observation"] = _determined(draw.model, inputs["latent"], outputs["observation"])
    return inputs, outputs


def elite_gap(module: Refine, inputs: Mapping[str, Tensor]) -> float:
    """Smaller distance, relative to the best score, of best to second and of the last elite to the next sample."""
    with torch.no_grad():
        samples = torch.cat([inputs["mean"] + inputs["std"] * inputs["noise"], inputs["proposals"]])
        samples = bounded(samples, *(inputs[key] for key in ("low", "high", "rate", "jerk", "previous")))
        costs = (inputs[key] for key in ("previous", "action_cost", "change_cost", "disagreement_cost"))
        scores = module.evaluate(inputs["latent"], samples, *costs)[0].sort(descending=True).values
    elites = int(inputs["elites"])
    gap = torch.minimum(scores[0] - scores[1], scores[elites - 1] - scores[elites])
    return float(gap / scores[0].abs().clamp(min=1e-3))


def parity(
    name: str, graph: onnx.ModelProto, contract: Contract, sample: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
) -> float:
    """Largest error of ONNX Runtime on the CPU against PyTorch's outputs."""
    inputs, outputs = sample
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    results = session.run(list(outputs), {key: value.numpy() for key, value in inputs.items()})
    wraps = angle_columns(contract) if name == "readout" else []
    pairs = zip(outputs.values(), results, strict=True)
    return max(largest_error(expected.numpy(), got, wraps) for expected, got in pairs)


def as_golden(samples: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]) -> Golden:
    """Samples of all graphs as arrays for `golden.npz`."""

    def arrays(table: Mapping[str, Tensor]) -> dict[str, Float32]:
        return {key: as_fed(value.numpy()) for key, value in table.items()}

    return {name: (arrays(inputs), arrays(outputs)) for name, (inputs, outputs) in samples.items()}


def _determined(model: WorldModel, latent: Tensor, observation: Tensor) -> Tensor:
    """`observation` with NaN for every angle whose (cosine, sine) pair is too short to say."""
    with torch.no_grad():
        features = model.readout_features(latent)
    result = observation.clone()
    for raw in (i for i, angle in enumerate(model.features.angle.tolist()) if angle):
        cosine, sine = model.features.first[raw], model.features.last[raw]
        short = torch.hypot(features[..., cosine], features[..., sine]) < SHORT
        result[..., raw] = torch.where(short, torch.nan, result[..., raw])
    return result
