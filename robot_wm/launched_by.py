"""Who started this process, so that it can end when its launcher is gone, however early the launcher died."""

import os

VARIABLE = "ROBOT_WM_PARENT"  # pid of the launcher, in the environment of what it starts


def launcher() -> int:
    """Process id of the launcher; of whoever started this process where it was started by hand."""
    return int(os.environ.get(VARIABLE, os.getppid()))
