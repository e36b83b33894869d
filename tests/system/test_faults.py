"""A fault campaign on one running stack: nothing forbidden on the line, every fault ends in its safe state in time.

ROBOT_WM_FAULTS: how many (30); ROBOT_WM_FAULTS_BUS: on which emulated hardware (serial).
"""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")
pytest.importorskip("mujoco", reason="needs the extra `sim`")
pytest.importorskip("serial", reason="needs the extra `serial`")

pytestmark = [pytest.mark.ros, pytest.mark.realtime]
FAULTS = int(os.environ.get("ROBOT_WM_FAULTS", "30"))
BUS = os.environ.get("ROBOT_WM_FAULTS_BUS", "serial")
SLACK_S = 0.25  # a loaded machine


def test_every_fault_of_a_campaign_is_survived_within_its_bound(robot_wm, bundle):
    asked = ["faults", "--faults", FAULTS, "--bus", BUS, "--bundle", bundle, "--slack-s", SLACK_S, "--json"]
    status, figures, errors = robot_wm(*asked, timeout=120 + 20 * FAULTS)
    assert figures is not None, errors
    run = Path(figures["run"])
    outcomes = json.loads((run / "outcomes.json").read_text())
    wrong = [
        o for o in outcomes if o["violations"] or not o["in_bound"] or o["detected"] is False or not o["recovered"]
    ]
    assert not wrong, json.dumps(wrong, indent=1)
    assert (status, figures["limit_violations"], figures["safe_in_bound"]) == (0, 0, 1.0), errors
    assert figures["faults"] == FAULTS == sum(row["faults"] for row in figures["rows"])
    assert [o["fault"] for o in outcomes] == json.loads((run / "schedule.json").read_text())


def test_a_campaign_that_cannot_start_says_why_in_one_sentence(robot_wm):
    status, _, errors = robot_wm("faults", "--bus", "mujoco", "--json")
    assert (status, errors.count("\n")) == (1, 1)
    assert "it needs a line to watch; choose serial, dynamixel, feetech" in errors
    status, _, errors = robot_wm("faults", "--kinds", "kill everything", "--json")
    assert (status, errors.count("\n")) == (1, 1)
    assert "nothing on --bus serial matches 'kill everything'; there are kill motor, " in errors
