"""What may befall emulated hardware, as text: `corrupt=0.01,stall@3=0.5,hangup@5`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from robot_wm.errors import RunError
from sim.link_faults import FaultRates

RATES = tuple(field.name for field in fields(FaultRates))
EVENTS = ("stall", "hangup", "plugin", "overheat")


@dataclass(frozen=True)
class Event:
    """Something that befalls the device `at` seconds after it was first powered."""

    at: float
    what: str  # stall | hangup | plugin | overheat
    argument: float  # stall: how long [s]; overheat: the joint's index


def parse_faults(text: str) -> tuple[FaultRates, list[Event]]:
    """`corrupt=0.01,stall@3=0.5` → rates per frame, and events in the order in which they happen. Raises RunError."""
    rates: dict[str, float] = {}
    events = []
    for item in filter(None, text.split(",")):
        name, _, number = item.partition("=")
        what, at_time, at = name.partition("@")
        known = EVENTS if at_time else RATES
        if what not in known:
            raise RunError(
                f"unknown fault {item!r}; there are {', '.join(RATES)} (=rate), {', '.join(EVENTS)} (@seconds)"
            )
        try:
            if at_time:
                events.append(Event(float(at), what, float(number or 0)))
            else:
                rates[what] = float(number)
        except ValueError as error:
            raise RunError(f"fault {item!r} must read corrupt=0.01, stall@3=0.5 or hangup@5") from error
    return FaultRates(**rates), sorted(events, key=lambda event: event.at)
