"""The safety filter: the last thing between any command and the motors, and the one place that decides what is sent.

In this order:

1. A request that is not finite or has the wrong shape is refused; the caller holds. NaN is never a marker for anything.
2. Every value is clipped to the contract's limits.
3. Its change since what was last really sent is limited to `action.rate` times the period. A plan changes at once by what
   the rate allows in a whole model step: that much is played as a ramp and is no clip. `action.jerk` is the planner's to
   keep, not the filter's, which must be able to stop at once.
4. Towards a joint's position bound: effort and velocity that would push further out become zero, a position is clamped. Within
   `safety.soft` of the bound they fade: half as near, half as much.
   Beyond a joint's velocity bound: effort that would speed it up becomes zero, a velocity is clamped.
   A bounded joint whose state is too old to judge gets zero, or in position mode keeps what it had.
5. The limits once more, because they hold whatever happened above.

What comes out is what is sent, logged, replayed through the model and learned from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from robot_wm.contract import Contract
from robot_wm.errors import ContractError, MessageError
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S
from robot_wm.workspace import Workspace

TOLERANCE = 1e-6  # of the range: a smaller change is rounding, not a clip
OUTSIDE = 0.01  # of the range: so far outside a joint may be armed in position mode


@dataclass(frozen=True)
class Checked:
    """What is really sent: `values` (action,) in SI units; `reasons` reads `<cause>:<joint>` for every one cut short."""

    values: FloatArray
    clipped: bool
    reasons: tuple[str, ...]


class SafetyFilter:
    """Checks commands against one contract; `counts` says how often each reason changed one."""

    def __init__(self, contract: Contract) -> None:
        action = contract.action
        self.names = action.names
        self.mode = action.mode
        self.counts: Counter[str] = Counter()
        self.last: FloatArray | None = None  # what was last really sent; None: nothing yet, so no slew limit
        self._low = np.array(action.limit_low or action.low, np.float64)
        self._high = np.array(action.limit_high or action.high, np.float64)
        self._tolerance = TOLERANCE * (np.array(action.high) - np.array(action.low))
        self._rate = np.array(action.rate, np.float64) if action.rate else None
        self._plan_step = 0.0 if self._rate is None else self._rate / contract.model_hz
        self._stale = round(contract.safety.joint_stale_s * NS_PER_S)
        self._position = contract.safety.position
        self._velocity = contract.safety.velocity
        self._soft = contract.safety.soft
        if self._soft and self.mode == "position":
            raise ContractError(
                f"contract {contract.name}: safety.soft is of effort and velocity mode; a position is clamped"
            )
        self._bounded = [(i, name) for i, name in enumerate(action.names) if name in {*self._position, *self._velocity}]
        self._workspace = Workspace(contract) if contract.safety.workspace is not None else None
        self._needed = tuple(dict.fromkeys([*action.names, *self._position, *self._velocity]))
        self._measured = _measured(contract)
        self._index: dict[str, int] = {}
        self._index_of: tuple[str, ...] = ()

    def filter(self, request: FloatArray, state: JointState, now: int, period_s: float) -> Checked:
        """Return what may be sent for `request` (action,) [SI] at `now` [ns], `period_s` after the last one.

        Raises:
            MessageError: the request is not finite or has the wrong shape; nothing has changed then.
        """
        asked = self.require_finite(request)
        reasons: list[str] = []
        values = self._note("limit", asked, np.clip(asked, self._low, self._high), reasons)
        if self._rate is not None and self.last is not None:
            step, reach = self._plan_step, self._rate * max(period_s, 0.0)
            self._note("slew", values, np.clip(values, self.last - step, self.last + step), reasons)
            values = np.clip(values, self.last - reach, self.last + reach)
        if self._bounded:
            values = self._within_bounds(values, state, now, period_s, reasons)
        values = self._note("limit", values, np.clip(values, self._low, self._high), reasons)
        self.last = values
        self.counts.update(reasons)
        return Checked(values, bool(reasons), tuple(reasons))

    def resume_from(self, sent: FloatArray | None) -> None:
        """Slew from `sent` next time: after a write that failed, or None after a time without power."""
        self.last = None if sent is None else np.array(sent, np.float64)

    def require_finite(self, request: FloatArray) -> FloatArray:
        """Return the request as float64. Raises MessageError naming what is wrong with it."""
        values: FloatArray = np.asarray(request, np.float64)
        if values.shape != (len(self.names),):
            raise MessageError(
                f"command has shape {values.shape}, expected ({len(self.names)},): {', '.join(self.names)}"
            )
        if not np.isfinite(values).all():
            bad = [name for name, value in zip(self.names, values, strict=True) if not np.isfinite(value)]
            raise MessageError(f"command is not finite for {', '.join(bad)}")
        return values

    def require_state(self, state: JointState) -> None:
        """Raise MessageError unless every joint that matters is there, by name, with finite numbers."""
        missing = [name for name in self._needed if name not in self._indices(state)]
        if missing:
            raise MessageError(
                f"joint state lacks {', '.join(missing)}; it has {', '.join(state.names) or 'no joints'}"
            )
        for field in self._measured:
            if len(getattr(state, field)) == 0:
                raise MessageError(f"joint state: {field} is not measured, but {self.mode} mode or a bound needs it")
        for field in ("position", "velocity", "effort"):
            values = np.asarray(getattr(state, field))
            if values.shape not in ((0,), (len(state.names),)):
                raise MessageError(f"joint state: {field} has shape {values.shape} for {len(state.names)} joints")
            if not np.isfinite(values).all():
                bad = [name for name, value in zip(state.names, values, strict=True) if not np.isfinite(value)]
                raise MessageError(f"joint state: {field} is not finite for {', '.join(bad)}")

    def outside(self, state: JointState) -> str:
        """In position mode, name a joint that is so far beyond its limits that clamping its target would jerk it; or nothing."""
        if self.mode != "position":
            return ""
        for i, name in enumerate(self.names):
            bound = self._position.get(name, (-np.inf, np.inf))
            low, high = max(float(self._low[i]), bound[0]), min(float(self._high[i]), bound[1])
            position, _ = self._joint(state, name)
            if position is not None and not low - OUTSIDE * (high - low) <= position <= high + OUTSIDE * (high - low):
                return f"{name} is at {position:.3f}, outside {low:g}..{high:g}"
        return ""

    def breach(self, state: JointState) -> str:
        """Name a joint without a motor that is beyond its bounds, or the point that is outside the workspace, or nothing.

        Only stopping everything helps then.
        """
        for name in self._needed[len(self.names) :]:
            position, velocity = self._joint(state, name)
            low, high = self._position.get(name, (-np.inf, np.inf))
            if position is not None and not low <= position <= high:
                return f"{name} is at {position:.3f}, outside {low:g}..{high:g}"
            if velocity is not None and abs(velocity) > self._velocity.get(name, np.inf):
                return f"{name} moves at {velocity:.3f}, its bound is {self._velocity[name]:g}"
        return self._workspace.breach(self.select(state, state.position)) if self._workspace is not None else ""

    def select(self, state: JointState, values: FloatArray) -> FloatArray:
        """Pick from `values` (joints,) of a state those of the actuated joints, in the contract's order; zeros if not measured."""
        if len(values) == 0:
            return np.zeros(len(self.names))
        index = self._indices(state)
        return np.array([values[index[name]] for name in self.names], np.float64)

    def _within_bounds(
        self, values: FloatArray, state: JointState, now: int, period_s: float, reasons: list[str]
    ) -> FloatArray:
        result: FloatArray = values.copy()
        fresh = now - state.stamp <= self._stale
        for i, name in self._bounded:
            position, velocity = self._joint(state, name)
            value = float(result[i])
            if not fresh:
                safe, reason = self._blind(i), "stale"
            elif self.mode == "position":
                safe, reason = self._position_target(i, name, value, period_s)
            elif self.mode == "velocity":
                safe, reason = self._velocity_target(name, value, position, period_s)
            else:
                safe, reason = self._effort(name, value, position, velocity or 0.0, period_s)
            if abs(safe - value) > self._tolerance[i]:
                reasons.append(f"{reason}:{name}")
            result[i] = safe
        return result

    def _blind(self, i: int) -> float:
        """What a bounded joint gets when nobody knows where it is."""
        if self.mode == "position" and self.last is not None:
            return float(self.last[i])
        return 0.0

    def _effort(
        self, name: str, value: float, position: float | None, velocity: float, period_s: float
    ) -> tuple[float, str]:
        low, high = self._position.get(name, (-np.inf, np.inf))
        fastest = self._velocity.get(name, np.inf)
        if position is not None:
            ahead = position + velocity * period_s  # where it will be when the next command comes
            if (max(position, ahead) >= high and value > 0.0) or (min(position, ahead) <= low and value < 0.0):
                return 0.0, "position"
        if abs(velocity) >= fastest and value * velocity > 0.0:
            return 0.0, "velocity"
        return self._faded(name, value, position)

    def _velocity_target(self, name: str, value: float, position: float | None, period_s: float) -> tuple[float, str]:
        low, high = self._position.get(name, (-np.inf, np.inf))
        fastest = self._velocity.get(name, np.inf)
        safe, reason = min(max(value, -fastest), fastest), "velocity"
        if position is not None and period_s > 0.0:
            slowest_in = min(0.0, (low - position) / period_s), max(0.0, (high - position) / period_s)
            bounded = min(max(safe, slowest_in[0]), slowest_in[1])
            if bounded != safe:
                safe, reason = bounded, "position"
        faded, soft = self._faded(name, safe, position)
        return (faded, soft) if faded != safe else (safe, reason)

    def _faded(self, name: str, value: float, position: float | None) -> tuple[float, str]:
        """What is left of a push towards a bound that is nearer than the joint's soft zone is wide."""
        if position is None or name not in self._soft:
            return value, ""
        low, high = self._position[name]
        room = (high - position if value > 0.0 else position - low) / self._soft[name]
        return value * min(max(room, 0.0), 1.0), "soft"

    def _position_target(self, i: int, name: str, value: float, period_s: float) -> tuple[float, str]:
        low, high = self._position.get(name, (-np.inf, np.inf))
        safe, reason = value, "velocity"
        if self.last is not None:
            reach = self._velocity.get(name, np.inf) * max(period_s, 0.0)
            safe = min(max(value, float(self.last[i]) - reach), float(self.last[i]) + reach)
        bounded = min(max(safe, low), high)
        return (bounded, "position") if bounded != safe else (safe, reason)

    def _note(self, cause: str, before: FloatArray, after: FloatArray, reasons: list[str]) -> FloatArray:
        for i in np.flatnonzero(np.abs(after - before) > self._tolerance):
            reasons.append(f"{cause}:{self.names[i]}")
        return after

    def _joint(self, state: JointState, name: str) -> tuple[float | None, float | None]:
        """Position and velocity of one joint; None where not measured."""
        i = self._indices(state)[name]
        position = float(state.position[i]) if len(state.position) else None
        velocity = float(state.velocity[i]) if len(state.velocity) else None
        return position, velocity

    def _indices(self, state: JointState) -> dict[str, int]:
        if state.names != self._index_of:
            self._index_of = state.names
            self._index = {name: i for i, name in enumerate(state.names)}
        return self._index


def _measured(contract: Contract) -> tuple[str, ...]:
    """Fields of the joint state that this contract cannot be kept without."""
    safety = contract.safety
    position = contract.action.mode == "position" or bool(safety.position) or safety.workspace is not None
    velocity = bool(safety.velocity) or (contract.action.mode == "effort" and bool(safety.damping))
    return ("position",) * position + ("velocity",) * velocity
