"""May this robot be armed? Every check by its name, with what was found and the remedy: one list for motor_node and doctor.

`state_machine.py` alone decides; it refuses while one of these fails, beside what it judges itself at every tick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from robot_wm.arming_files import Papers
from robot_wm.checks import Check
from robot_wm.contract import Contract

RATE_WARN, RATE_FAIL = 0.9, 0.5  # of the rate that the contract expects
LISTEN_S = 1.0  # before a rate is told: a start has hiccups


@dataclass(frozen=True)
class Seen:
    """What the motor loop knows when it is asked; an empty text means that all is well."""

    fault: str = ""  # what the bus reports
    joints: str = ""  # why the joint state cannot be used
    breach: str = ""  # which joint without a motor is beyond its bounds
    outside: str = ""  # which joint is so far beyond its limits that holding it would be a jump
    age_s: float | None = None  # of the newest joint state; None: there is none
    heard_s: float = 0.0  # for how long joint states have come
    rate_hz: float = 0.0  # new joint states per second, over the last one
    figures: Mapping[str, float | str] = field(default_factory=dict)  # of the bus


def examine(contract: Contract, papers: Papers | None, seen: Seen, today: datetime | None = None) -> list[Check]:
    """Every check. Without `papers` (a loop in a test or a benchmark) only those of what was seen."""
    now = today or datetime.now(timezone.utc)
    hardware_id = str(seen.figures.get("hardware_id", ""))
    files = papers.checks(hardware_id, now) if papers is not None else []
    return [
        *files,
        check_bus(seen),
        check_joints(seen),
        check_rates(contract, seen),
        check_clock(contract, seen),
        check_voltage(contract, seen),
    ]


def check_bus(seen: Seen) -> Check:
    """A fault that the hardware reports."""
    if seen.fault:
        return Check("bus", "fail", seen.fault, "mend the cause; after an e-stop ~/reset, then ~/arm")
    return Check("bus", "pass", "no fault")


def check_joints(seen: Seen) -> Check:
    """All joints heard, and where they may be."""
    if seen.age_s is None:
        return Check("joints", "fail", seen.joints or "no joint state yet", "check the bus and its cable")
    if seen.outside:
        return Check("joints", "fail", seen.outside, "move it inside by hand, or widen the limit")
    if seen.breach:
        return Check("joints", "fail", seen.breach, "bring it to rest within its bounds")
    return Check("joints", "pass", "heard, within their limits")


def check_rates(contract: Contract, seen: Seen) -> Check:
    """Joint states arrive as often as the contract says; without its word, every motor tick is no more than a hope."""
    declared = max((o.rate_hz for o in contract.observations if o.field != "data"), default=0.0)
    expected = min(declared or contract.motor_hz, contract.motor_hz)  # the loop reads once per tick
    told = f"{seen.rate_hz:.0f} joint states per second, expected {expected:g}"
    if seen.heard_s < LISTEN_S:
        return Check("rates", "warn", "joint states have not come for a second yet: no rate", "wait a moment")
    remedy = "look for a busy machine (ticks_missed) or a slow bus, or correct rate_hz and motor_hz"
    if declared and seen.rate_hz < RATE_FAIL * expected:
        return Check("rates", "fail", told, remedy)
    return Check("rates", "warn", told, remedy) if seen.rate_hz < RATE_WARN * expected else Check("rates", "pass", told)


def check_clock(contract: Contract, seen: Seen) -> Check:
    """Stamps of joint states are neither stale nor ahead of this computer's clock (such ones the loop does not take)."""
    if seen.joints or seen.age_s is None:
        problem = seen.joints or "no joint state yet"
        return Check("clock", "fail", problem, "check the bus, and whoever stamps the joint states")
    uncertain_s = (_number(seen, "clock_uncertainty_us") or 0.0) / 1e6
    if uncertain_s > 0.5 / contract.motor_hz:
        problem = f"the bus knows its hardware's clock to {uncertain_s * 1e3:.1f} ms only, half a motor period or more"
        return Check("clock", "warn", problem, "a quicker link (baud, latency_timer), or a machine less busy")
    return Check("clock", "pass", f"the newest joint state is {max(seen.age_s, 0.0) * 1e3:.1f} ms old")


def check_voltage(contract: Contract, seen: Seen) -> Check:
    """The supply lies within `safety.voltage`."""
    bounds, measured = contract.safety.voltage, _voltages(seen)
    if not bounds:
        told = f"{min(measured):.1f} V" if measured else "not measured"
        return Check("voltage", "pass", f"{told}; safety.voltage sets no bound")
    low, high = bounds
    if not measured:
        problem = f"safety.voltage asks for {low:g}..{high:g} V, but the motor bus reports no voltage"
        return Check("voltage", "warn", problem, "measure it by hand")
    wrong = next((value for value in measured if not low <= value <= high), None)
    told = f"{measured[0] if wrong is None else wrong:.1f} V"
    if wrong is not None:
        remedy = "charge or change the battery" if wrong < low else "check the supply"
        return Check("voltage", "fail", f"{told} is outside safety.voltage {low:g}..{high:g} V", remedy)
    return Check("voltage", "pass", told)


def _voltages(seen: Seen) -> list[float]:
    """Of the board, or of every servo."""
    return [
        value
        for name, value in seen.figures.items()
        if (name == "voltage" or name.startswith("voltage_")) and isinstance(value, int | float)
    ]


def _number(seen: Seen, figure: str) -> float | None:
    value = seen.figures.get(figure)
    return value if isinstance(value, int | float) else None
