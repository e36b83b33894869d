"""ONNX Runtime behind two small classes: a session per graph, and a model that owns the graphs of one bundle."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from robot_wm.binding import Binding
from robot_wm.bundle import GRAPHS, Bundle, PlannerDefaults, graphs_for, image_graph
from robot_wm.errors import BackendError
from robot_wm.images import Pixels

Float32 = NDArray[np.float32]

PROVIDERS = {  # the name a user types → ONNX Runtime's name, in order of preference
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "openvino-bf16": "OpenVINOExecutionProvider",  # the planner's products in bfloat16 (float32 on a CPU without them)
    "cpu": "CPUExecutionProvider",
}

ON_GPU = ("tensorrt", "cuda")
OPENVINO = ("openvino", "openvino-bf16")
PLANNING = ("propose", "refine")  # graphs of fixed sizes, run by one thread; these alone are worth OpenVINO

log = logging.getLogger(__name__)


def choose_provider(wanted: str = "auto") -> str:
    """Return the provider to use: `wanted`, or for "auto" the best one this ONNX Runtime has (never OpenVINO unasked).

    Raises:
        BackendError: the provider is unknown, or not in the installed ONNX Runtime.
    """
    available = [name for name, full in PROVIDERS.items() if full in ort.get_available_providers()]
    if wanted == "auto":
        return next(name for name in available if name not in OPENVINO)
    if wanted not in PROVIDERS:
        raise BackendError(f"unknown provider {wanted!r}; choose auto, {', '.join(PROVIDERS)}")
    if wanted not in available:
        raise BackendError(
            f"provider {wanted!r} is not in the installed onnxruntime {ort.__version__}, which has "
            f"{', '.join(available)}; install the extra that has it (gpu or openvino)"
        )
    return wanted


class Session:
    """One graph on one execution provider; `provider` is what ONNX Runtime really gave."""

    def __init__(
        self,
        path: Path | str,
        provider: str = "auto",
        threads: int = 1,
        sizes: Mapping[str, int] | None = None,
        bound: bool = False,
    ) -> None:
        """Load `path`; `sizes` fixes free dimensions by name, which lets the provider plan its memory and kernels.

        Args:
            bound: bind inputs and outputs once (robot_wm/binding.py), which needs every size fixed; a GPU then replays its
                kernels as one CUDA graph. For one thread at a time.

        Raises:
            BackendError: the file is no usable graph, or the provider cannot be had.
        """
        self.path = Path(path)
        wanted = choose_provider(provider)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        for name, size in (sizes or {}).items():
            options.add_free_dimension_override_by_name(name, size)
        options.log_severity_level = 3
        # A spinning worker would take the core that the motor loop needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session, self._binding, self.captured = _opened(str(path), options, wanted, threads, bound)
        except Exception as error:  # ONNX Runtime raises its own, undocumented types
            raise BackendError(f"{path}: ONNX Runtime cannot load the graph: {_first_line(error)}") from error
        given = self._session.get_providers()[0]
        names = {full: name for name, full in PROVIDERS.items()} | {PROVIDERS[wanted]: wanted}
        self.provider = names.get(given, "cpu")
        if provider not in ("auto", self.provider):
            raise BackendError(f"{path}: asked for provider {provider!r}, ONNX Runtime gave {self.provider!r}")
        self.inputs = {item.name: item.shape for item in self._session.get_inputs()}
        self.images = {item.name for item in self._session.get_inputs() if item.type == "tensor(uint8)"}
        self.outputs = [item.name for item in self._session.get_outputs()]
        self.sizes = {item.name: item.shape[-1] for item in self._session.get_outputs() if item.shape}
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, **inputs: NDArray[Any]) -> dict[str, Float32]:
        """Execute the graph on float32 copies of `inputs` (images: bytes); every output is checked to be finite.

        Raises:
            BackendError: a wrong name or shape, an image that is no bytes, or a non-finite output (named).
        """
        bound = self._binding
        feed = self._feed(inputs) if bound is None else inputs
        try:
            if bound is None:
                results = dict(zip(self.outputs, self._session.run(self.outputs, feed), strict=True))
            else:
                results = bound.run(feed)
        except Exception as error:
            raise BackendError(f"{self.path.name}: {_first_line(error)}") from error
        if bound is None or not bound.finite:
            for name, value in results.items():
                if not np.isfinite(value).all():
                    raise BackendError(f"{self.path.name}: output {name!r} is not finite")
        return results

    def _feed(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        feed = {}
        for name, value in inputs.items():
            image = name in self.images
            if image and value.dtype != np.uint8:
                raise BackendError(f"{self.path.name}: input {name!r} takes bytes (uint8), not {value.dtype}")
            feed[name] = np.asarray(value, np.uint8 if image else np.float32, order="C")
        return feed


@dataclass(frozen=True)
class Refinement:
    """What one MPPI refinement returns, in normalised action units."""

    mean: Float32  # (H, A)
    std: Float32  # (H, A)
    best: Float32  # (H, A), the sample with the highest score
    value: float  # its score
    elite_value: float  # mean score of the elites
    disagreement: float = 0.0  # of the value heads over the elites: standard deviation, model units


class Model:
    """The graphs of one bundle as methods; shapes as in docs/architecture.md."""

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "auto",
        threads: int = 1,
        planner_threads: int | None = None,
        graphs: Sequence[str] = GRAPHS,
        samples: int = 0,
    ) -> None:
        """Open the `graphs` (default: all), and with `encode` those that encode images.

        Args:
            planner_threads: for `propose` and `refine` (default: `threads`).
            samples: per refinement instead of the bundle's; elites in proportion. 0: the bundle's.
        """
        self.bundle = bundle
        self.budget = with_samples(bundle.manifest.planner, samples)
        self.bundle_id = bundle.bundle_id
        self.initial_latent = np.asarray(bundle.manifest.initial_latent, np.float32)
        self._wanted, self._threads = provider, (threads, planner_threads or threads)
        opened = graphs_for(bundle.contract, graphs) if "encode" in graphs else graphs
        self.sessions = {name: self._open(name) for name in opened}
        self.provider = self.sessions["refine" if "refine" in opened else opened[-1]].provider

    def with_samples(self, samples: int) -> Model:
        """The same bundle with another number of samples; `refine` apart it shares the sessions. As `samples` above."""
        other = copy.copy(self)
        other.budget = with_samples(self.bundle.manifest.planner, samples)
        if other.budget == self.budget:
            return self
        other.sessions = self.sessions | {"refine": other._open("refine")}
        return other

    def _open(self, name: str) -> Session:
        planning = name in PLANNING
        wanted = "cpu" if self._wanted in OPENVINO and not planning else self._wanted
        sizes = {"S": self.budget.samples} if name == "refine" else None
        session = Session(self.bundle.graph(name), wanted, self._threads[planning], sizes, bound=planning)
        if name == "refine" and "jerk" not in session.inputs:
            raise BackendError(
                f"{session.path}: was exported before plans had a jerk bound; `robot-wm export` makes a new one"
            )
        return session

    def encode(self, observation: Float32, mask: Float32, age: Float32) -> Float32:
        """(N, O) raw SI, (N, M), (N, M) model steps → embedding (N, E_s) of the observations."""
        return self.sessions["encode"].run(observation=observation, mask=mask, age=age)["embedding"]

    def encode_image(self, name: str, image: Pixels) -> Float32:
        """(N, H, W, C) uint8 of the contract's image `name` → embedding (N, E_i)."""
        return self.sessions[image_graph(name)].run(image=image)["embedding"]

    def pair(self, name: str, view: Float32, before: Float32 | None = None, gap: int = 0) -> Float32:
        """Embedding (N, E_i) of image `name` as `join` takes it: with a `history` together with that of the frame `before`, which
        was `gap` model steps ago (None: there is none that is near enough)."""
        contract = self.bundle.contract
        item = next(image for image in contract.images if image.name == name)
        if item.history == 1:
            return view
        share = np.full((len(view), 1), gap / item.reach(contract.model_hz), np.float32)
        return np.concatenate([view, np.zeros_like(view) if before is None else before, share], axis=1)

    def join(self, state: Float32, images: Mapping[str, Float32]) -> Float32:
        """(N, E_s) of the observations, what `pair` gives of those images that are there → embedding (N, E) of everything."""
        parts = [state]
        for item in self.bundle.contract.images:
            size = self.sessions[image_graph(item.name)].sizes["embedding"]
            nothing = np.zeros((len(state), size), np.float32)
            parts.append(images[item.name] if item.name in images else self.pair(item.name, nothing))
        return np.concatenate(parts, axis=1)

    def posterior(self, prior_latent: Float32, embedding: Float32, mask: Float32) -> Float32:
        """(N, L), (N, E), (N, M) → latent (N, L)."""
        run = self.sessions["posterior"].run
        return run(prior_latent=prior_latent, embedding=embedding, mask=mask)["latent"]

    def prior(self, latent: Float32, action: Float32) -> Float32:
        """(N, L), (N, A) normalised → next latent (N, L)."""
        return self.sessions["prior"].run(latent=latent, action=action)["next_latent"]

    def policy(self, latent: Float32) -> Float32:
        """(N, L) → action (N, A), the policy's mean."""
        return self.sessions["policy"].run(latent=latent)["action"]

    def heads(self, latent: Float32, action: Float32) -> tuple[Float32, Float32, Float32]:
        """(N, L), (N, A) → reward, value and disagreement of the value heads, each (N,)."""
        out = self.sessions["heads"].run(latent=latent, action=action)
        return out["reward"], out["value"], out["disagreement"]

    def propose(self, latent: Float32, noise: Float32) -> Float32:
        """(1, L), (P, H, A) standard normal → policy rollouts (P, H, A)."""
        return self.sessions["propose"].run(latent=latent, noise=noise)["proposals"]

    def refine(self, **inputs: Float32) -> Refinement:
        """One MPPI refinement; inputs as in docs/architecture.md."""
        out = self.sessions["refine"].run(**inputs)
        scores = (float(out[name]) for name in ("value", "elite_value", "disagreement"))
        return Refinement(out["next_mean"], out["next_std"], out["best"], *scores)

    def readout(self, latent: Float32) -> Float32:
        """(N, L) → observation (N, O), raw SI; the probe of replay and audit."""
        return self.sessions["readout"].run(latent=latent)["observation"]


