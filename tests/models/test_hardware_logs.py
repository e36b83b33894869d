"""From logs of a real robot to a world model and its open-loop error, where these logs are (docs/hardware_logs.md)."""

import os
from pathlib import Path

import numpy as np
import pytest

from models.train_run import TrainJob, train_bags
from robot_wm.backend import Model
from robot_wm.bags.align import align
from robot_wm.bundle import load_bundle
from robot_wm.contract import load_contract
from robot_wm.replay import replay

ROOT = Path(__file__).parents[2]
LOGS = Path(os.environ.get("ROBOT_WM_REAL_BAGS", ROOT.parent / "shared" / "real_bags")) / "double_pendulum"
CONTRACT = ROOT / "models" / "contracts" / "double_pendulum.yaml"

pytestmark = pytest.mark.skipif(
    not LOGS.is_dir(), reason=f"the real logs are not at {LOGS}; ROBOT_WM_REAL_BAGS names their folder"
)


def test_fast_and_slow_logs_fill_the_grid_as_their_rates_allow():
    contract = load_contract(CONTRACT)

    (fast,) = align(LOGS / "sysid_b", contract)
    (slow,) = align(LOGS / "acrobot_mcpilco_01", contract)  # a row every 30 ms, a model step every 20 ms

    assert fast.mask.mean() == 1.0
    assert np.abs(fast.age).max() <= 0.1 + 1e-6
    assert slow.mask.mean() == pytest.approx(20 / 30.3, abs=0.01)
    assert np.abs(slow.age).max() == pytest.approx(0.5, abs=0.01)
    assert np.abs(slow.action).max() <= 1.0


def test_a_minute_of_training_beats_persistence_on_another_run(tmp_path):
    job = TrainJob(
        bags=tuple(LOGS / name for name in ("acrobot_mcpilco_01", "acrobot_mcpilco_02", "sysid_b")),
        contract=CONTRACT,
        out=tmp_path / "bundle",
        steps=150,
        batch=16,
        runs=tmp_path / "runs",
    )

    train_bags(job)
    figures = replay([LOGS / "acrobot_mcpilco_06"], Model(load_bundle(job.out)))["rmse"]["100"]

    assert figures["starts"] == 97
    assert 85 < figures["horizon_ms_mean"] < 105  # the rows nearest 100 ms
    assert figures["persistence"] == pytest.approx(0.22, abs=0.02)  # as published with these logs
    assert figures["model"] < 0.5 * figures["persistence"]
