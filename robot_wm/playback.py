"""Plays plans and commands out by time: which one holds now, and which ones are refused and why."""

from __future__ import annotations

from collections import Counter, deque

import numpy as np

from robot_wm.contract import Contract
from robot_wm.messages import Command, FloatArray, Plan
from robot_wm.timebase import NS_PER_S, Grid

AHEAD_S = 1.0  # a plan that starts later than this comes from another clock
PENDING = 8  # plans kept that have not ended
BUNDLES = 3  # the next, the one in use, the one before


class Offers:
    """What became of the plans or commands offered."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused: Counter[str] = Counter()  # by a short kind
        self.refusal = ""  # the newest refusal, a sentence

    def refuse(self, kind: str, sentence: str) -> str:
        self.refused[kind] += 1
        self.refusal = sentence
        return sentence

    def figures(self, what: str) -> dict[str, float | str]:
        """For diagnostics, with names that begin with `what`."""
        refused = sum(self.refused.values())
        return {f"{what}s_accepted": self.accepted, f"{what}s_refused": refused, f"{what}_refusal": self.refusal}


class PlanPlayer:
    """The accepted plans, in the order of their start; the newest that has begun is the one played.

    A plan is good for `plan_stale_s` from its start: beyond its last row that row holds, after the bound nothing does.
    The action of the instant at which a command takes effect (`action.delay_s` from now) is the one to send now.
    """

    def __init__(self, contract: Contract) -> None:
        self.bundles: tuple[str, ...] | None = None  # ids of bundles whose plans are played, newest last; None: any
        self.counts = Offers()
        self._plans: deque[Plan] = deque(maxlen=PENDING)
        self._size = contract.action.size
        self._step = Grid(contract.model_hz).step
        self._delay = round(contract.action.delay_s * NS_PER_S)
        self._stale = round(contract.safety.plan_stale_s * NS_PER_S)

    def offer(self, plan: Plan, now: int) -> str:
        """Accept a plan, or return why it is refused."""
        kind, reason = self._defect(plan, now)
        if kind:
            return self.counts.refuse(kind, f"plan {plan.index}: {reason}")
        # Of two plans with one start the later arrival wins; plans that begin later are superseded by it.
        while self._plans and self._plans[-1].start >= plan.start:
            self._plans.pop()
        self._plans.append(plan)
        self.counts.accepted += 1
        return ""

    def expect(self, bundle_id: str) -> None:
        """From now on play plans by this bundle, and by those expected last: a swap must not cost a plan that is on its way."""
        kept = [known for known in self.bundles or () if known != bundle_id]
        self.bundles = (*kept, bundle_id)[-BUNDLES:]

    def action(self, now: int) -> tuple[FloatArray, int] | None:
        """The action (A,) to send at `now` and the index of its plan, or None when no plan is good."""
        effect = now + self._delay
        while len(self._plans) > 1 and self._plans[1].start <= effect:
            self._plans.popleft()
        if not self._plans or not 0 <= effect - self._plans[0].start <= self._stale:
            return None
        plan = self._plans[0]
        row = min((effect - plan.start) // plan.step, len(plan.actions) - 1)
        values: FloatArray = plan.actions[row]
        return values, plan.index

    def clear(self) -> None:
        """Forget every plan."""
        self._plans.clear()

    def _defect(self, plan: Plan, now: int) -> tuple[str, str]:
        """What is wrong with it: a short kind to count, and a sentence."""
        effect = now + self._delay
        actions = np.asarray(plan.actions)
        if actions.ndim != 2 or len(actions) == 0 or actions.shape[1] != self._size:
            return "shape", f"its actions have shape {actions.shape}, expected (horizon, {self._size})"
        if not np.isfinite(actions).all():
            return "not finite", "its actions are not finite"
        if abs(plan.step - self._step) > 1000:  # a microsecond: another rate, not rounding
            return "step", f"its step is {plan.step / 1e6:.3f} ms, the contract's {self._step / 1e6:.3f} ms"
        if self.bundles is not None and plan.bundle_id not in self.bundles:
            known = ", ".join(sorted(self.bundles)) or "none"
            return "bundle", f"it is by bundle {plan.bundle_id!r}; known here: {known}"
        if plan.start > effect + AHEAD_S * NS_PER_S:
            return "stamp", f"it starts {(plan.start - effect) / NS_PER_S:.3f} s from now"
        if plan.end <= effect or effect - plan.start > self._stale:
            return "late", f"it started {(effect - plan.start) / NS_PER_S:.3f} s ago, nothing of it lies ahead"
        if self._plans and plan.start < self._plans[0].start:
            return "older", "it starts before the one being played"
        return "", ""


class CommandPlayer:
    """The newest command of an operator or external driver; good for `plan_stale_s` from its stamp."""

    def __init__(self, contract: Contract) -> None:
        self.counts = Offers()
        self._command: Command | None = None
        self._size = contract.action.size
        self._stale = round(contract.safety.plan_stale_s * NS_PER_S)

    def offer(self, command: Command, now: int) -> str:
        """Accept a command, or return why it is refused."""
        kind, reason = self._defect(command, now)
        if kind:
            return self.counts.refuse(kind, f"command: {reason}")
        self._command = command
        self.counts.accepted += 1
        return ""

    def action(self, now: int) -> FloatArray | None:
        """The values (A,) to send at `now`, or None when there is no fresh command."""
        if self._command is None or now - self._command.stamp > self._stale:
            return None
        return self._command.values

    def clear(self) -> None:
        self._command = None

    def _defect(self, command: Command, now: int) -> tuple[str, str]:
        values = np.asarray(command.values)
        if values.shape != (self._size,):
            return "shape", f"it has shape {values.shape}, expected ({self._size},)"
        if not np.isfinite(values).all():
            return "not finite", "it is not finite"
        if now - command.stamp > self._stale:
            return "late", f"it is {(now - command.stamp) / NS_PER_S:.3f} s old"
        if command.stamp > now + self._stale:
            return "stamp", f"its stamp is {(command.stamp - now) / NS_PER_S:.3f} s ahead of the clock"
        if self._command is not None and command.stamp < self._command.stamp:
            return "older", "its stamp goes backwards"
        return "", ""
