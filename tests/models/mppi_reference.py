"""MPPI as TD-MPC2 plans (arXiv 2310.16828, section 3.2, and its published defaults): plain, eager, with the noise passed in.

What our planner is judged by: `models.planner_graph.Refine` must equal it, and `robot-wm bench plan --size` times it beside ours.
Like ours, and unlike the published code, it takes the policy's mean at the end of the horizon and the first two value heads, where
that one draws: with the same noise there is then one right answer.
"""

import torch

from models.networks import expectation


class ReferencePlanner:
    def __init__(self, model, planner, discount, heads=2):
        self.model = model
        self.planner = planner
        self.discount = discount
        self.heads = heads
        self.elites, self.weights = None, None  # of the last refinement: (E, H, A) and (E,)

    @torch.no_grad()
    def plan(self, latent, noise, proposal_noise, mean=None):
        """Refine once per row of `noise` (R, S, H, A) from a latent (1, L): the final mean and std (H, A)."""
        proposals = self.propose(latent, proposal_noise)
        mean = torch.zeros_like(noise[0, 0]) if mean is None else mean
        std = torch.full_like(mean, self.planner.std_max)
        for samples in noise:
            mean, std, _ = self.refine(latent, mean, std, samples, proposals)
        return mean, std

    @torch.no_grad()
    def propose(self, latent, noise):
        """Policy trajectories (P, H, A)."""
        z = latent.expand(len(noise), -1)
        actions = []
        for t in range(self.planner.horizon):
            actions.append(self.model.policy(z, noise[:, t]).action)
            z = self.model.prior(z, actions[-1])
        return torch.stack(actions, dim=1)

    @torch.no_grad()
    def refine(self, latent, mean, std, noise, proposals):
        """One iteration: the new mean and std (H, A), and the elites' scores (E,), best first."""
        planner = self.planner
        samples = torch.cat([(mean + std * noise).clamp(-1, 1), proposals])
        scores = self.estimate_value(latent.expand(len(samples), -1), samples)
        best = torch.topk(scores, planner.elites)
        self.weights = torch.exp(planner.temperature * (best.values - best.values[0]))
        self.weights = self.weights / self.weights.sum()
        self.elites = samples[best.indices]
        weights, elites = self.weights[:, None, None], self.elites
        mean = (weights * elites).sum(0)
        std = (weights * (elites - mean).square()).sum(0).sqrt().clamp(planner.std_min, planner.std_max)
        return mean, std, best.values

    def estimate_value(self, z, samples):
        """Discounted rewards (N,) along the samples (N, H, A), then the value."""
        total, discount = 0.0, 1.0
        for t in range(self.planner.horizon):
            total = total + discount * expectation(self.model.reward(z, samples[:, t]))
            z = self.model.prior(z, samples[:, t])
            discount = discount * self.discount
        heads = torch.arange(min(self.heads, self.model.sizes.value_heads))
        values = expectation(self.model.values(z, self.model.policy(z).mean, frozen=True, heads=heads))
        return total + discount * values.mean(0)
