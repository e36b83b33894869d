"""How the suite shares two cores: one file per worker, whole robots one after the other on one of them, and those of their tests
that depend on what the machine does in time alone."""

import contextlib
import fcntl
import os
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

# No deadline: how long an example takes says more about the machine than about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

os.environ.setdefault("MUJOCO_GL", "egl")  # before anything imports mujoco, which then chooses how to draw
if (
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
):  # started in the background of a shell; our children would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
SESSION = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")  # the same in every worker
ROBOTS = "tests/system/"
LOCK, QUEUE = (Path(tempfile.gettempdir(), f"robot_wm-tests-{SESSION}.{name}") for name in ("lock", "queue"))


class OneRobotAtATime(LoadFileScheduling):
    """All of tests/system on one worker: two whole robots want more than two cores, and one leaves much of them idle."""

    def _split_scope(self, nodeid):
        return ROBOTS if nodeid.startswith(ROBOTS) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return OneRobotAtATime(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (not item.nodeid.startswith(ROBOTS), _is_real_time(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A test marked `realtime`, its fixtures included, waits until no other worker computes, and keeps the others waiting."""
    with _shared(exclusive=_is_real_time(item)):
        return (yield)


def pytest_sessionfinish():
    if SESSION:
        for file in (LOCK, QUEUE):
            file.unlink(missing_ok=True)  # a worker that still runs makes a new one, for itself


@contextlib.contextmanager
def _shared(exclusive):
    if not SESSION:  # one process: nothing runs beside a test
        yield
        return
    # In line one after the other: those who share would never let in who wants to be alone.
    with QUEUE.open("w") as queue, LOCK.open("w") as lock:
        fcntl.flock(queue, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield


def _is_real_time(item):
    return item.get_closest_marker("realtime") is not None
