"""A one-joint arm that asks for calibrations, and a day to judge them on."""

from datetime import datetime, timezone

from conftest import slider_contract

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


def elbow_contract(mode="position", calibration=None, **changes):
    names = ["elbow"]
    observation = {"name": "q", "topic": "joint_states", "field": "position", "names": names, "rate_hz": 100}
    action = {"names": names, "mode": mode, "low": [-0.9], "high": [1.1]}
    table = {"observations": [observation], "action": action, "calibration": calibration or {}}
    return slider_contract(**{**table, **changes})
