"""`robot-wm bench train`: updates per second beside the plain eager trainer of tests/models, and where the time goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile

from models import fused, train
from models.checkout import load_source
from models.dataset import Dataset
from models.kernel_build import library
from models.train import Trainer
from models.train_config import config_for
from models.world_model import WorldModel
from robot_wm.bags.writer import BagWriter
from robot_wm.contract import Contract, parse_contract
from robot_wm.machine import describe_machine
from robot_wm.messages import Applied, JointState
from robot_wm.timebase import NS_PER_S

PRODUCTS = ("aten::mm", "aten::bmm", "aten::addmm", "aten::addmm_", "aten::baddbmm", "aten::baddbmm_")
HZ, MINUTES = 50.0, 5.0
PROFILED = 20  # updates
TOGETHER = 10  # updates, as training asks for them: the next batch is drawn meanwhile


def reward(observation: NDArray[np.float64], action: NDArray[np.float64], contract: Contract) -> NDArray[np.float64]:
    """Reward (T,) of the benchmark's bag: how upright its pole is; observation (T, 4), action (T, 1), SI units."""
    upright: NDArray[np.float64] = 0.5 + 0.5 * np.cos(observation[:, 1])
    return upright


def measure(size: str, batch: int, threads: int, seconds: float) -> dict[str, Any]:
    """Time both trainers in turns, so that whatever else the machine does meets both. Raises RunError outside a checkout."""
    if threads:
        torch.set_num_threads(threads)
    contract = bench_contract()
    with tempfile.TemporaryDirectory() as scratch:
        _write(Path(scratch) / "bag", contract)
        dataset = Dataset([Path(scratch) / "bag"], contract, cache_dir=Path(scratch) / "cache")
        torch.manual_seed(0)
        config = config_for(contract)
        config = train.TrainConfig(seed=0, batch=batch, loss=config.loss)
        model = WorldModel(contract, size)
        eager = load_source("eager_reference").EagerTrainer(model, dataset, config)
        trainer = Trainer(model, dataset, config)
        rates = {"eager": _Rate(eager.update), "fast": _Rate(trainer.update)}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for rate in rates.values():
                rate.run(seconds / 20)
        fast, plain = rates["fast"].median(), rates["eager"].median()
        shares = _shares(trainer, fast)
    return {
        "updates_per_s": 1.0 / fast,
        "update_ms_p50": 1e3 * fast,
        "update_ms_p99": 1e3 * rates["fast"].percentile(99.0),
        "eager_updates_per_s": 1.0 / plain,
        "ratio_to_eager": plain / fast,
        **shares,
        "fused_kernels": library() is not None,
        "size": size,
        "batch": batch,
        "horizon": config.loss.horizon,
        "burn_in": config.loss.burn_in,
        "threads": torch.get_num_threads(),
        "machine": describe_machine(),
    }


class _Rate:
    """Times of an update [s], means over `TOGETHER`; the median is robust against what else runs."""

    def __init__(self, update: Callable[[int], object]) -> None:
        self._update = update
        self._times: list[float] = []
        update(3)  # warm up

    def run(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end:
            self._update(TOGETHER)
            self._times.append((time.perf_counter() - start) / TOGETHER)

    def median(self) -> float:
        return self.percentile(50.0)

    def percentile(self, percent: float) -> float:
        return float(np.percentile(self._times, percent))


def _shares(trainer: Trainer, update: float) -> dict[str, float]:
    """Fractions of an update (`update` [s], measured without instruments) by what it does; they sum to 1."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        trainer.update(PROFILED)
    rows = {row.key: row.self_cpu_time_total * 1e-6 / PROFILED for row in profiled.key_averages()}
    products = sum(rows.get(name, 0.0) for name in PRODUCTS)
    others = sum(time for name, time in rows.items() if name.startswith("aten::") and name not in PRODUCTS)
    with _Stopwatch(fused, "_call") as kernels, _Stopwatch(train, "draw_sequence") as loading:
        trainer.update(PROFILED)
    parts = {
        "matrix_products": products,
        "fused_kernels": kernels.seconds / PROFILED,
        "other_torch_operations": others,
        "data_loading": loading.seconds / PROFILED,
    }
    total = max(update, sum(parts.values()))
    shares = {f"fraction_{name}": part / total for name, part in parts.items()}
    return shares | {"fraction_python": 1.0 - sum(shares.values())}


class _Stopwatch:
    """Adds up the time spent in a function of a module while the block runs."""

    def __init__(self, module: ModuleType, name: str) -> None:
        self.module, self.name, self.seconds = module, name, 0.0
        self._function = getattr(module, name)

    def __enter__(self) -> _Stopwatch:
        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return self._function(*arguments)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(self.module, self.name, timed)
        return self

    def __exit__(self, *_: object) -> None:
        setattr(self.module, self.name, self._function)


def bench_contract() -> Contract:
    """Observations and action of a cartpole."""
    joints = {"topic": "joint_states", "names": ["slider", "hinge"]}
    return parse_contract(
        {
            "name": "bench",
            "model_hz": HZ,
            "observations": [
                {"name": "position", "field": "position", "encoding": ["linear", "angle"], **joints},
                {"name": "velocity", "field": "velocity", **joints},
            ],
            "action": {"names": ["slider"], "mode": "effort", "low": -1.0, "high": 1.0},
            "reward": {"topic": "", "function": "models.bench:reward"},
        }
    )


def _write(path: Path, contract: Contract) -> None:
    """A bag of a smooth random walk: what is learned does not matter here."""
    rng = np.random.default_rng(0)
    ticks = round(HZ * 60 * MINUTES)
    command = rng.uniform(-1.0, 1.0, (ticks, 1))
    velocity = np.cumsum(rng.standard_normal((ticks, 2)), axis=0) / HZ
    position = np.cumsum(velocity, axis=0) / HZ
    with BagWriter(path, contract, sync=False) as writer:
        for i in range(ticks):
            stamp = round(i * NS_PER_S / HZ)
            writer.write("joint_states", JointState(stamp, ("slider", "hinge"), position[i], velocity[i], np.zeros(0)))
            writer.write("applied", Applied(stamp, command[i], "hold"))
