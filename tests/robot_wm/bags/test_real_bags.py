"""Logs of real robots, where they are: `../shared/real_bags` beside the repository."""

import os
from pathlib import Path

import numpy as np
import pytest

from robot_wm.bags.align import align, align_with_report
from robot_wm.bags.draft import draft_contract
from robot_wm.bags.reader import open_bag
from robot_wm.bags.storage import find_bags
from robot_wm.contract import parse_contract

REAL = Path(os.environ.get("ROBOT_WM_REAL_BAGS", Path(__file__).resolve().parents[4] / "shared" / "real_bags"))
JOINTS = ["shoulder", "elbow"]

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real-hardware bags are not at {REAL}")


@pytest.fixture(scope="module")
def pendulum():
    observation = {"topic": "joint_states", "names": JOINTS}
    return parse_contract(
        {
            "name": "double_pendulum",
            "model_hz": 50.0,
            "observations": [
                {"name": "position", "field": "position", "encoding": "angle", **observation},
                {"name": "velocity", "field": "velocity", "scale": 5.0, **observation},
            ],
            "action": {"names": JOINTS, "mode": "effort", "low": -10.0, "high": 10.0, "topic": "joint_commands"},
            "reward": {"topic": ""},
        }
    )


def test_every_bag_loads_with_nothing_left_out():
    bags = [open_bag(path) for path in find_bags(REAL)]
    assert len(bags) == 46
    rows = 0
    for bag in bags:
        bag.load(["joint_states", "joint_commands"])
        joints = bag.joints("joint_states")
        for topic, part in (("joint_states", "position"), ("joint_states", "effort"), ("joint_commands", "effort")):
            series = bag.read_joints(topic, part, joints)
            assert series.report == {}
            assert np.isfinite(series.values).all()
        rows += len(series)
    assert rows == 139_627


@pytest.mark.parametrize("name", ["acrobot_ilqr_01", "pendubot_mcpilco_01", "pendubot_sac_05", "sysid_b"])
def test_a_log_becomes_one_episode_whatever_its_rate(pendulum, name):
    [episode], report = align_with_report(REAL / "double_pendulum" / name, pendulum)
    assert 495 <= len(episode) <= 502
    assert np.abs(episode.age).max() <= 0.5
    assert np.isfinite(episode.target).all()
    # 33 Hz on a 50 Hz grid leaves a third of the instants without a measurement; the faster logs leave hardly any.
    assert report.masked["position"] == pytest.approx(0.34 if "mcpilco" in name else 0.0, abs=0.01)
    seen = episode.mask[:, 0] == 1
    closest = np.abs(episode.observation[seen, :2] - episode.target[seen, :2]).max()
    assert closest < (0.3 if "mcpilco" in name else 0.05)


@pytest.mark.parametrize(
    ("name", "apart", "signal"), [("pendubot_ilqr_02", 1.63, 2.31), ("pendubot_sac_03", 1.79, 2.93)]
)
def test_a_sampled_command_is_far_from_its_mean_over_the_step(pendulum, name, apart, signal):
    """Why actions are averaged: root mean square of the shoulder's command, sampled minus mean [N·m]."""
    bag = open_bag(REAL / "double_pendulum" / name)
    [episode] = align(bag, pendulum)
    command = bag.read_joints("joint_commands", "effort", ["shoulder"])
    instants = episode.start + np.arange(len(episode) - 1) * episode.step
    sampled = command.values[np.searchsorted(command.stamps, instants, side="right") - 1, 0]
    mean = 10.0 * episode.action[:-1, 0]
    assert np.sqrt(np.mean(command.values**2)) == pytest.approx(signal, abs=0.01)
    assert np.sqrt(np.mean((sampled - mean) ** 2)) == pytest.approx(apart, abs=0.05)


def test_a_contract_can_be_drafted_from_each_family():
    double = draft_contract(open_bag(REAL / "double_pendulum/pendubot_sac_03"), "double").contract
    assert double.action.names == tuple(JOINTS)
    assert [o.name for o in double.observations] == ["position", "velocity"]
    simple = draft_contract(open_bag(REAL / "simple_pendulum/sac"), "simple").contract
    assert (simple.action.names, simple.action.topic) == (("pendulum",), "joint_commands")
    assert simple.observations[0].rate_hz == pytest.approx(200.0, rel=0.01)
