"""A board's joints and units ↔ the contract's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robot_wm.buses.serial_protocol import MAX_JOINTS
from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray


class JointMap:
    """Joint order and units of one board.

    position [SI] = position_scale × board + position_offset, velocity = position_scale × board, effort = effort_scale × board.
    Where readings repeat (`position_wrap`), position is the one that lies nearest to the middle of the joint's range, and what
    is commanded takes the turn in which the joint was read last.

    Args:
        joints: names in the board's order, those with motors first; None: the actions, then the other joints observed.
        position_scale: SI units per board unit, by joint; negative turns the direction; absent: 1.
        position_offset: where the board's zero is [SI], by joint; absent: 0.
        effort_scale: SI units per board unit, by joint; absent: 1.
        most: joints that a board may have.
        position_wrap: position in the middle of the range and after how much readings repeat, both [SI], by joint; absent: never.
    """

    def __init__(
        self,
        contract: Contract,
        joints: Sequence[str] | None,
        position_scale: Mapping[str, float],
        position_offset: Mapping[str, float],
        effort_scale: Mapping[str, float],
        most: int = MAX_JOINTS,
        position_wrap: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        actions = contract.action.names
        self.names = tuple(joints) if joints is not None else contract.joints
        self.motors = len(actions)
        self.mode = contract.action.mode
        if len(set(self.names)) != len(self.names) or len(self.names) > most:
            raise BusError(f"joints: {', '.join(self.names)} must be different names, {most} at most")
        if set(self.names[: self.motors]) != set(actions):
            raise BusError(
                f"joints: the first {self.motors} of the board are {', '.join(self.names[: self.motors])}, "
                f"but the contract's actions are {', '.join(actions)}"
            )
        self._order = [actions.index(name) for name in self.names[: self.motors]]
        self._scale = self._per_joint("position_scale", position_scale, 1.0)
        self._offset = self._per_joint("position_offset", position_offset, 0.0)
        self._effort = self._per_joint("effort_scale", effort_scale, 1.0)
        middle, period = _wraps(position_wrap or {})
        self._middle = self._per_joint("position_wrap", middle, 0.0)
        self._period = self._per_joint("position_wrap", period, 0.0)
        self._turns = np.zeros(len(self.names))  # [SI] taken off the newest reading, whole periods

    def command(self, values: FloatArray) -> FloatArray:
        """Contract (action,) [SI] → board (motors,) float32. Raises BusError when it is not finite there or of another shape."""
        given = np.asarray(values, np.float64)
        if given.shape != (self.motors,):
            raise BusError(f"a setpoint of shape {given.shape} is not ({self.motors},)")
        ordered, m = given[self._order], self.motors
        if self.mode == "effort":
            ordered = ordered / self._effort[:m]
        elif self.mode == "position":
            ordered = (ordered + self._turns[:m] - self._offset[:m]) / self._scale[:m]
        else:
            ordered = ordered / self._scale[:m]
        with np.errstate(over="ignore"):
            result: FloatArray = ordered.astype("<f4")
        if not np.isfinite(result).all():
            bad = [n for n, value in zip(self.names, result, strict=False) if not np.isfinite(value)]
            raise BusError(f"the setpoint is not finite for {', '.join(bad)}; nothing was sent")
        return result

    def position(self, values: FloatArray) -> FloatArray:
        """Board (joints,) → SI."""
        straight = values * self._scale + self._offset
        periods = np.divide(
            straight - self._middle, self._period, out=np.zeros(len(self.names)), where=self._period != 0.0
        )
        turns = np.round(periods) * self._period
        # A torn reading must not spoil the next setpoint.
        self._turns = np.where(np.isfinite(turns), turns, self._turns)
        result: FloatArray = straight - self._turns
        return result

    def velocity(self, values: FloatArray) -> FloatArray:
        """Board (joints,) → SI."""
        return values * self._scale

    def effort(self, values: FloatArray) -> FloatArray:
        """Board (joints,) → SI."""
        return values * self._effort

    def _per_joint(self, option: str, given: Mapping[str, float], default: float) -> FloatArray:
        unknown = sorted(set(given) - set(self.names))
        if unknown:
            raise BusError(f"{option} names {', '.join(unknown)}; the board's joints are {', '.join(self.names)}")
        values = np.array([float(given.get(name, default)) for name in self.names])
        if not np.isfinite(values).all() or (default and not values.all()):
            raise BusError(f"{option} must be finite{' and not zero' if default else ''} for every joint")
        return values


def _wraps(given: Mapping[str, Sequence[float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Middle and period by joint. Raises BusError naming the joint."""
    for name, wrap in given.items():
        if not isinstance(wrap, Sequence) or len(wrap) != 2 or not wrap[1] > 0.0:
            raise BusError(f"position_wrap of {name} must be [middle, period] with a period above 0, got {wrap}")
    return {name: wrap[0] for name, wrap in given.items()}, {name: wrap[1] for name, wrap in given.items()}
