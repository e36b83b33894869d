"""Joint states of a task: the joints that its actuators move, and those that its contract observes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from robot_wm.messages import FloatArray

if TYPE_CHECKING:
    from sim.recording import Everything
    from sim.tasks import Task

JOINT, JOINT_IN_PARENT, SCALAR = 0, 1, (2, 3)  # mjtTrn, mjtJoint: slide and hinge have one number each


class JointReader:
    """Reads position and velocity of the actuated joints first, then of the other joints that the contract observes.

    An actuated joint bears the name of its action. What the contract does not observe is read from the joint that the
    actuator moves; an actuator that moves no single hinge or slide (a tendon, a site) reads zero.
    """

    def __init__(self, task: Task | Everything) -> None:
        contract = task.contract
        self.names = tuple(dict.fromkeys([*contract.action.names, *_observed(contract.observations)]))
        self._task = task
        self._addresses = {name: _addresses(task.model, i) for i, name in enumerate(contract.action.names)}

    def read(self) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
        """Names, positions and velocities, SI units."""
        tables: dict[str, dict[str, float]] = {"position": {}, "velocity": {}, "effort": {}}
        for name, found in self._addresses.items():
            if found is not None:
                tables["position"][name] = float(self._task.data.qpos[found[0]])
                tables["velocity"][name] = float(self._task.data.qvel[found[1]])
        measured = {m.name: m.values for m in self._task.read()}
        for item in self._task.contract.observations:
            if item.field != "data":
                tables[item.field].update(zip(item.names, map(float, measured[item.name]), strict=True))
        position, velocity = (np.array([tables[f].get(n, 0.0) for n in self.names]) for f in ("position", "velocity"))
        return self.names, position, velocity


def _observed(observations: Any) -> list[str]:
    return [name for item in observations if item.field != "data" for name in item.names]


def _addresses(model: Any, actuator: int) -> tuple[int, int] | None:
    """Where qpos and qvel hold the joint that an actuator moves."""
    if int(model.actuator_trntype[actuator]) not in (JOINT, JOINT_IN_PARENT):
        return None
    joint = int(model.actuator_trnid[actuator][0])
    if int(model.jnt_type[joint]) not in SCALAR:
        return None
    return int(model.jnt_qposadr[joint]), int(model.jnt_dofadr[joint])
