import math

import pytest

from robot_wm.joint_zero import JointZero

TURN = 2 * math.pi


@pytest.mark.parametrize(
    ("direction", "centre", "position", "changes"),
    [
        (1.0, 0.3, 0.3, False),
        (1.0, 0.3 + 1e-4, 0.3, False),
        (1.0, 0.3, 0.3 - TURN, False),  # a whole turn is the same reading
        (1.0, 0.4, 0.3, True),
        (-1.0, 0.0, 0.0, True),
    ],
)
def test_a_zero_changes_positions_by_more_than_a_tolerance_or_not(direction, centre, position, changes):
    zero = JointZero(direction, centre, position, -1.0, 1.0, TURN)
    assert zero.changes(1e-3) is changes
