"""A fault campaign on one running stack: nothing forbidden on the line, every fault ends in its safe state in time.

ROBOT_WM_FAULTS: how many (3); ROBOT_WM_FAULTS_BUS: on which emulated hardware (serial); ROBOT_WM_FAULTS_STRICT=1: this machine does
nothing else, so times are judged, too.
"""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")
pytest.importorskip("mujoco", reason="needs the extra `sim`")
pytest.importorskip("serial", reason="needs the extra `serial`")

pytestmark = pytest.mark.ros
FAULTS = int(os.environ.get("ROBOT_WM_FAULTS", "3"))
BUS = os.environ.get("ROBOT_WM_FAULTS_BUS", "serial")
STRICT = os.environ.get("ROBOT_WM_FAULTS_STRICT") == "1"


def test_a_campaign_breaks_no_limit_and_ends_every_fault_safely(robot_wm, bundle):
    asked = ["faults", "--faults", FAULTS, "--bus", BUS, "--bundle", bundle, "--json"]
    status, figures, errors = robot_wm(*asked, timeout=120 + 20 * FAULTS)
    assert figures is not None, errors
    run = Path(figures["run"])
    outcomes = json.loads((run / "outcomes.json").read_text())
    assert figures["limit_violations"] == 0, errors
    assert figures["faults"] == FAULTS == sum(row["faults"] for row in figures["rows"])
    assert [o["fault"] for o in outcomes] == json.loads((run / "schedule.json").read_text())
    wrong = [o for o in outcomes if not o["in_bound"] or o["detected"] is False or not o["recovered"]]
    if STRICT:
        assert not wrong, json.dumps(wrong, indent=1)
    assert (status == 0) == (figures["safe_in_bound"] == 1.0), errors


def test_a_campaign_that_cannot_start_says_why_in_one_sentence(robot_wm):
    status, _, errors = robot_wm("faults", "--bus", "mujoco", "--json")
    assert (status, errors.count("\n")) == (1, 1)
    assert "it needs a line to watch; choose serial, dynamixel, feetech" in errors
    status, _, errors = robot_wm("faults", "--kinds", "kill everything", "--json")
    assert (status, errors.count("\n")) == (1, 1)
    assert "nothing on --bus serial matches 'kill everything'; there are kill motor, " in errors