def with_samples(planner: PlannerDefaults, samples: int) -> PlannerDefaults:
    """The budget with so many `samples` and elites in proportion; 0 leaves it as it is. Raises BackendError for fewer than 2."""
    if samples in (0, planner.samples):
        return planner
    if samples < 2:
        raise BackendError(f"{samples} samples are too few; give 2 or more")
    return replace(planner, samples=samples, elites=max(1, round(planner.elites * samples / planner.samples)))


def _opened(
    path: str, options: ort.SessionOptions, provider: str, threads: int, bound: bool
) -> tuple[ort.InferenceSession, Binding | None, bool]:
    """A session, its binding, and whether a GPU replays it as one CUDA graph: not where an operator has to run elsewhere."""
    if bound and provider in ON_GPU:
        providers = _with_fallback(provider, threads, captured=True)
        try:
            session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
            binding = Binding(session, "cuda")
            binding.capture()
            return session, binding, True
        except Exception as error:  # noqa: BLE001 - of no documented type; what is wrong with the graph is said below
            log.warning("%s: not replayed as one CUDA graph, so slower: %s", path, _first_line(error))
    session = ort.InferenceSession(path, options, providers=_with_fallback(provider, threads))
    given = session.get_providers()[0]
    device = "cuda" if given in {PROVIDERS[name] for name in ON_GPU} else "cpu"
    unbound = not bound or given == PROVIDERS["openvino"]  # not measured there
    return session, None if unbound else Binding(session, device), False


