"""Keys to actions."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

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
