"""How samples are drawn around a proposal, and how the scored ones become the next: the rules the loop in planner.py can follow.

All run the same graph, one batch of samples per refinement; with horizon H and A actions a proposal is a mean and a standard
deviation (H, A), normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot_wm.backend import Float32, Refinement
from robot_wm.bundle import PlannerDefaults
from robot_wm.errors import RunError


@dataclass(frozen=True)
class Search:
    """Model predictive path integral control (arXiv 1509.01149) as TD-MPC2 has it; each variation is off at its default."""

    name: str = "mppi"
    temperature: float | None = None  # of the elites' weights; None: the bundle's
    correlation: float = 0.0  # of the noise between one model step and the next
    keep_best: bool = False  # the best sample so far competes again in the next refinement
    momentum: float = 0.0  # how much of the old mean stays
    keep_spread: float = 0.0  # begin with so many times the last plan's final spread; 0: with the bundle's std_max
    # Ours: begin at the policy prior's rollout with this standard deviation, normalised; 0: at the last plan, shifted, as TD-MPC2.
    # Far from both, plans are scored by values that nothing has tested, and one that waits can look better than one that goes.
    around_policy: float = 0.5
    refines: bool = True

    def begin(self, shape: tuple[int, int], budget: PlannerDefaults, spread: float) -> Float32:
        """The first standard deviation (H, A), after a plan whose final `spread` was this (0: there is none)."""
        std = min(self.around_policy, budget.std_max) if self.around_policy else budget.std_max
        if self.keep_spread and spread:
            std = min(max(self.keep_spread * spread, budget.std_min), budget.std_max)
        return np.full(shape, std, np.float32)

    def shape_noise(self, noise: Float32) -> Float32:
        """Make standard normal noise (S, H, A) that is correlated over the steps, each still standard normal."""
        if self.correlation:
            fresh = np.sqrt(1.0 - self.correlation**2)
            for step in range(1, noise.shape[1]):
                noise[:, step] = self.correlation * noise[:, step - 1] + fresh * noise[:, step]
        return noise

    def improve(self, mean: Float32, std: Float32, result: Refinement) -> tuple[Float32, Float32]:
        """The next mean and standard deviation."""
        if self.momentum:
            kept = np.float32(self.momentum)
            return kept * mean + (1 - kept) * result.mean, result.std
        return result.mean, result.std


@dataclass(frozen=True)
class PredictiveSampling(Search):
    """The best of the samples around the plan, itself one of them, becomes the plan (arXiv 2212.00541); the spread stays."""

    name: str = "sampling"
    around_policy: float = 0.0
    spread: float = 0.3  # standard deviation, normalised

    def begin(self, shape: tuple[int, int], budget: PlannerDefaults, spread: float) -> Float32:
        return np.full(shape, self.spread, np.float32)

    def shape_noise(self, noise: Float32) -> Float32:
        noise[0] = 0.0
        return noise

    def improve(self, mean: Float32, std: Float32, result: Refinement) -> tuple[Float32, Float32]:
        return result.best, std


SEARCHES: dict[str, Callable[[], Search]] = {
    "mppi": Search,
    # Cross-entropy method: all elites count alike (PlaNet, arXiv 1811.04551).
    "cem": lambda: Search("cem", temperature=0.0, around_policy=0.0),
    "sampling": PredictiveSampling,
    "policy": lambda: Search("policy", refines=False),  # the policy prior's own rollout
}


def search_named(name: str) -> Search:
    """One of the rules. Raises RunError for an unknown name."""
    if name not in SEARCHES:
        raise RunError(f"unknown planner {name!r}; there are {', '.join(SEARCHES)}")
    return SEARCHES[name]()
