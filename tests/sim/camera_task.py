"""The tasks that see, on machines that can draw them."""

import pytest

from robot_wm.errors import RunError
from sim.tasks import make_task


def camera_task(name="cartpole_camera"):
    """The task `name`; skips the test where nothing can be rendered."""
    found = make_task(name)
    try:
        found.capture("camera", 0)
    except RunError as error:
        pytest.skip(str(error))
    return found
