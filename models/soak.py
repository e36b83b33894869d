"""`robot-wm bench soak`: very many plans at virtual time with random models, readings, resets and clocks that jump past deadlines.

Every plan is checked: finite, inside the limits, within rate and jerk, made of one bundle. Memory is watched after the warm-up.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.export import export_bundle
from models.networks import Sizes
from models.world_model import WorldModel
from robot_wm.actions import normalise
from robot_wm.backend import Model
from robot_wm.bounds import Bounds, stoppable
from robot_wm.bundle import PlannerDefaults
from robot_wm.contract import Contract, parse_contract
from robot_wm.errors import RunError
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Applied, FloatArray, Measurement, Plan
from robot_wm.planner import Planner
from robot_wm.replanner import NoLatent, Replanner
from robot_wm.search import PredictiveSampling, Search, search_named
from robot_wm.timebase import NS_PER_S, VirtualClock

START = 1_000 * NS_PER_S
RULES: tuple[Search, ...] = (
    Search(),
    Search(correlation=0.7, keep_best=True, momentum=0.2, keep_spread=2.0),
    PredictiveSampling(),
    search_named("cem"),
    search_named("policy"),
)
ROUNDS = 200  # turns of a model and rule in one soak
WARM = 0.2  # of the plans, before memory is compared
TOLERANCE = 2e-4  # normalised, for rounding


class RestlessClock(VirtualClock):
    """A virtual clock that moves a little whenever it is read, and now and then far."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__(START)
        self._rng = rng

    def now(self) -> int:
        jump = self._rng.random() < 0.003
        self.advance(int(self._rng.exponential(5e7 if jump else 2e5)))
        return super().now()


class Robot:
    """One random contract and model with all that plans for it."""

    def __init__(self, rng: np.random.Generator, seed: int, scratch: Path, clock: VirtualClock) -> None:
        self.contract = random_contract(rng)
        torch.manual_seed(seed)
        sizes = Sizes("soak", latent=16, mlp=32, encoder=16, value_heads=int(rng.integers(1, 4)), encoder_layers=1)
        world_model = WorldModel(self.contract, sizes).requires_grad_(False).eval()
        for parameter in world_model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
        budget = PlannerDefaults(horizon=int(rng.integers(1, 5)), samples=16, proposals=4, elites=6, refinements=3)
        self.model = Model(export_bundle(world_model, self.contract, scratch / f"bundle{seed}", budget), "cpu")
        self.clock = clock
        self.filter = LatentFilter(self.contract, self.model, history_s=0.5)
        self.planners = [Planner(self.contract, self.model, seed, clock, rule) for rule in RULES]
        self.restart(0)

    def restart(self, turn: int) -> None:
        """Begin an episode with the next rule's planner."""
        self.filter.reset(self.clock.now())
        planner = self.planners[turn % len(RULES)]
        self.replanner = Replanner(self.contract, planner, self.clock, latent_stale_s=0.5)

    def live(self, rng: np.random.Generator) -> None:
        """One model step: a reading that may be lost or absurd, and whatever is sent."""
        self.clock.advance(round(NS_PER_S / self.contract.model_hz))  # else plans would begin ever further ahead of it
        now = self.clock.now()
        if rng.random() < 0.9:
            values = rng.standard_normal(2) * 10.0 ** rng.uniform(-2, 6)
            self.filter.observe(Measurement("state", now - int(rng.integers(0, 10**8)), values), now)
        action = self.contract.action
        sent = rng.uniform(action.limit_low, action.limit_high)
        applied = Applied(now, sent, "plan:1" if rng.random() < 0.7 else "hold")
        self.filter.applied(applied)
        self.replanner.applied(applied)
        if rng.random() < 0.95:
            self.replanner.latent(self.filter.latent())

    def plan(self, rng: np.random.Generator) -> tuple[Plan, FloatArray]:
        """A plan whose deadline may be far, near, past or missing; and the two actions before it."""
        budget = int(rng.integers(0, 3 * 10**7))
        start = self.replanner.next_start(self.clock.now(), budget)
        deadline = None if rng.random() < 0.1 else self.clock.now() + int(rng.uniform(-0.2, 1.0) * 2e7)
        plan, info = self.replanner.plan(start, deadline, explore=bool(rng.random() < 0.1))
        assert info.previous is not None
        return plan, np.array(info.previous)


