"""Every state-based task of the DeepMind Control Suite, its contract generated from its specification: no code per task."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_wm.contract import parse_contract
from robot_wm.errors import RunError
from robot_wm.messages import FloatArray, Measurement
from sim.camera import close_renderers_first
from sim.names import unknown_task

REPEAT = 2  # control steps per model step, as TD-MPC2's action repeat
JOINT_STALE_S = 0.3  # on a robot 0.05; a shared machine stands still now and then, and in simulation that hurts nobody
ENDLESS = 1000  # control steps of an episode where the suite sets no limit (lqr)
UNBOUNDED = 1.0  # range of an actuator where the suite sets none (lqr)
TOPIC = "task_observation"
WHOLE_TURN = 2.0 * np.pi  # [rad]


class SuiteTask:
    """`dmc:<domain>-<task>`; the observation is the suite's, concatenated, on one topic."""

    def __init__(self, name: str) -> None:
        """Load the task. Raises RunError for an unknown name, or when dm_control is not installed."""
        suite = _suite()
        domain, _, task = name.removeprefix("dmc:").partition("-")
        if (domain, task) not in suite.ALL_TASKS:
            raise RunError(unknown_task(name, [f"dmc:{d}-{t}" for d, t in suite.ALL_TASKS]))
        self._environment = suite.load(domain, task, task_kwargs={"random": 0})
        self.control_dt = float(self._environment.control_timestep())
        limit = self._environment._step_limit
        self.length = round(limit) if np.isfinite(limit) else ENDLESS
        self.terminated = False
        self._time_step = self._environment.reset()
        self.contract = self._draft(name)

    def reset(self, seed: int) -> None:
        """Start a new episode; the suite draws its initial state from a generator seeded with `seed`."""
        self._environment.task._random = np.random.RandomState(seed)
        self._time_step = self._environment.reset()
        self.terminated = False

    def step(self, action: FloatArray) -> float:
        """Apply `action` (A,) for one control step; after the end of the episode nothing moves and the reward is 0."""
        if self._time_step.last():
            return 0.0
        self._time_step = self._environment.step(np.asarray(action, np.float64))
        self.terminated = bool(self._time_step.last() and self._time_step.discount == 0.0)
        return float(self._time_step.reward or 0.0)

    def read(self, stamp: int = 0) -> list[Measurement]:
        """The suite's observations under their own names."""
        return [Measurement(name, stamp, _flat(value)) for name, value in self._time_step.observation.items()]

    def run_on(self) -> None:
        self._environment._step_limit = float("inf")

    @property
    def data(self) -> Any:
        """The scene's state as mujoco.MjData."""
        return self._environment.physics.data.ptr

    def qpos(self) -> FloatArray:
        result: FloatArray = self._environment.physics.data.qpos.copy()
        return result

    @property
    def model(self) -> Any:
        """The scene as mujoco.MjModel; some tasks draw a part of it at each reset."""
        return self._environment.physics.model.ptr

    def _draft(self, name: str) -> Any:
        angles = self._angles()
        observations = [
            {
                "name": key,
                "topic": TOPIC,
                "field": "data",
                "names": [f"{key}_{i}" for i in range(_flat(value).size)],
                "encoding": ["angle" if angle else "linear" for angle in angles[key]],
                "rate_hz": 1.0 / self.control_dt,
                "stale_s": max(0.2, 4 * REPEAT * self.control_dt),
            }
            for key, value in self._time_step.observation.items()
        ]
        spec = self._environment.action_spec()
        size = int(np.prod(spec.shape))
        model_hz = 1.0 / (REPEAT * self.control_dt)
        action = {
            "names": _actuators(self._environment.physics, size),
            "mode": "effort",
            "low": _bounds(spec.minimum, size),
            "high": _bounds(spec.maximum, size),
        }
        step = REPEAT * self.control_dt
        return parse_contract(
            {
                "name": name,
                "model_hz": model_hz,
                "motor_hz": 1.0 / self.control_dt,
                "episode_s": self.length * self.control_dt,
                "observations": observations,
                "action": action,
                "safety": {"plan_stale_s": max(0.1, 3 * step), "joint_stale_s": JOINT_STALE_S, "hold_s": 3.0},
            },
            f"contract of {name}",
        )

    def _angles(self) -> dict[str, list[bool]]:
        """Which components of each observation are the angle of a joint that turns without limit: they grow by its whole turn."""
        import mujoco  # after `_suite` has chosen how to draw

        physics, task = self._environment.physics, self._environment.task
        joints, positions = physics.model, physics.data.qpos.copy()
        endless = (joints.jnt_type == mujoco.mjtJoint.mjJNT_HINGE) & (joints.jnt_limited == 0)
        before = task.get_observation(physics)
        physics.data.qpos[joints.jnt_qposadr[endless]] += WHOLE_TURN
        physics.forward()
        after = task.get_observation(physics)
        physics.data.qpos[:] = positions
        physics.forward()
        return {key: np.isclose(_flat(after[key]) - _flat(before[key]), WHOLE_TURN).tolist() for key in before}


def _suite() -> Any:
    try:
        from dm_control import suite
    except ImportError as error:
        raise RunError(f"tasks of the control suite need dm_control ({error}): pip install 'robot-wm[sim]'") from error
    close_renderers_first()
    return suite


def _actuators(physics: Any, size: int) -> list[str]:
    names = [physics.model.id2name(i, "actuator") or f"actuator_{i}" for i in range(size)]
    return names if len(set(names)) == size else [f"actuator_{i}" for i in range(size)]


def _bounds(values: Any, size: int) -> list[float]:
    bounds = np.broadcast_to(np.asarray(values, np.float64), (size,))
    return [float(b) if abs(b) < 1e6 else float(np.sign(b)) * UNBOUNDED for b in bounds]


def _flat(value: Any) -> FloatArray:
    return np.atleast_1d(np.asarray(value, np.float64)).ravel()
