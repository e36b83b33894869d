"""The task that sees, on machines that can draw it."""

import pytest

from robot_wm.errors import RunError
from sim.tasks import make_task


def camera_task():
    """`cartpole_camera`; skips the test where nothing can be rendered."""
    found = make_task("cartpole_camera")
    try:
        found.capture("camera", 0)
    except RunError as error:
        pytest.skip(str(error))
    return found
