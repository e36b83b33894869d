"""What may befall emulated hardware, as text: `corrupt=0.01,stall@3=0.5,hangup@5`; `answers.drop=1` of one direction alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

from robot_wm.errors import RunError
from sim.link_faults import FaultRates

RATES = tuple(field.name for field in fields(FaultRates))
EVENTS = ("stall", "hangup", "plugin", "overheat", "cool", "clock", "nan")
ANSWERS = "answers."


@dataclass(frozen=True)
class Event:
    """Something that befalls the device `at` seconds after it was first powered."""

    at: float
    what: str  # one of EVENTS
    argument: float  # stall, nan: how long [s]; overheat, cool: the joint's index; clock: how far [s]


def parse_directions(text: str) -> tuple[FaultRates, FaultRates, list[Event]]:
    """As `parse_faults`, with rates to the device and of its answers. Raises RunError."""
    items = text.split(",")
    back = [item.removeprefix(ANSWERS) for item in items if item.startswith(ANSWERS)]
    rates, events = parse_faults(",".join(item for item in items if not item.startswith(ANSWERS)))
    if not back:
        return rates, rates, events
    answers, none = parse_faults(",".join(back))
    if none or rates != FaultRates():
        raise RunError(f"{text!r} must give rates of the answers alone, or of both directions")
    return rates, answers, events


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
