"""`cartpole_swingup`, with MuJoCo alone: the task that `make demo` shows."""

from __future__ import annotations

import math
from pathlib import Path

import mujoco
import numpy as np

from robot_wm.contract import load_contract
from robot_wm.messages import FloatArray, Measurement

HERE = Path(__file__).resolve().parent
MODEL = HERE / "assets" / "cartpole.xml"
CONTRACT = HERE / "contracts" / "cartpole_swingup.yaml"


class CartpoleSwingup:
    """A cart on a rail swings its pole up and keeps it there. Physics, reward and start as in the suite's task."""

    def __init__(self, contract: Path = CONTRACT) -> None:
        self.contract = load_contract(contract)
        self.model = mujoco.MjModel.from_xml_path(str(MODEL))
        self.data = mujoco.MjData(self.model)
        self.control_dt = float(self.model.opt.timestep)
        self.length = round(self.contract.episode_s / self.control_dt)
        self.terminated = False
        self.reset(0)

    def reset(self, seed: int) -> None:
        """The pole hangs down, everything disturbed by 0.01 rms."""
        rng = np.random.default_rng(seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = [0.01 * rng.standard_normal(), math.pi + 0.01 * rng.standard_normal()]
        self.data.qvel[:] = 0.01 * rng.standard_normal(2)
        mujoco.mj_forward(self.model, self.data)

    def step(self, action: FloatArray) -> float:
        """Push the cart with `action` (1,) [N] for one control step."""
        self.data.ctrl[:] = np.clip(action, self.contract.action.low, self.contract.action.high)
        mujoco.mj_step(self.model, self.data)
        return reward(float(self.data.qpos[0]), float(self.data.qpos[1]), float(self.data.qvel[1]), self._effort())

    def read(self, stamp: int = 0) -> list[Measurement]:
        """Joint positions and velocities of slider and hinge."""
        return [
            Measurement("position", stamp, self.data.qpos.copy()),
            Measurement("velocity", stamp, self.data.qvel.copy()),
        ]

    def run_on(self) -> None:
        """Physics has no end here anyway."""

    def qpos(self) -> FloatArray:
        return self.data.qpos.copy()

    def _effort(self) -> float:
        return float(self.data.ctrl[0]) / self.contract.action.high[0]


def reward(position: float, angle: float, velocity: float, effort: float) -> float:
    """The suite's smooth swing-up reward in [0, 1]: upright, centred, slow, and with little effort (-1..1)."""
    upright = (math.cos(angle) + 1.0) / 2.0
    centred = (1.0 + _near_zero(position, 2.0)) / 2.0
    slow = (1.0 + _near_zero(velocity, 5.0)) / 2.0
    gentle = (4.0 + max(0.0, 1.0 - effort**2)) / 5.0
    return upright * centred * slow * gentle


def _near_zero(x: float, margin: float) -> float:
    """Gaussian of x that is 1 at zero and 0.1 at `margin`."""
    return math.exp(math.log(0.1) * (x / margin) ** 2)
