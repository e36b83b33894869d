"""`cartpole_camera`: the cart-pole whose pole is seen by a camera alone, late; slider position and velocity are measured."""

from __future__ import annotations

from robot_wm.messages import FloatArray, Measurement
from sim.camera import Camera
from sim.cartpole import HERE, CartpoleSwingup

CONTRACT = HERE / "contracts" / "cartpole_camera.yaml"
CAMERA = "cart"  # rides on the cart: 48 pixels then show the pole wherever the cart is, two of them wide


class CartpoleCamera(CartpoleSwingup):
    """Physics, reward and start are those of `cartpole_swingup`."""

    sibling = "cartpole_swingup"

    def __init__(self) -> None:
        super().__init__(CONTRACT)
        (image,) = self.contract.images
        self._camera = Camera(self.model, CAMERA, image.shape)

    def read(self, stamp: int = 0) -> list[Measurement]:
        """Position and velocity of the slider; nothing of the pole."""
        return [
            Measurement("position", stamp, self.data.qpos[:1].copy()),
            Measurement("velocity", stamp, self.data.qvel[:1].copy()),
        ]

    def read_all(self, stamp: int) -> list[Measurement]:
        """Position and velocity of slider and hinge."""
        return super().read(stamp)

    def capture(self, name: str, stamp: int) -> Measurement:
        """What the camera sees now. Raises RunError where nothing can be drawn."""
        return Measurement(name, stamp, self._camera.capture(self.data.qpos))

    def show(self, state: FloatArray) -> None:
        """Put slider and hinge at `state` (2,), to be drawn."""
        self.data.qpos[:] = state
