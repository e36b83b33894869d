"""A bundle to run the whole stack with: the released one, or where there is none yet, one with random weights; and no verdict
on a robot whose machine stood still."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from robot_wm.bundle import load_bundle, write_bundle

ROOT = Path(__file__).parents[2]
STANDSTILL_S = 0.25  # watchdogs bite after 0.5 s


class Standstill(threading.Thread):
    """The longest that the machine did not even run what goes before everything else: a virtual one waits for its host."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest = 0.0
        self.ended = threading.Event()

    def run(self):
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_max(os.SCHED_FIFO)))
        except OSError:
            return  # not permitted: what delays us need not delay the robot
        last = time.monotonic()
        while not self.ended.wait(0.02):
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    meter = Standstill()
    meter.start()
    try:
        return (yield)
    except Exception as error:
        if meter.longest > STANDSTILL_S:
            pytest.skip(f"the machine stood still for {meter.longest:.2f} s; it would have failed with: {error}")
        raise
    finally:
        meter.ended.set()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """Directory of a bundle for cartpole_swingup; ROBOT_WM_BUNDLE names another."""
    if os.environ.get("ROBOT_WM_BUNDLE"):
        return Path(os.environ["ROBOT_WM_BUNDLE"])
    released = ROOT / "models" / "zoo" / "cartpole_swingup"
    if (released / "manifest.json").exists():
        return released
    torch = pytest.importorskip("torch", reason="needs models/zoo/cartpole_swingup, or torch to make a bundle")
    from models.export import export_bundle
    from models.world_model import WorldModel
    from robot_wm.bundle import PlannerDefaults
    from sim.tasks import make_task

    torch.manual_seed(0)
    contract = make_task("cartpole_swingup").contract
    planner = PlannerDefaults(samples=64, proposals=4, elites=8, refinements=2)
    return export_bundle(
        WorldModel(contract, "nano"), contract, tmp_path_factory.mktemp("bundle") / "cart", planner
    ).path


@pytest.fixture
def another(bundle, tmp_path):
    """Make the same model a bundle of its own, named so, with other fields of the contract's `safety` where given."""

    def make(name, **safety):
        original = load_bundle(bundle)

        def fill(directory):
            shutil.copytree(original.path, directory, dirs_exist_ok=True)
            (directory / "manifest.json").unlink()
            (directory / "note.txt").write_text(name)
            contract = original.contract
            replace(contract, safety=replace(contract.safety, **safety)).save(directory / "contract.yaml")

        return write_bundle(tmp_path / name, original.manifest, fill)

    return make


@pytest.fixture
def patient(another):
    """Directory of a bundle whose robot is not damped by what the machine does: for tests of something else."""
    return another("patient", joint_stale_s=10.0, hold_s=60.0).path


@pytest.fixture
def program():
    """How to start `robot-wm`."""
    return [sys.executable, "-c", "from robot_wm.cli import main; main()"]


@pytest.fixture
def robot_wm(tmp_path, program):
    """Run `robot-wm` and return (exit status, figures or None, standard error)."""

    def run(*arguments, timeout=110):
        command = [*program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=tmp_path)
        last = done.stdout.strip().splitlines()[-1:]
        figures = json.loads(last[0]) if last and last[0].startswith("{") else None
        return done.returncode, figures, done.stderr

    return run
