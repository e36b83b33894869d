"""What one plan and one refinement of a bundle cost on this machine (`robot-wm bench plan`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.actions import normalise
from robot_wm.backend import Model
from robot_wm.bundle import load_bundle
from robot_wm.machine import describe_machine
from robot_wm.messages import Latent
from robot_wm.planner import Carry, Planner

QUANTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}


class PlanTimer:
    """Plans from a chain of predicted latents, as a robot that does what it plans would."""

    def __init__(self, bundle: Path, provider: str, threads: int, refinements: int, seed: int) -> None:
        """`refinements` per plan; 0: the bundle's budget."""
        self.bundle = load_bundle(bundle)
        self.model = Model(self.bundle, provider, threads=1, planner_threads=threads)
        self.planner = Planner(self.bundle.contract, self.model, seed=seed)
        self.planner.warm_up()
        self.refinements = refinements or self.planner.budget.refinements
        self._carry = Carry()
        self._latent = Latent(0, self.model.initial_latent, self.model.bundle_id)

    def plan(self) -> float:
        """Make the next plan and return the time it took [s]."""
        index = self._carry.index
        self._carry, plan = self.planner.plan(
            self._carry, self._latent, index * self.planner.grid.step, refinements=self.refinements
        )
        action = normalise(self.bundle.contract, plan.actions[0]).astype(np.float32)
        values = self.model.prior(self._latent.values[None].astype(np.float32), action[None])[0]
        self._latent = Latent(plan.start, values, self.model.bundle_id)
        return plan.stats.seconds

    def figures(self, seconds: list[float], threads: int) -> dict[str, Any]:
        """Times per plan and per refinement [ms], and what was planned."""
        times, budget = 1e3 * np.array(seconds), self.planner.budget
        return {
            **{f"plan_ms_{name}": float(np.percentile(times, q)) for name, q in QUANTILES.items()},
            **{
                f"refinement_ms_{name}": float(np.percentile(times, q)) / self.refinements
                for name, q in QUANTILES.items()
            },
            "plans_per_s": 1e3 * len(times) / float(times.sum()),
            "plans": len(times),
            "refinements": self.refinements,
            "samples": budget.samples,
            "proposals": budget.proposals,
            "horizon": budget.horizon,
            "size": self.bundle.manifest.size,
            "bundle_id": self.bundle.bundle_id,
            "provider": self.model.provider,
            "threads": threads,
            "machine": describe_machine(),
        }


def measure(bundle: Path, provider: str, threads: int, refinements: int, plans: int, seed: int) -> dict[str, Any]:
    """Plan `plans` times and return the figures."""
    timer = PlanTimer(bundle, provider, threads, refinements, seed)
    return timer.figures([timer.plan() for _ in range(plans)], threads)
