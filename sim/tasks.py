"""Tasks by name: what the simulator lets a robot do, behind one small interface."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

from robot_wm.contract import Contract
from robot_wm.errors import RunError
from robot_wm.messages import FloatArray, Measurement
from sim.names import unknown_task

ALIASES = {"reacher_easy": "dmc:reacher-easy"}
OWN = ("cartpole_swingup", "cartpole_camera", "reacher_camera")
STATE_TOPIC = "sim_state"  # `Task.qpos`: what cameras and videos are drawn from, never an observation


class Task(Protocol):
    """A simulated robot with something to do. Rewards lie in [0, 1] per control step; return = mean reward x 1000."""

    contract: Contract
    control_dt: float  # [s]
    length: int  # control steps of one episode
    terminated: bool  # the episode ended in a terminal state
    model: Any  # mujoco.MjModel of the scene
    data: Any  # mujoco.MjData

    def reset(self, seed: int) -> None:
        """Draw a new initial state; the same seed gives the same one."""
        ...

    def step(self, action: FloatArray) -> float:
        """Apply `action` (A,) in SI units for one control step and return its reward."""
        ...

    def read(self, stamp: int = 0) -> list[Measurement]:
        """Every observation of the contract but its images, now, with the given stamp [ns]."""
        ...

    def run_on(self) -> None:
        """Take away the end of an episode, from the next reset on: a plant in real time has none."""
        ...

    def qpos(self) -> FloatArray:
        """Generalised positions (model.nq,): with the seed enough to draw the scene. Of a task that sees, behind them whatever
        else its cameras show."""
        ...


class SeeingTask(Task, Protocol):
    """A task whose contract has images. Its `sibling` is the same robot with the same thing to do, but every state is measured."""

    sibling: str  # name of that task

    def read_all(self, stamp: int) -> list[Measurement]:
        """Every observation of the sibling's contract, now, with the given stamp [ns]."""
        ...

    def show(self, state: FloatArray) -> None:
        """Put the scene where it was when `qpos` returned `state`, for `capture` to draw."""
        ...

    def capture(self, name: str, stamp: int) -> Measurement | None:
        """The contract's image `name`, now: pixels (H, W, C); None: none comes. Raises RunError where nothing can be drawn."""
        ...


@cache
def contract_of(name: str) -> Contract:
    """The contract of a task by name, made once. Raises as `make_task`."""
    return make_task(name).contract


def make_task(name: str) -> Task:
    """Build a task: one of our own (`OWN`), or any state-based task of the DeepMind Control Suite as `dmc:<domain>-<task>`.

    Raises:
        RunError: no such task (naming the nearest ones), or dm_control is not installed.
    """
    name = ALIASES.get(name, name)
    if name == "cartpole_swingup":
        from sim.cartpole import CartpoleSwingup

        return CartpoleSwingup()
    if name == "cartpole_camera":
        from sim.cartpole_camera import CartpoleCamera

        return CartpoleCamera()
    if name == "reacher_camera":
        from sim.reacher_camera import ReacherCamera

        return ReacherCamera()
    if name.startswith("dmc:"):
        from sim.dmc import SuiteTask

        return SuiteTask(name)
    raise RunError(unknown_task(name, [*OWN, *ALIASES, "dmc:<domain>-<task>"]))
