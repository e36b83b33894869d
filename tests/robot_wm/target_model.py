"""A planning problem with a known answer: reward is minus the squared distance of each action to a target."""

from dataclasses import replace

import numpy as np

from robot_wm.backend import Refinement
from robot_wm.bounds import Bounds
from robot_wm.bundle import PlannerDefaults

BUDGET = PlannerDefaults(horizon=3, samples=64, proposals=4, elites=8, refinements=6)


class TargetModel:
    """MPPI in numpy around `target` (normalised); `cost` [ns] of a refinement is added to the clock."""

    def __init__(self, target=0.5, clock=None, cost=0, bundle_id="target"):
        self.bundle_id = bundle_id
        self.budget = BUDGET
        self.initial_latent = np.zeros(2, np.float32)
        self.target, self.clock, self.cost = target, clock, cost
        self.calls = 0

    def with_samples(self, samples):
        other = TargetModel(self.target, self.clock, self.cost * samples // self.budget.samples, self.bundle_id)
        other.budget = replace(self.budget, samples=samples)
        return other

    def propose(self, latent, noise):
        return np.clip(self.target + 0.0 * noise, -1, 1).astype(np.float32)

    def refine(self, latent, mean, std, noise, proposals, low, high, rate, jerk, previous, **_):
        self.calls += 1
        if self.clock is not None:
            self.clock.advance(self.cost)
        bounds = Bounds(low, high, rate, jerk)
        samples = np.array([bounds.apply(sample, previous) for sample in mean + std * noise])
        score = -((samples - self.target) ** 2).sum((1, 2))
        elites = samples[np.argsort(score)[-BUDGET.elites :]]
        std = elites.std(0).clip(BUDGET.std_min, BUDGET.std_max).astype(np.float32)
        best = samples[score.argmax()].astype(np.float32)
        mean = elites.mean(0).clip(low, high).astype(np.float32)
        return Refinement(mean, std, best, float(score.max()), float(score.mean()))
