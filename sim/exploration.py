"""Agents whose data covers more than doing well: actions that hold for random times, alone or on top of another agent's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robot_wm.contract import Contract
from robot_wm.messages import Applied, FloatArray, Measurement
from robot_wm.timebase import NS_PER_S, Grid
from sim.agents import Agent

HOLD_S = 0.5  # longest time that a draw holds: white noise moves no robot ...
SHORTEST = 0.2  # ... and the shortest, as a part of it
ASTRAY = 0.15  # share of the episodes that begin with random actions, so that the agent has to recover
ASTRAY_S = 1.0  # for so long


class _Held:
    """Draws (A,) that hold for random times up to `longest` [s], `least` [ns] at least."""

    def __init__(
        self, rng: np.random.Generator, draw: Callable[[], FloatArray], longest: float = HOLD_S, least: int = 0
    ) -> None:
        self._rng, self._draw, self._longest, self._least = rng, draw, longest, least
        self._until: int | None = None

    def at(self, now: int) -> FloatArray:
        if self._until is None or now >= self._until:
            self._value = self._draw()
            held = self._longest * self._rng.uniform(SHORTEST, 1.0)
            self._until = now + max(round(held * NS_PER_S), self._least)
        return self._value


class HeldActions:
    """Uniform actions within the limits, each for a random time."""

    def __init__(self, contract: Contract) -> None:
        self._low, self._high = np.array(contract.action.limit_low), np.array(contract.action.limit_high)

    def reset(self, start: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 4])
        self._actions = _Held(rng, lambda: rng.uniform(self._low, self._high))

    def observe(self, measurement: Measurement, now: int) -> None:
        pass

    def request(self, now: int) -> FloatArray:
        return self._actions.at(now)

    def applied(self, applied: Applied) -> None:
        pass

    def published(self) -> list[tuple[str, object]]:
        return []


class Exploring:
    """Another agent's actions and held noise on top; some episodes begin with random actions alone.

    `strength`, the standard deviation of the noise as a share of the action range, is drawn for each episode from 0..`noise`.
    What leaves the limits by it is the safety filter's to cut; the agent below hears what was applied.

    Args:
        hold_s: longest time that a draw of the noise holds; 0: a model step. Noise that holds can be foreseen from the actions
            before it, and a policy that imitates them learns to.
    """

    def __init__(self, agent: Agent, contract: Contract, noise: float, hold_s: float = HOLD_S) -> None:
        self._agent, self._most, self._hold_s = agent, noise, hold_s
        self._step = Grid(contract.model_hz).step
        self._random = HeldActions(contract)
        self._range = np.array(contract.action.limit_high) - np.array(contract.action.limit_low)
        self.strength = 0.0

    def reset(self, start: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 5])
        self.strength = float(rng.uniform(0.0, self._most))
        self._found = start + round(ASTRAY_S * NS_PER_S) * int(rng.random() < ASTRAY)
        self._noise = _Held(
            rng,
            lambda: self.strength * self._range * rng.standard_normal(self._range.size),
            self._hold_s,
            self._step,
        )
        self._random.reset(start, seed)
        self._agent.reset(start, seed)

    def observe(self, measurement: Measurement, now: int) -> None:
        self._agent.observe(measurement, now)

    def request(self, now: int) -> FloatArray:
        action = self._agent.request(now)
        if now < self._found:
            return self._random.request(now)
        noisy: FloatArray = action + self._noise.at(now)
        return noisy

    def applied(self, applied: Applied) -> None:
        self._agent.applied(applied)

    def published(self) -> list[tuple[str, object]]:
        return self._agent.published()
