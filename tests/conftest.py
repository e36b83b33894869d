"""How the suite shares two cores: one file per worker, tests that depend on real time last and alone."""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: how long an example takes says more about the machine than about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

os.environ.setdefault("MUJOCO_GL", "egl")  # before anything imports mujoco, which then chooses how to draw
SESSION = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")  # the same in every worker
LOCK = Path(tempfile.gettempdir(), f"robot_wm-tests-{SESSION}.lock")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=_is_real_time)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test marked `realtime`, its fixtures included, waits until no other worker computes, and keeps the others waiting."""
    with _shared(exclusive=_is_real_time(item)):
        return (yield)


def pytest_sessionfinish():
    if SESSION:
        LOCK.unlink(missing_ok=True)  # a worker that still runs makes a new one, for itself


@contextlib.contextmanager
def _shared(exclusive):
    if not SESSION:  # one process: nothing runs beside a test
        yield
        return
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield


def _is_real_time(item):
    return item.get_closest_marker("realtime") is not None
