"""What the motor loop says about itself in diagnostics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from robot_wm.buses.base import ReportingBus
from robot_wm.checks import first_failure, warnings
from robot_wm.state_machine import State

if TYPE_CHECKING:
    from robot_wm.motor_loop import MotorLoop


@dataclass(frozen=True)
class Health:
    """Level 0 is fine, 1 a warning, 2 an error; one sentence, and the figures."""

    level: int
    message: str
    figures: dict[str, float | str] = field(default_factory=dict)


def health_of(loop: MotorLoop) -> Health:
    """Judge a motor loop now: an error while it damps or is stopped, a warning while it holds, is deaf or overruns."""
    now, state = loop.clock.now(), loop.machine.state
    message = f"{state.value}: {loop.machine.cause}"
    if state in (State.ESTOP, State.DAMPED):
        return Health(2, message, _figures(loop))
    if loop.stats.overrun_recently(now):
        return Health(1, f"{message}; overrun: deadlines missed within the last second", _figures(loop))
    deaf = loop.joints_defect(now)
    if deaf:
        return Health(1, f"{message}; {deaf}", _figures(loop))
    return Health(1 if state is State.HOLD else 0, message, _figures(loop))


def _figures(loop: MotorLoop) -> dict[str, float | str]:
    state = loop.machine.state
    bus = loop.bus.figures() if isinstance(loop.bus, ReportingBus) else {}
    return {
        "state": state.value,
        "cause": loop.machine.cause,
        **loop.stats.figures(),
        **loop.plan_player.counts.figures("plan"),
        **loop.command_player.counts.figures("command"),
        "clips": sum(loop.safety.counts.values()),
        "read_failures": loop.read_failures,
        "write_failures": loop.write_failures,
        "realtime": loop.realtime.summary(),
        "joints_hz": round(loop.rate.hz, 1),
        **({"arming": _arming(loop)} if state is State.DISARMED else {}),
        **{f"bus_{name}": value for name, value in bus.items()},
    }


def _arming(loop: MotorLoop) -> str:
    """What an operator would be answered now."""
    checks = loop.arming_checks()
    failure, doubts = first_failure(checks), warnings(checks)
    return f"refused: {failure}" if failure else f"ready; warning: {doubts}" if doubts else "ready"
