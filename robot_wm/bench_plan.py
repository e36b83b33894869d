"""`robot-wm bench plan`: what one plan and one refinement cost on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer


def bench_plan(
    bundle: Annotated[Path, typer.Option(help="Bundle to plan with.")] = Path("models/zoo/cartpole_swingup"),
    provider: Annotated[str, typer.Option(help="auto, tensorrt, cuda, openvino or cpu.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of one refinement.", min=1)] = 2,
    refinements: Annotated[int, typer.Option(help="Refinements per plan; 0: the bundle's budget.", min=0)] = 0,
    plans: Annotated[int, typer.Option(help="Plans to time.", min=10)] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the planner's noise.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time the planner: p50, p99 and p99.9 per plan and per refinement."""
    from robot_wm.cli import emit

    emit(measure(bundle, provider, threads, refinements, plans, seed), json_, title="bench plan")


def measure(bundle: Path, provider: str, threads: int, refinements: int, plans: int, seed: int) -> dict[str, Any]:
    """Plan `plans` times from a chain of predicted latents and return the figures [ms]."""
    from robot_wm.actions import normalise
    from robot_wm.backend import Model
    from robot_wm.bundle import load_bundle
    from robot_wm.machine import describe_machine
    from robot_wm.messages import Latent
    from robot_wm.planner import Carry, MppiPlanner

    loaded = load_bundle(bundle)
    model = Model(loaded, provider, threads=1, planner_threads=threads)
    planner = MppiPlanner(loaded.contract, model, seed=seed)
    planner.warm_up()
    count = refinements or planner.budget.refinements
    carry, latent, times = Carry(), Latent(0, model.initial_latent, model.bundle_id), []
    for index in range(plans):
        carry, plan = planner.plan(carry, latent, index * planner.grid.step, refinements=count)
        times.append(plan.stats.seconds * 1e3)
        action = normalise(loaded.contract, plan.actions[0]).astype(np.float32)
        latent = Latent(plan.start, model.prior(latent.values[None], action[None])[0], model.bundle_id)
    budget = planner.budget
    quantiles = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
    return {
        **{f"plan_ms_{name}": float(np.percentile(times, q)) for name, q in quantiles.items()},
        **{f"refinement_ms_{name}": float(np.percentile(times, q)) / count for name, q in quantiles.items()},
        "plans_per_s": 1e3 * len(times) / sum(times),
        "plans": plans,
        "refinements": count,
        "samples": budget.samples,
        "proposals": budget.proposals,
        "horizon": budget.horizon,
        "size": loaded.manifest.size,
        "bundle_id": loaded.bundle_id,
        "provider": model.provider,
        "threads": threads,
        "machine": describe_machine(),
    }
