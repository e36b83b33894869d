import sys
from pathlib import Path

import pytest

from robot_wm.contract import parse_contract

sys.path.insert(0, str(Path(__file__).parent))


def slider_contract(**changes):
    """A one-joint contract at 50 Hz; `changes` replace top-level fields."""
    data = {
        "name": "slider",
        "model_hz": 50,
        "motor_hz": 100,
        "observations": [
            {"name": "position", "topic": "joint_states", "field": "position", "names": ["slider"], "unit": "m"},
            {"name": "velocity", "topic": "joint_states", "field": "velocity", "names": ["slider"], "unit": "m/s"},
        ],
        "action": {"names": ["slider"], "mode": "effort", "unit": "N", "low": [-10], "high": [10]},
    }
    return parse_contract({**data, **changes})


@pytest.fixture
def contract():
    return slider_contract()
