"""Keys to actions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

from robot_wm.contract import parse_contract
from ros_nodes.teleop import Sticks
from test_convert import contract


def test_keys_move_their_joint_up_to_the_limits_and_letting_go_brings_it_to_rest():
    sticks = Sticks(contract())
    assert sticks.turn("q") == pytest.approx([0.2, 0.0])
    assert sticks.turn("s") == pytest.approx([0.2, -0.2])
    for _ in range(30):
        values = sticks.turn("qqw")
    assert values == pytest.approx([2.0, 2.0])
    for _ in range(100):
        values = sticks.turn("")
    assert np.all(np.abs(values) < 1e-3)


def test_positions_begin_where_the_joints_are_and_stay_where_the_keys_left_them():
    described = contract().to_dict()
    sticks = Sticks(parse_contract(described | {"action": described["action"] | {"mode": "position"}}))
    measured = np.array([1.3, -0.7])
    assert sticks.turn("", measured) is None  # nothing is asked for before a key is pressed
    assert sticks.turn("q") is None  # nor before the joints are known
    assert sticks.turn("q", measured) == pytest.approx([1.5, -0.7])
    assert sticks.turn("", measured) == pytest.approx([1.5, -0.7])
