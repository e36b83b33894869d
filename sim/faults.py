"""Faults of a robot or of its sensors, put around a simulated task from a moment of the episode on: what trust has to notice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from robot_wm.errors import RunError
from robot_wm.images import Pixels
from robot_wm.messages import FloatArray, Measurement
from sim.tasks import SeeingTask, Task, make_task

PAYLOAD = 1.5  # times the mass and inertia
NOISE = {"position": 0.05, "velocity": 0.5}  # standard deviation: rad or m, and the same per second
MOVED, BRIGHTER = 0.01, 25  # a scene that moved: so many of its pixels are brighter or darker by so much (of 255)
ELSEWHERE = 7919  # added to the seed: the episode that a swapped camera shows

JOINT_FAULTS = ("wrong_sign", "frozen_joint", "noise", "payload", "payload_tip")
IMAGE_FAULTS = ("occluded", "outage", "frozen_frame", "swapped_camera")


@dataclass(frozen=True)
class Fault:
    """What goes wrong, from `at_s` after the episode's start on, for good or for `lasts_s`."""

    name: str
    at_s: float
    lasts_s: float = float("inf")
    joint: int = 0  # component of the observations position and velocity, for the faults of one joint


def faults_for(task: Task) -> tuple[str, ...]:
    """Names of the faults that this task can have."""
    names = {item.name for item in task.contract.observations}
    joint = JOINT_FAULTS if names >= {"position", "velocity"} else ("payload", "payload_tip")
    return (*joint, *(IMAGE_FAULTS if task.contract.images else ()))


def require_fault(task: Task, name: str) -> None:
    """Raises RunError for a fault that the task cannot have."""
    known = faults_for(task)
    if name not in known:
        raise RunError(f"{task.contract.name}: no fault {name!r}; there are {', '.join(known)}")


class FaultyTask:
    """A task with a fault; everything else is the task's own.

    Joint faults: `wrong_sign` (position and velocity of one joint are reported negated), `frozen_joint` (both stay what they
    were), `noise` (white, on every position and velocity), `payload` (mass and inertia of everything that moves, by half),
    `payload_tip` (of the last body alone). Camera faults: `occluded` (black pictures), `outage` (none), `frozen_frame` (the last
    picture under new stamps), `swapped_camera` (what the camera of another episode sees under the same actions).
    """

    def __init__(self, task: Task, fault: Fault, ends_s: float = math.inf) -> None:
        """`ends_s`: the episode ends here if not before. Raises RunError for a fault that the task cannot have."""
        require_fault(task, fault.name)
        self._task, self._fault = task, fault
        self.length = int(min(task.length, ends_s / task.control_dt))
        self._begin = round(fault.at_s / task.control_dt)
        self._end = self._begin + fault.lasts_s / task.control_dt
        self._step = 0
        self._inertia = _weights(task.model)
        self._other: Task | None = None
        if fault.name == "swapped_camera":
            self._other = make_task(task.contract.name)
        self._frozen: dict[str, FloatArray] = {}
        self._picture: dict[str, Pixels] = {}
        self._moved: list[bool] = []  # of each picture since a frame froze: whether the scene looks otherwise by then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    @property
    def active(self) -> bool:
        return self._begin <= self._step < self._end

    @property
    def scene_moves(self) -> bool:
        """Whether the scene looked otherwise than its frozen frame most of the time; without one it counts as moving."""
        return not self._moved or 2 * sum(self._moved) > len(self._moved)

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 3])
        self._step = 0
        self._frozen.clear()
        self._picture.clear()
        self._moved.clear()
        _set_weights(self._task.model, self._inertia)
        self._task.reset(seed)
        if self._other is not None:
            self._other.reset(seed + ELSEWHERE)

    def step(self, action: FloatArray) -> float:
        name = self._fault.name
        if name.startswith("payload") and self._step in (self._begin, self._end):
            _set_weights(self._task.model, self._inertia)
            if self.active:
                _load(self._task.model, tip=name == "payload_tip")
        if self._other is not None:
            self._other.step(action)
        reward = self._task.step(action)
        self._step += 1
        return reward

    def read(self, stamp: int = 0) -> list[Measurement]:
        return [self._disturbed(reading) for reading in self._task.read(stamp)]

    def capture(self, name: str, stamp: int) -> Measurement | None:
        seen = cast("SeeingTask", self._task).capture(name, stamp)
        if seen is None or (self.active and self._fault.name == "outage"):
            return None
        if not self.active:
            self._picture[name] = np.asarray(seen.values, np.uint8)
            return seen
        if self._fault.name == "occluded":
            return replace(seen, values=np.zeros_like(seen.values))
        if self._fault.name == "frozen_frame":
            picture = np.asarray(seen.values, np.uint8)
            frozen = self._picture.setdefault(name, picture)
            self._moved.append(_differ(picture, frozen))
            return replace(seen, values=frozen)
        if self._fault.name == "swapped_camera":
            return cast("SeeingTask", self._other).capture(name, stamp)
        return seen

    def _disturbed(self, reading: Measurement) -> Measurement:
        change = _CHANGES.get(self._fault.name)
        if reading.name not in NOISE or change is None:
            return reading
        values = np.array(reading.values, np.float64)
        if not self.active:
            self._frozen[reading.name] = values
            return reading
        return replace(reading, values=change(self, reading.name, values))

    def _negate(self, name: str, values: FloatArray) -> FloatArray:
        values[self._fault.joint] *= -1.0
        return values

    def _freeze(self, name: str, values: FloatArray) -> FloatArray:
        values[self._fault.joint] = self._frozen.setdefault(name, values.copy())[self._fault.joint]
        return values

    def _shake(self, name: str, values: FloatArray) -> FloatArray:
        return values + NOISE[name] * self._rng.standard_normal(values.shape)


_CHANGES: dict[str, Callable[[FaultyTask, str, FloatArray], FloatArray]] = {
    "wrong_sign": FaultyTask._negate,
    "frozen_joint": FaultyTask._freeze,
    "noise": FaultyTask._shake,
}


def _weights(model: Any) -> tuple[FloatArray, FloatArray]:
    return model.body_mass.copy(), model.body_inertia.copy()


def _set_weights(model: Any, weights: tuple[FloatArray, FloatArray]) -> None:
    import mujoco

    model.body_mass[:], model.body_inertia[:] = weights
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _load(model: Any, tip: bool) -> None:
    """Make what moves heavier, or its last body alone."""
    import mujoco

    moving = np.flatnonzero((model.body_weldid != 0) & (model.body_mass > 0))
    chosen = moving[-1:] if tip else moving
    model.body_mass[chosen] *= PAYLOAD
    model.body_inertia[chosen] *= PAYLOAD
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _differ(picture: Pixels, other: Pixels) -> bool:
    """Whether two pictures (H, W, C) show a scene that has moved."""
    change = np.abs(picture.astype(np.int16) - other.astype(np.int16)).max(axis=-1)
    return bool(np.mean(change > BRIGHTER) > MOVED)
