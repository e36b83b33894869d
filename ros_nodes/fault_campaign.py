"""The campaign: one running stack, one fault after another; an operator brings control back between them.

Each fault is judged by the monitor of the line, which knows the contract and the bytes and nothing of what the robot says, and by
what the robot says: has it seen the fault, and does it come back as docs/safety.md promises.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from robot_wm.errors import RunError
from robot_wm.standstill import StandstillMeter
from ros_nodes.fault_actions import Actions
from ros_nodes.fault_kinds import KINDS, Bounds, Kind
from ros_nodes.fault_schedule import Planned

STEP_S = 0.02
RESUME_S = 5.0  # control that comes back by itself has come by then
RECOVERY_S = 120.0
SETTLED_S = 0.1  # control is back when it has been there so long


class Monitor(Protocol):
    """What the campaign asks of whoever watches the line (entry-point group `robot_wm.monitors`)."""

    def poll(self) -> None:
        """Take what has passed since."""
        ...

    def became_safe(self, start: int, end: int, off: bool) -> float | None:
        """Seconds from `start` [ns] until the motors had no effort (`off`: no power), for good up to `end`."""
        ...

    def unattended(self, start: int, end: int) -> float:
        """Longest time [s] that an effort stood without a new goal."""
        ...

    def violations_within(self, start: int, end: int) -> Sequence[Any]:
        """Goals that the contract forbids."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of one fault; times in [s] from it."""

    fault: Planned
    stamp: int  # [ns, monotonic]
    detected: bool | None  # None: it is too small to be seen
    safe_s: float | None  # until the motors were safe, or the longest that an effort stood; None: they were not
    bound_s: float
    stood_still_s: float  # for how long the machine did meanwhile: that much later is still in time
    in_bound: bool
    recovered: bool
    recovery_s: float
    violations: list[str]
    states: list[str]  # of motor_node, with their causes
    done: list[str]  # by the operator
    log_lost_s: float | None = None  # before a fault of the recorder, that no bag holds


class Campaign:
    """`bounds` in [s]; `slack_s` is what a loaded machine may add to each, `meter` tells what it added by standing still."""

    def __init__(
        self, actions: Actions, monitor: Monitor, bounds: Bounds, slack_s: float, meter: StandstillMeter
    ) -> None:
        self.actions = actions
        self.monitor = monitor
        self.bounds = bounds
        self.slack_s = slack_s
        self.meter = meter
        self._launch = actions.launch
        self._witness = actions.witness

    def run_fault(self, planned: Planned) -> Outcome:
        """Wait for the moment, do it, watch, undo it, bring control back, judge. Raises RunError when control stays away."""
        kind = KINDS[planned.kind]
        self._launch.session.spin(planned.after_s)
        kind.prepare(self.actions, planned.variant)
        if self._witness.state != "armed":  # a busy machine has stopped the robot meanwhile
            self._control("the fault before", by_itself=False)
        self._witness.begin()
        start = time.monotonic_ns()
        kind.do(self.actions, planned.variant, planned.lasts_s)
        detected = self._watch(kind, start, planned.lasts_s)
        end = time.monotonic_ns()
        self._launch.session.mark("mark", f"fault {planned.index} {kind.name} {planned.variant}".rstrip())
        by_itself, done = self._recover(kind)
        back = time.monotonic_ns()
        self.monitor.poll()
        safe_s, bound = self._judge(kind, start, end), kind.bound(self.bounds)
        stood_still_s = self.meter.within(start, end)
        return Outcome(
            fault=planned,
            stamp=start,
            detected=(detected or self._seen(kind)) if kind.seen else None,
            safe_s=safe_s,
            bound_s=bound,
            stood_still_s=stood_still_s,
            in_bound=safe_s is not None and safe_s <= bound + self.slack_s + stood_still_s,
            recovered=by_itself or not kind.resumes,
            recovery_s=(back - end) / 1e9,
            violations=[str(violation.what) for violation in self.monitor.violations_within(start, back)],
            states=self._witness.summary(),
            done=done,
        )

    def begin(self) -> None:
        """Arm for the first time. Raises RunError when that is refused for too long."""
        self._control("arming", by_itself=False)

    def _watch(self, kind: Kind, start: int, lasts_s: float) -> bool:
        """Let the fault be for its time; returns whether the robot has seen it."""
        end, seen = start + round(lasts_s * 1e9), False
        while time.monotonic_ns() < end:
            self._launch.session.spin(STEP_S)
            self.actions.publish()
            seen = seen or self._seen(kind)
        return seen

    def _seen(self, kind: Kind) -> bool:
        return any(self._witness.saw(sign) for sign in kind.seen)

    def _judge(self, kind: Kind, start: int, end: int) -> float | None:
        if kind.safe == "on":
            return self.monitor.unattended(start, end)
        return self.monitor.became_safe(start, end, off=kind.safe == "off")

    def _recover(self, kind: Kind) -> tuple[bool, list[str]]:
        """What an operator does: mend the cause, start what has ended, reset and arm where that is needed.

        Returns whether control came back without arming, and what was done.
        """
        with contextlib.suppress(ProcessLookupError):
            kind.undo(self.actions)
        done = self._control(kind.name, kind.resumes)
        return not any(step in ("arm", "reset") for step in done), done

    def _control(self, after: str, by_itself: bool) -> list[str]:
        """Wait until the robot is armed, helping it at once or, where it comes back `by_itself`, late. Returns what was done."""
        began, settled = time.monotonic(), 0.0
        done: list[str] = []
        while settled < SETTLED_S:
            waited = time.monotonic() - began
            if waited > RECOVERY_S:
                state, said = (
                    self._witness.state,
                    self._launch.session.diagnostics.get("motor_node", (0, "nothing", {})),
                )
                raise RunError(
                    f"{after}: no control after {RECOVERY_S:g} s, motor_node is {state!r} and says {said[1]!r}"
                )
            self._restart_ended(done)
            if not by_itself or waited > RESUME_S:
                self._operate(done)
            self._launch.session.spin(STEP_S)
            settled = settled + STEP_S if self._witness.state == "armed" else 0.0
        return done

    def _restart_ended(self, done: list[str]) -> None:
        supervisor = self._launch.supervisor
        for node in self._launch.stack.nodes:
            if node not in supervisor.running():
                self._witness.forget(node)
                supervisor.restart(node)
                done.append(f"restart {node}")
                with contextlib.suppress(RunError):  # it has ended again; the next round starts it once more
                    self._launch.session.wait_active([node], 20.0)

    def _operate(self, done: list[str]) -> None:
        verb = {"estop": "reset", "damped": "arm", "disarmed": "arm"}.get(self._witness.state)
        if verb is not None:
            with contextlib.suppress(RunError):  # refused while the cause stands: asked again
                self._launch.session.trigger(f"motor_node/{verb}")
                done.append(verb)


