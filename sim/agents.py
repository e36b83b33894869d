"""Who chooses the actions in lockstep: the runtime's own filter and planner, or chance."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from robot_wm.backend import Model
from robot_wm.bags.types import Info
from robot_wm.contract import Contract
from robot_wm.info import CorrectionInfo
from robot_wm.messages import Applied, FloatArray, Measurement, Plan
from robot_wm.planner import Planner
from robot_wm.replanner import COMMITTED, NoTrust, Replanner
from robot_wm.search import Search
from robot_wm.timebase import NS_PER_S, Grid, VirtualClock
from robot_wm.trust_file import TrustSpec
from robot_wm.trust_ladder import Answers
from robot_wm.trust_monitor import TrustMonitor
from sim.corrections import Exact

FOREVER_S = 1e9  # lockstep plans from any latent, however old: seeing what then happens is what it is for


class Agent(Protocol):
    """Whoever chooses the actions."""

    def reset(self, start: int, seed: int) -> None: ...

    def observe(self, measurement: Measurement, now: int) -> None: ...

    def request(self, now: int) -> FloatArray:
        """The action (A,) to send now, SI units."""
        ...

    def applied(self, applied: Applied) -> None: ...

    def published(self) -> list[tuple[str, object]]:
        """What the robot's nodes would have published since the last call, by topic."""
        ...


class RandomAgent:
    """Uniform actions within the limits, a new one per model step: the first episodes of a flywheel."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._grid = Grid(contract.model_hz)

    def reset(self, start: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._step, self._action = -1, np.zeros(self._contract.action.size)

    def observe(self, measurement: Measurement, now: int) -> None:
        pass

    def request(self, now: int) -> FloatArray:
        if self._grid.floor(now) != self._step:
            self._step = self._grid.floor(now)
            action = self._contract.action
            self._action = self._rng.uniform(action.limit_low, action.limit_high)
        return self._action

    def applied(self, applied: Applied) -> None:
        pass

    def published(self) -> list[tuple[str, object]]:
        return []


class WorldModelAgent:
    """Latent filter and replanner of one bundle, as on the robot, planning at every grid instant."""

    def __init__(
        self,
        contract: Contract,
        model: Model,
        explore: bool = False,
        refinements: int | None = None,
        publish: bool = False,
        planning_delay_s: float = 0.0,
        compensate: bool = True,
        search: Search | None = None,
        planner: type[Planner] = Planner,
        trust: TrustSpec | None = None,
        answers: Answers | None = None,
        correction: type[Exact] = Exact,
    ) -> None:
        """`contract` may know of an actuation delay that the model's own does not.

        Args:
            publish: keep what the robot's nodes would publish, for the bag.
            planning_delay_s: a plan can be played so long after the latent it is made from.
            compensate: plan for the time at which a plan takes effect; otherwise for now, as if planning took no time.
            search: how a plan is improved (default: MPPI).
            planner: what plans, made anew for each episode.
            trust: judge every correction by it; None: do not.
            answers: of the planner to falling trust (default: those of planner_node).
            correction: how a late observation corrects the latent (default: as on the robot).
        """
        self.trust = None if trust is None else TrustMonitor(trust)
        self._answers = answers
        self.contract = contract
        self.model = model
        self._planner = planner
        self.refinements: list[int] = []
        self.outliers_at: list[tuple[int, str]] = []  # of the episode: when [ns], and what trust found more than rare
        self._explore = explore
        self._budget = refinements
        self._publish = publish
        self._delay = round(contract.action.delay_s * NS_PER_S)
        self._planning = round(planning_delay_s * NS_PER_S)
        self._compensate = compensate
        self._search = search
        self._correcting = correction(contract, model)
        self._filter = self._correcting.filter
        self._grid = self._filter.grid

    def reset(self, start: int, seed: int) -> None:
        self._correcting.reset(start)
        self._clock = VirtualClock(start)
        planner = self._planner(self.contract, self.model, seed, self._clock, self._search)
        self._replanner = Replanner(
            self.contract, planner, self._clock, latent_stale_s=FOREVER_S, answers=self._answers
        )
        self._plans: deque[Plan] = deque(maxlen=COMMITTED)  # newest first
        self._said: list[tuple[str, object]] = []
        self._late_steps, self._newest = 0, start
        self.outliers_at.clear()
        if self.trust is not None:
            self.trust.restart(start)
            self.trust.take_changes()

    def observe(self, measurement: Measurement, now: int) -> None:
        correction = self._correcting.observe(measurement, now)
        self._late_steps += correction.late_steps
        self._newest = measurement.stamp
        if self.trust is not None:
            self.trust.heard(self._filter, [correction])

    def request(self, now: int) -> FloatArray:
        """Replan at a grid instant; the plan starts when the first command that can come from it takes effect."""
        self._clock.sleep_until(now)
        effect = now + self._delay
        if now == self._grid.stamp(self._grid.nearest(now)):
            ready = effect + self._planning
            self._replan(self._grid.stamp(self._grid.ceil(ready if self._compensate else effect)))
        return self._planned(effect)

    def applied(self, applied: Applied) -> None:
        self._filter.applied(applied)
        if self.trust is not None:
            self.trust.applied(applied)
        self._replanner.applied(applied)

    def published(self) -> list[tuple[str, object]]:
        said, self._said = self._said, []
        return said

    def _replan(self, start: int) -> None:
        latent = self._correcting.latent(self._clock.now())
        self._replanner.latent(latent)
        judged = self._judge()
        if self._publish:
            self._said += [("latent", latent), ("correction_info", Info(latent.stamp, self._correction(judged)))]
        try:
            plan, info = self._replanner.plan(start, None, self._budget, self._explore)
        except NoTrust:
            return
        self._plans.appendleft(plan if self._compensate else replace(plan, start=plan.start + self._planning))
        self.refinements.append(plan.stats.refinements)
        if self._publish:
            self._said += [("plan", plan), ("plan_info", Info(start, info))]

    def _judge(self) -> dict[str, Any]:
        """Judge what was heard, tell the planner, and return what goes into `correction_info`."""
        if self.trust is None:
            return {}
        verdict = self.trust.judge(self._filter, self._clock.now())
        self.outliers_at += [(self._clock.now(), source) for source in verdict.outliers]
        self._replanner.trust(verdict.standing)
        if self.trust.take_changes() and self._publish:
            self._said.append(("trust", self.trust.event(self._clock.now())))
        return verdict.said()

    def _correction(self, judged: dict[str, Any]) -> CorrectionInfo:
        """What posterior_node would say of the newest correction; virtual time takes none."""
        late, self._late_steps = self._late_steps, 0
        return CorrectionInfo(
            bundle_id=self.model.bundle_id,
            innovation=self._filter.innovation(),
            late_steps=late,
            delay_s=(self._clock.now() - self._newest) / NS_PER_S,
            seconds=0.0,
            outcomes=dict(self._filter.outcomes),
            **judged,
        )

    def _planned(self, effect: int) -> FloatArray:
        for plan in self._plans:
            values = plan.action_at(effect)
            if values is not None:
                return values
        action = self.contract.action
        neutral: FloatArray = np.clip(np.zeros(action.size), action.limit_low, action.limit_high)
        return neutral
