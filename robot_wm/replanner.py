"""Replanning: newest latent → predicted to the moment the plan takes effect → refined until its deadline.

The planner node's thread is this and a clock. Planners of several bundles may be held at once; the latent's bundle id
chooses, so no plan ever mixes two.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from robot_wm.actions import ActionHistory, denormalise
from robot_wm.contract import Contract
from robot_wm.errors import ContractError, RobotWmError
from robot_wm.info import PlanInfo
from robot_wm.messages import Applied, FloatArray, Latent, Plan
from robot_wm.planner import Carry, Planner
from robot_wm.timebase import NS_PER_S, Clock, Grid, MonotonicClock
from robot_wm.trust_ladder import Answers, Rung, Standing

HISTORY_S = 2.0
COMMITTED = 64  # plans that may lie between now and the start of the next one


class NoLatent(RobotWmError):
    """There is no latent to plan from, or only one that is too old or of a bundle that is not loaded."""


class NoTrust(NoLatent):
    """What was measured contradicts the model so much that no plan of it is worth playing."""


class Replanner:
    """Everything a plan depends on besides the model: latents, what was applied, the plan that is being played."""

    def __init__(
        self,
        contract: Contract,
        planner: Planner,
        clock: Clock | None = None,
        latent_stale_s: float = 0.2,
        answers: Answers | None = None,
    ) -> None:
        """`answers`: to falling trust."""
        self.answers = answers or Answers()
        self.standing = Standing()
        self.contract = contract
        self.clock = clock or MonotonicClock()
        self.grid = Grid(contract.model_hz)
        self.latent_stale = round(latent_stale_s * NS_PER_S)
        self.planners = {planner.model.bundle_id: planner}
        self.current = planner.model.bundle_id
        self.carry = Carry()
        self._actions = ActionHistory(contract, HISTORY_S)
        self._latent: Latent | None = None
        self._delay = round(contract.action.delay_s * NS_PER_S)  # from sending a command to its effect
        self._plans: deque[Plan] = deque(maxlen=COMMITTED)  # oldest first
        self._playing = False  # the motors follow our plans

    def add(self, planner: Planner) -> None:
        """Hold one more bundle; it is used from the first latent on that bears its id."""
        self.planners[planner.model.bundle_id] = planner

    def latent(self, latent: Latent) -> None:
        """The newest posterior; one older than what is known changes nothing.

        The first latent of another held bundle switches to it, keeping the one used so far and no other. The warm start
        survives, for it is in action units.
        """
        known = self._latent
        if known is not None and known.bundle_id == latent.bundle_id and latent.stamp < known.stamp:
            return
        if latent.bundle_id != self.current and latent.bundle_id in self.planners:
            previous, self.current = self.current, latent.bundle_id
            self.planners = {name: p for name, p in self.planners.items() if name in (previous, self.current)}
            self.carry = replace(self.carry, costs=())
        self._latent = latent

    def trust(self, standing: Standing) -> None:
        """How far posterior_node trusts the model, from now on."""
        self.standing = Standing() if self.answers.watch_only else standing

    def fresh(self, start: int) -> bool:
        """Whether the newest latent that a plan for `start` can hope for is there: one model step before it is sent."""
        return self._latent is not None and self._latent.stamp >= start - self._delay - self.grid.step

    def applied(self, applied: Applied) -> None:
        """What was really sent; its source tells whether our plans are being played."""
        self._actions.add(applied)
        self._playing = applied.driven and applied.source.startswith("plan")

    def restart(self) -> None:
        """A new episode: nothing planned before it still holds."""
        self.carry = replace(self.carry, mean=None)
        self._latent = None
        self._plans.clear()
        self._playing = False

    def next_start(self, now: int, budget: int) -> int:
        """When the next plan takes effect [ns]: the first grid instant, after the last plan's, for which commands sent after
        `budget` [ns] of planning from `now` on are in time."""
        start = self.grid.stamp(self.grid.ceil(now + budget + self._delay))
        return max(start, self._plans[-1].start + self.grid.step) if self._plans else start

    def sent(self, start: int) -> int:
        """When commands have to be sent that take effect at `start` [ns]: by then a plan for it must have arrived."""
        return start - self._delay

    def plan(
        self, start: int, deadline: int | None, refinements: int | None = None, explore: bool = False
    ) -> tuple[Plan, PlanInfo]:
        """Plan for the grid instant `start` [ns], refining until `deadline` [ns]; `explore` as in `Planner.plan`.

        Raises:
            NoLatent: saying why there is nothing to plan from; the motor node then holds by itself.
            NoTrust: on the rung `hold`.
        """
        rung = self.standing.rung
        if rung is Rung.HOLD:
            raise NoTrust(f"no trust in the model: {self.standing.cause}")
        planner, latent = self._usable(start)
        while len(self._plans) > 1 and self._plans[0].end <= latent.stamp:
            self._plans.popleft()  # over before anything that is predicted
        committed = list(self._plans) if self._playing else []
        actions = self._between(latent.stamp, start, committed)
        values = latent.values.astype(np.float32)
        for row in actions:
            values = planner.model.prior(values[None], row[None])[0]
        previous = self._before(start, committed)
        reset = self.carry.mean is None
        predicted = Latent(start, values, latent.bundle_id)
        doubt, searched = 0.0, -1
        if rung is not Rung.NORMAL:
            doubt, searched = self.answers.doubt, self.answers.searched(rung, planner.budget.horizon)
        self.carry, plan = planner.plan(
            self.carry, predicted, start, previous, deadline, refinements, explore,
            searched=None if searched < 0 else searched, doubt=doubt,
        )  # fmt: skip
        stats = replace(plan.stats, latent_age_s=(start - latent.stamp) / NS_PER_S)
        plan = replace(plan, stats=stats)
        self._plans.append(plan)
        info = PlanInfo(
            index=plan.index,
            bundle_id=plan.bundle_id,
            source=stats.source,
            refinements=stats.refinements,
            samples=stats.samples,
            value=stats.value,
            spread=stats.spread,
            disagreement=stats.disagreement,
            seconds=stats.seconds,
            latent_age_s=stats.latent_age_s,
            latent_steps=len(actions),
            slack_s=(self.sent(start) - self.clock.now()) / NS_PER_S,
            previous=tuple(tuple(float(x) for x in row) for row in previous),
            actions=tuple(tuple(float(x) for x in row) for row in actions),
            seed=planner.seed,
            reset=reset,
            trust=rung.label,
            searched=searched,
            doubt=doubt,
        )
        return plan, info

    def _usable(self, start: int) -> tuple[Planner, Latent]:
        latent = self._latent
        if latent is None:
            raise NoLatent("no latent yet")
        if latent.bundle_id not in self.planners:
            raise NoLatent(f"the latent is of bundle {latent.bundle_id}, loaded is {', '.join(self.planners)}")
        age = self.sent(start) - latent.stamp
        if age > self.latent_stale:
            raise NoLatent(f"no latent for {age / NS_PER_S:.2f} s (latent_stale_s is {self.latent_stale / NS_PER_S:g})")
        return self.planners[latent.bundle_id], latent

    def _between(self, stamp: int, start: int, committed: list[Plan]) -> list[FloatArray]:
        """Mean action, normalised float32, of each model step from the latent's instant to the start."""
        first, last = self.grid.nearest(stamp), self.grid.nearest(start)
        stamps = [(self.grid.stamp(k), self.grid.stamp(k + 1)) for k in range(first, last)]
        return [self._actions.mean(begin, end, committed).astype(np.float32) for begin, end in stamps]

    def _before(self, start: int, committed: list[Plan]) -> FloatArray:
        """The actions (2, A) in SI units that hold at the end of the two model steps before the start, the older first."""
        ends = (start - self.grid.step, start)
        return denormalise(self.contract, np.stack([self._actions.mean(end - 1, end, committed) for end in ends]))


def require_reach(contract: Contract, horizon: int, period: int, budget: int) -> None:
    """Check that a plan is still good when the next one takes effect, `period` [ns] later, planned in `budget` [ns].

    Raises:
        ContractError: it is not; the message has both times.
    """
    lasts = min(horizon * Grid(contract.model_hz).step / NS_PER_S, contract.safety.plan_stale_s)
    needed = max(period, budget) / NS_PER_S
    if lasts < needed:
        raise ContractError(
            f"a plan of {horizon} steps is good for {lasts:g} s, but the next one takes effect only after {needed:g} s: lower "
            "every_steps or budget_s, raise safety.plan_stale_s, or export a longer horizon"
        )