def soak(plans: int, seed: int = 0, robots: int = 6, progress: Any = None) -> dict[str, Any]:
    """Make `plans` plans and return what they were: counts by source, and memory in MiB at the end of the warm-up and after.

    Raises:
        RunError: a plan is not finite, or breaks a limit, a rate or a jerk; naming the plan and the bound.
    """
    rng = np.random.default_rng(seed)
    sources: Counter[str] = Counter()
    memory: list[float] = []
    done = 0
    with tempfile.TemporaryDirectory() as scratch:
        fleet = [Robot(rng, i, Path(scratch), RestlessClock(rng)) for i in range(robots)]
        for turn, count in enumerate(_turns(plans)):
            robot = fleet[turn % robots]
            robot.restart(turn // robots)
            for _ in range(count):
                robot.live(rng)
                if rng.random() < 0.002:
                    robot.restart(turn // robots)
                try:
                    plan, before = robot.plan(rng)
                except NoLatent:
                    sources["none: no latent"] += 1
                    continue
                check(plan, before, robot.contract)
                sources[plan.stats.source] += 1
            done += count
            if done >= WARM * plans:
                memory.append(resident_mib())
            if progress is not None:
                progress(done)
    return {
        "plans": plans,
        "sources": dict(sources),
        "resident_mib_after_warm_up": memory[0],
        "resident_mib_at_the_end": memory[-1],
        "resident_mib_largest": max(memory),
        "seed": seed,
    }


def check(plan: Plan, before: FloatArray, contract: Contract) -> None:
    """Raises RunError unless every action is finite and within limits, rate and jerk after the two actions `before` (2, A).

    The first step may exceed the jerk where the actions before it allow no less.
    """
    name, bounds = f"plan {plan.index} ({plan.stats.source})", Bounds.of(contract)
    if not np.isfinite(plan.actions).all():
        raise RunError(f"{name} is not finite: {plan.actions}")
    rows = normalise(contract, np.vstack([before, plan.actions]))
    if (rows[2:] < bounds.low - TOLERANCE).any() or (rows[2:] > bounds.high + TOLERANCE).any():
        raise RunError(f"{name} breaks a limit: {plan.actions}")
    changes = np.diff(rows, axis=0)
    if (np.abs(changes[1:]) > bounds.rate + TOLERANCE).any():
        raise RunError(f"{name} breaks a rate: {plan.actions} after {before}")
    room = np.where(changes[0] > 0.0, bounds.high - rows[1], rows[1] - bounds.low)
    reach = np.minimum(bounds.rate, np.minimum(room, stoppable(room, bounds.jerk)))
    allowed = np.tile(bounds.jerk, (len(plan.actions), 1))
    allowed[0] = np.maximum(bounds.jerk, np.abs(changes[0]) - reach)
    if (np.abs(np.diff(changes, axis=0)) > allowed + 2 * TOLERANCE).any():
        raise RunError(f"{name} breaks a jerk: {plan.actions} after {before}")


def random_contract(rng: np.random.Generator) -> Contract:
    """One observation, one to four actions, tightened limits and a delay, with or without rates and jerks."""
    size = int(rng.integers(1, 5))
    span = rng.uniform(0.5, 20.0, size)
    action: dict[str, Any] = {"names": [f"motor{i}" for i in range(size)], "mode": "effort"}
    action |= {"low": (-span).tolist(), "high": span.tolist(), "delay_s": float(rng.uniform(0.0, 0.05))}
    action |= {"limit_low": (-0.7 * span).tolist(), "limit_high": (0.9 * span).tolist()}
    if rng.random() < 0.5:
        action["rate"] = (rng.uniform(0.5, 50.0, size) * span).tolist()
    if rng.random() < 0.5:
        action["jerk"] = (10.0 ** rng.uniform(1.0, 4.0, size) * span).tolist()
    state = {"name": "state", "topic": "state", "field": "data", "names": ["x", "y"]}
    hz = int(rng.choice([25, 50, 100]))
    return parse_contract({"name": "soak", "model_hz": hz, "observations": [state], "action": action})


def resident_mib() -> float:
    """Memory of this process that is in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _turns(plans: int) -> list[int]:
    """How many plans each turn makes, as even as can be."""
    turns = min(ROUNDS, plans)
    return [plans // turns + (i < plans % turns) for i in range(turns)]
