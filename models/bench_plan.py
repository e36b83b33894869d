"""`robot-wm bench plan --size`: our planner beside the plain reference and a library's MPPI, all driving one random model.

They take turns, so that whatever else the machine does meets all of them, and so does the matrix product whose rate is the ceiling,
in the precision in which our planner multiplies.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.bench import bench_contract
from models.checkout import load_source
from models.export import export_bundle
from models.networks import BINS, expectation
from models.planner_graph import PLANNING_HEADS
from models.train_config import discount_for
from models.world_model import WorldModel
from robot_wm.bench_plan import PlanTimer
from robot_wm.bundle import PlannerDefaults

SPREAD = 0.05  # of the random weights beyond the usual initialisation, so that no head is all zero
PRODUCT = (536, 384, 384)  # rows, inner and columns of the ceiling's matrix product; beside it one of 1024 cubed


def measure(
    size: str, horizon: int, samples: int, refinements: int, provider: str, threads: int, plans: int, seed: int
) -> dict[str, Any]:
    """Time plans of random weights; the figures of `PlanTimer`, and `reference_*`, `library_*` and `ceiling_*` beside them.

    Raises:
        RunError: outside a source checkout, where the reference is not there.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    contract = bench_contract()
    model = WorldModel(contract, size).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter += SPREAD * torch.randn(parameter.shape)
    planner = PlannerDefaults(horizon=horizon, samples=samples, refinements=refinements)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = export_bundle(model, contract, Path(scratch) / "bundle", planner)
        timer = PlanTimer(bundle.path, provider, threads, refinements, seed)
    rivals = {"reference": reference(model, planner, discount_for(contract))}
    if importlib.util.find_spec("pytorch_mppi"):
        rivals["library"] = library(model, planner, discount_for(contract))
    precision = torch.bfloat16 if timer.model.provider == "openvino-bf16" else torch.float32
    shapes = (PRODUCT, (1024, 1024, 1024))
    operands = [(torch.randn(n, k, dtype=precision), torch.randn(k, m, dtype=precision)) for n, k, m in shapes]
    ours: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in rivals}
    rates: list[float] = []
    for run in rivals.values():
        run()
    for _ in range(plans):
        ours.append(timer.plan())
        for name, run in rivals.items():
            times[name].append(seconds_of(run))
        rates += [rate(a, b) for a, b in operands]
    figures = timer.figures(ours, threads)
    for name, seconds in times.items():
        p50 = 1e3 * float(np.median(seconds))
        figures |= {f"{name}_ms_p50": p50, f"ratio_to_{name}": figures["plan_ms_p50"] / p50}
    work, ceiling = plan_work(model, planner), float(np.percentile(rates, 90))
    achieved = work / (1e-3 * figures["plan_ms_p50"])
    return figures | {
        "gflop_per_plan": work / 1e9,
        "ceiling_gflops": ceiling / 1e9,
        "ceiling_precision": str(precision).removeprefix("torch."),
        "fraction_of_ceiling": achieved / ceiling,
    }


def reference(model: WorldModel, planner: PlannerDefaults, discount: float) -> Callable[[], object]:
    """One plan of the plain eager planner in tests/models/mppi_reference.py."""
    plain = load_source("mppi_reference").ReferencePlanner(model, planner, discount, PLANNING_HEADS)
    shape = (planner.horizon, model.action_size)
    latent = model.initial_latent[None]

    def run() -> object:
        noise = torch.randn(planner.refinements, planner.samples, *shape)
        return plain.plan(latent, noise, torch.randn(planner.proposals, *shape))

    return run


def library(model: WorldModel, planner: PlannerDefaults, discount: float) -> Callable[[], object]:
    """As many iterations of pytorch-mppi on the same model, samples and horizon."""
    from pytorch_mppi import MPPI

    def cost(state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return -expectation(model.reward(state, action))

    def terminal(states: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        z = states[..., -1, :]
        heads = torch.arange(min(PLANNING_HEADS, model.sizes.value_heads))
        values = expectation(model.values(z, model.policy(z).mean, frozen=True, heads=heads))
        return -(discount**planner.horizon) * values.mean(0)

    bound = torch.ones(model.action_size)
    mppi = MPPI(
        model.prior, cost, model.latent_size, torch.eye(model.action_size), num_samples=planner.samples + planner.proposals,
        horizon=planner.horizon, lambda_=1.0 / planner.temperature, u_min=-bound, u_max=bound,
        terminal_state_cost=terminal,
    )  # fmt: skip

    @torch.no_grad()
    def run() -> object:
        for _ in range(planner.refinements):
            answer = mppi.command(model.initial_latent, shift_nominal_trajectory=False)
        return answer

    return run


def plan_work(model: WorldModel, planner: PlannerDefaults) -> float:
    """Floating-point operations of a plan's matrix products, with what samples share counted once."""
    sizes, actions, latent = model.sizes, model.action_size, model.latent_size
    hidden = sizes.mlp * sizes.mlp
    first, shared = (latent + actions) * sizes.mlp, latent * sizes.mlp
    reward = first + hidden + sizes.mlp * BINS
    prior = first + hidden + sizes.mlp * latent
    policy = latent * sizes.mlp + hidden + sizes.mlp * actions
    values = min(PLANNING_HEADS, sizes.value_heads) * reward
    rows = planner.samples + planner.proposals
    per_row = planner.horizon * (reward + prior) - 2 * shared + policy + values
    return 2.0 * planner.refinements * (rows * per_row + 2 * shared)


def seconds_of(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def rate(a: torch.Tensor, b: torch.Tensor, repeat: int = 5) -> float:
    """Operations per second of a matrix product."""
    seconds = seconds_of(lambda: [a @ b for _ in range(repeat)])
    return 2.0 * repeat * a.shape[0] * a.shape[1] * b.shape[1] / seconds
