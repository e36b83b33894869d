"""A box that a point of the robot may not leave, such as the tip of its tool."""

from __future__ import annotations

import numpy as np

from robot_wm.contract import Contract
from robot_wm.errors import ContractError
from robot_wm.functions import load_function
from robot_wm.messages import FloatArray


class Workspace:
    """`safety.workspace` of a contract: `function` gives the point (3,) [m] for the positions (action,) of the driven joints.

    Raises:
        ContractError: the function is not there, or gives no point for joints that are all at zero.
    """

    def __init__(self, contract: Contract) -> None:
        box = contract.safety.workspace
        assert box is not None
        self._name = box.function
        self._point = load_function(box.function, "safety.workspace.function")
        self._low, self._high = np.array(box.low), np.array(box.high)
        defect = self._defect(np.zeros(contract.action.size))[1]
        if defect:
            raise ContractError(f"contract {contract.name}: safety.workspace: {defect}")

    def breach(self, positions: FloatArray) -> str:
        """Why the robot must come to rest at these positions, or nothing. A function that fails is a reason, too."""
        point, defect = self._defect(positions)
        if defect or ((point >= self._low) & (point <= self._high)).all():
            return defect
        shown = ", ".join(f"{value:.3f}" for value in point)
        return f"{self._name} is at ({shown}), outside safety.workspace"

    def _defect(self, positions: FloatArray) -> tuple[FloatArray, str]:
        try:
            point = np.asarray(self._point(positions), np.float64)
        except Exception as error:  # noqa: BLE001 - the user's own code must not end the motor loop
            return self._low, f"{self._name} failed: {type(error).__name__}: {error}"
        if point.shape != (3,) or not np.isfinite(point).all():
            return self._low, f"{self._name} gives no point of three finite numbers"
        return point, ""
