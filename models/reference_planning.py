"""The plain PyTorch planner of a source checkout in our planner's place: what returns of ours are compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from models.checkout import load_source
from models.export import load_world_model
from models.planner_graph import PLANNING_HEADS
from models.train_config import discount_for
from robot_wm.actions import denormalise
from robot_wm.messages import FloatArray, Latent, Plan, PlanStats
from robot_wm.planner import Carry, Planner


class ReferencePlanning(Planner):
    """TD-MPC2's planner as published: no deadline, no rates, and the answer is an elite drawn by its weight.

    Raises RunError outside a source checkout.
    """

    def __init__(self, *args: Any) -> None:
        """Arguments as `Planner`'s."""
        super().__init__(*args)
        torch.set_num_threads(1)  # as our planner's sessions in lockstep
        world_model = load_world_model(self.model.bundle)
        discount = discount_for(self.contract)
        self._plain = load_source("mppi_reference").ReferencePlanner(world_model, self.budget, discount, PLANNING_HEADS)

    def plan(
        self,
        carry: Carry,
        latent: Latent,
        start: int,
        previous: FloatArray | None = None,
        deadline: int | None = None,
        refinements: int | None = None,
        explore: bool = False,
        searched: int | None = None,
        doubt: float = 0.0,
    ) -> tuple[Carry, Plan]:
        """As `Planner.plan`; `previous`, `deadline`, `explore`, `searched` and `doubt` change nothing."""
        budget, count = self.budget, self.budget.refinements if refinements is None else refinements
        draw = torch.Generator().manual_seed(1_000_000 * self.seed + carry.index)
        z = torch.from_numpy(np.asarray(latent.values, np.float32))[None]
        proposals = self._plain.propose(z, torch.randn(budget.proposals, *self._shape, generator=draw))
        mean = torch.from_numpy(self._warm_start(carry, start)[0])
        std = torch.full(self._shape, budget.std_max)
        for _ in range(count):
            noise = torch.randn(budget.samples, *self._shape, generator=draw)
            mean, std, _ = self._plain.refine(z, mean, std, noise, proposals)
        chosen = int(torch.multinomial(self._plain.weights, 1, generator=draw))
        answer = self._plain.elites[chosen].numpy()
        stats = PlanStats("reference", count, budget.samples, 0.0, float(std.mean()), 0.0, 0.0, 0.0)
        plan = Plan(carry.index, start, self.grid.step, denormalise(self.contract, answer), latent.bundle_id, stats)
        return replace(carry, index=carry.index + 1, start=start, mean=mean.numpy()), plan
