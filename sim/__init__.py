"""MuJoCo robots and tasks, the plant, lockstep evaluation, the flywheel."""

import os
import sys

# MuJoCo chooses how to draw when it is first imported; its default needs a display.
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
