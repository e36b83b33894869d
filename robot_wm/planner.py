"""Anytime planning in latent space (TD-MPC2, arXiv 2310.16828, section 3.2), by MPPI or another rule of robot_wm/search.py.

One call refines a plan until its deadline or its budget and always returns one: the ladder is refined, the shifted previous
plan, the policy prior. State is explicit (`Carry`) and noise is counter-based, keyed by (seed, plan index), so that a
recorded run replays to the same plans.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robot_wm.actions import denormalise, normalise
from robot_wm.backend import Float32, Model
from robot_wm.bounds import Bounds
from robot_wm.contract import Contract
from robot_wm.errors import BundleError
from robot_wm.messages import FloatArray, Latent, Plan, PlanStats
from robot_wm.search import Search
from robot_wm.timebase import NS_PER_S, Clock, Grid, MonotonicClock

FORGET = 0.9  # of the remembered costs, for each plan that had no time to refine
REMEMBERED = 15  # refinements whose cost is remembered
EAGER, CAREFUL = 0.25, 0.9  # quantile of those costs that has to fit for the first refinement, and for later ones
FEWEST = 32  # samples that adapting to a slow machine leaves


@dataclass(frozen=True)
class Carry:
    """What one plan hands to the next."""

    index: int = 0  # of the next plan
    start: int = 0  # time of the mean's first row [ns]
    mean: Float32 | None = None  # (H, A) normalised; None: no previous plan
    spread: float = 0.0  # of that mean's proposal; 0: it was not refined
    costs: tuple[float, ...] = ()  # of the last refinements, newest last, warm-up excluded [s]


class Planner:
    """Plans for one model; holds no state between calls but what `Carry` says."""

    def __init__(
        self,
        contract: Contract,
        model: Model,
        seed: int = 0,
        clock: Clock | None = None,
        search: Search | None = None,
    ) -> None:
        """`search`: how a proposal is improved (default: MPPI)."""
        self.search = search or Search()
        self.contract = contract
        self.model = model
        self.seed = seed
        self.clock = clock or MonotonicClock()
        self.grid = Grid(contract.model_hz)
        self.budget = model.budget
        self._shape = (self.budget.horizon, contract.action.size)
        self._bounds = Bounds.of(contract)
        self._weights = self._objective()

    def warm_up(self, rounds: int = 5) -> float:
        """Plan from the initial latent and return the median cost of one refinement [s]; first runs are slow."""
        latent = Latent(0, self.model.initial_latent, self.model.bundle_id)
        costs = []
        for _ in range(rounds):
            _, plan = self.plan(Carry(), latent, 0, refinements=2)
            costs.append(plan.stats.seconds / 2)
        return float(np.median(costs))

    def fitted(self, available_s: float) -> Planner:
        """Warm up, and halve the samples until two refinements fit into `available_s` (or `FEWEST` samples are left)."""
        planner = self
        while 2.0 * planner.warm_up() > available_s and planner.budget.samples >= 2 * FEWEST:
            model = planner.model.with_samples(planner.budget.samples // 2)
            planner = Planner(self.contract, model, self.seed, self.clock, self.search)
        return planner

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
        """Plan from `latent`, which must be the one predicted for `start`, the time the plan takes effect [ns].

        Args:
            previous: actions (2, A) in SI units that hold in the two model steps before `start`, the older first, for rate
                and jerk; None: nothing was applied yet.
            deadline: refine only while one more refinement is expected to end before it [ns]; None: the whole budget.
            refinements: how many at most (default: the bundle's budget).
            explore: add the proposal's own noise to the answer, for collecting data.
            searched: rows of the plan that are refined; behind them, with 0 from the first on, it is the policy prior's rollout
                (default: all).
            doubt: added to the contract's weight of the value heads' disagreement.

        Raises:
            BundleError: the latent is of another bundle; no plan mixes two.
        """
        if latent.bundle_id != self.model.bundle_id:
            raise BundleError(f"latent of bundle {latent.bundle_id} given to the planner of {self.model.bundle_id}")
        begin = self.clock.now()
        limit = self.budget.refinements if refinements is None else refinements
        noise = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, 0, carry.index]))
        before = self._before(previous)
        mean, source = self._warm_start(carry, start)
        search = replace(self.search, around_policy=0.0) if explore else self.search  # data has to go farther
        std = search.begin(self._shape, self.budget, carry.spread if source == "shifted" else 0.0)
        z = np.asarray(latent.values, np.float32)[None]
        value, disagreement, done, costs = 0.0, 0.0, 0, carry.costs
        reach = len(mean) if searched is None else min(searched, len(mean))
        refines = self.search.refines and reach > 0
        tail = self._policy_rollout(z)[reach:] if 0 < reach < len(mean) else mean[:0]
        weights = self._weights | {"disagreement_cost": self._weights["disagreement_cost"] + np.float32(doubt)}
        if refines and limit > 0 and self._fits(deadline, costs, done):
            drawn = noise.standard_normal((self.budget.proposals, *self._shape), np.float32)
            drawn[0] = 0.0
            proposals = self.model.propose(z, drawn)
            if search.around_policy:
                mean = proposals[0].copy()
            while done < limit and self._fits(deadline, costs, done):
                tick = self.clock.now()
                mean, std = _held(mean, tail, tail), _held(std, tail, 0.0 * tail)
                result = self.model.refine(
                    latent=z, mean=mean, std=std, proposals=proposals, previous=before,
                    noise=self.search.shape_noise(
                        noise.standard_normal((self.budget.samples, *self._shape), np.float32)
                    ),
                    **vars(self._bounds), **weights,
                )  # fmt: skip
                mean, std = self.search.improve(mean, std, result)
                value, disagreement = result.value, result.disagreement
                if self.search.keep_best:
                    proposals[-1] = result.best
                costs = (*costs[1 - REMEMBERED :], (self.clock.now() - tick) / NS_PER_S)
                done, source = done + 1, self.search.name
        if done == 0:
            costs = tuple(FORGET * cost for cost in costs)  # one slow moment must not end refining for good
            source = source if refines else "policy"
            mean = mean if source == "shifted" else self._policy_rollout(z)
        mean = _held(mean, tail, tail) if done else mean
        if done == 0 or self.search.momentum or len(tail):
            mean = self._bounds.apply(mean, before)
        answer = mean
        if explore:
            answer = self._bounds.apply(mean + std * noise.standard_normal(self._shape, np.float32), before)
        stats = PlanStats(
            source=source,
            refinements=done,
            samples=self.budget.samples,
            value=value,
            spread=float(std.mean()) if done else 0.0,
            disagreement=disagreement,
            seconds=(self.clock.now() - begin) / NS_PER_S,
            latent_age_s=(start - latent.stamp) / NS_PER_S,
        )
        plan = Plan(carry.index, start, self.grid.step, denormalise(self.contract, answer), latent.bundle_id, stats)
        carry = Carry(carry.index + 1, start, mean, stats.spread if done else carry.spread, costs)
        return carry, plan

    def _fits(self, deadline: int | None, costs: tuple[float, ...], done: int) -> bool:
        """Whether one more refinement is worth beginning: the first if it may well fit, for without it the plan is an old one; a
        later one only if it nearly always does."""
        if deadline is None or not costs:
            return deadline is None or self.clock.now() <= deadline
        cost = sorted(costs)[round((CAREFUL if done else EAGER) * (len(costs) - 1))]
        return self.clock.now() + cost * NS_PER_S <= deadline

    def _objective(self) -> dict[str, Float32]:
        """The inputs of `refine` that weigh the scores."""
        costs, size, own = self.contract.costs, self.contract.action.size, self.search.temperature
        return {
            "temperature": np.float32(self.budget.temperature if own is None else own),
            "action_cost": np.asarray(costs.action or np.zeros(size), np.float32),
            "change_cost": np.asarray(costs.change or np.zeros(size), np.float32),
            "disagreement_cost": np.float32(costs.disagreement),
            "elites": np.float32(self.budget.elites),
        }

    def _before(self, previous: FloatArray | None) -> Float32:
        neutral = np.clip(np.zeros((2, self._shape[1])), self.contract.action.low, self.contract.action.high)
        return normalise(self.contract, neutral if previous is None else previous).astype(np.float32)

    def _warm_start(self, carry: Carry, start: int) -> tuple[Float32, str]:
        """The previous mean shifted by the time that has passed; the rows it does not reach are zero."""
        mean = np.zeros(self._shape, np.float32)
        rows = round((start - carry.start) / self.grid.step)
        if carry.mean is None or not 0 <= rows < len(carry.mean):
            return mean, "policy"
        left = carry.mean[rows:][: len(mean)]
        mean[: len(left)] = left
        return mean, "shifted"

    def _policy_rollout(self, z: Float32) -> Float32:
        noise = np.zeros((self.budget.proposals, *self._shape), np.float32)
        rollout: Float32 = self.model.propose(z, noise)[0]
        return rollout


def _held(rows: Float32, tail: Float32, values: Float32) -> Float32:
    """`rows` (H, A) with as many `values` in place of the last as there are in `tail`."""
    return np.concatenate([rows[: len(rows) - len(tail)], values]).astype(np.float32) if len(tail) else rows