def figures_of(outcomes: Sequence[Outcome], slack_s: float) -> dict[str, Any]:
    """The campaign as figures, with a row per kind in the order of the table."""
    rows = []
    for name in KINDS:
        mine = [outcome for outcome in outcomes if outcome.fault.kind == name]
        if not mine:
            continue
        times = [outcome.safe_s for outcome in mine if outcome.safe_s is not None]
        rows.append(
            {
                "kind": name,
                "safe": KINDS[name].safe,
                "faults": len(mine),
                "detected": sum(map(bool, seen)) if (seen := _asked(mine)) else None,
                "safe_s_median": round(median(times), 4) if times else None,
                "safe_s_worst": round(max(times), 4) if times else None,
                "bound_s": round(mine[0].bound_s, 4),
                "in_bound": sum(outcome.in_bound for outcome in mine),
                "recovered": sum(outcome.recovered for outcome in mine),
                "limit_violations": sum(len(outcome.violations) for outcome in mine),
                "log_lost_s_worst": max((o.log_lost_s for o in mine if o.log_lost_s is not None), default=None),
            }
        )
    count, seen = len(outcomes), _asked(outcomes)
    return {
        "faults": count,
        "limit_violations": sum(len(outcome.violations) for outcome in outcomes),
        "safe_in_bound": sum(outcome.in_bound for outcome in outcomes) / count if count else None,
        "detected": sum(map(bool, seen)) / len(seen) if seen else None,
        "recovered": sum(outcome.recovered for outcome in outcomes) / count if count else None,
        "slack_s": slack_s,
        "stood_still": sum(outcome.stood_still_s > 0.0 for outcome in outcomes),
        "in_bound_by_standstill": sum(
            o.in_bound and o.safe_s is not None and o.safe_s > o.bound_s + slack_s for o in outcomes
        ),
        "rows": rows,
    }


def _asked(outcomes: Sequence[Outcome]) -> list[bool]:
    """Whether each fault that has to be seen was."""
    return [outcome.detected for outcome in outcomes if outcome.detected is not None]
