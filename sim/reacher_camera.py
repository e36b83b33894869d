"""`reacher_camera`: the suite's reacher whose target is seen by a camera alone, late; the arm's joints are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.contract import load_contract
from robot_wm.messages import FloatArray, Measurement
from sim.camera import Camera
from sim.dmc import SuiteTask

CONTRACT = Path(__file__).resolve().parent / "contracts" / "reacher_camera.yaml"
CAMERA = "fixed"  # the suite's, above: the whole arena in 48 pixels, the target eight of them wide and never hidden
PROPRIOCEPTION = ("position", "velocity")


class ReacherCamera(SuiteTask):
    """Physics, reward and start are those of `dmc:reacher-easy`."""

    sibling = "dmc:reacher-easy"

    def __init__(self) -> None:
        super().__init__(self.sibling)
        self.contract = load_contract(CONTRACT)
        (image,) = self.contract.images
        self._camera = Camera(self.model, CAMERA, image.shape)

    def read(self, stamp: int = 0) -> list[Measurement]:
        """Position and velocity of shoulder and wrist; nothing of the target."""
        return [reading for reading in super().read(stamp) if reading.name in PROPRIOCEPTION]

    def read_all(self, stamp: int) -> list[Measurement]:
        """The suite's observations, the way to the target among them."""
        return super().read(stamp)

    def capture(self, name: str, stamp: int) -> Measurement:
        """What the camera sees now. Raises RunError where nothing can be drawn."""
        return Measurement(name, stamp, self._camera.capture(self.data.qpos))

    def qpos(self) -> FloatArray:
        """Shoulder, wrist, and the target's place (4,): the suite draws it at each reset, into the scene's model."""
        return np.concatenate([super().qpos(), self._target[:2]])

    def show(self, state: FloatArray) -> None:
        """Put arm and target at `state` (4,), to be drawn."""
        self.data.qpos[:], self._target[:2] = state[:2], state[2:]

    @property
    def _target(self) -> Any:
        return self.model.geom("target").pos