def _with_fallback(provider: str, threads: int, captured: bool = False) -> list[tuple[str, dict[str, str]]]:
    """TensorRT hands single operators to CUDA, and everything to the CPU where it must."""
    order = list(PROVIDERS)
    chain = [provider] if provider in ("cpu", *OPENVINO) else order[order.index(provider) : 2]
    available = ort.get_available_providers()
    names = [name for name in dict.fromkeys([*chain, "cpu"]) if PROVIDERS[name] in available]
    return [(PROVIDERS[name], _settings(name, threads, captured and name == provider)) for name in names]


def _settings(provider: str, threads: int, captured: bool) -> dict[str, str]:
    if provider == "tensorrt":
        return _engine_cache() | {"trt_cuda_graph_enable": str(int(captured))}
    if provider == "cuda":
        return {"use_tf32": "1", "enable_cuda_graph": str(int(captured))}
    if provider in OPENVINO:  # has threads of its own, and takes a lower precision unasked where the machine has one
        hint = "bf16" if provider == "openvino-bf16" else "f32"
        own = {"CPU": {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads)}}
        return {"device_type": "CPU", "load_config": json.dumps(own)}
    return {}


def _engine_cache() -> dict[str, str]:
    """Keep engines built on this device: TensorRT takes minutes, and names them by graph, its version and the GPU."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robot_wm" / "tensorrt"
    folder.mkdir(parents=True, exist_ok=True)
    cached = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
    return cached | {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder)}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
