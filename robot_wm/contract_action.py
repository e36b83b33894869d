"""The contract's `action`: what the robot is commanded with, within which bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robot_wm.contract_observations import FIELDS
from robot_wm.errors import ContractError
from robot_wm.field_reader import FieldReader

MODES = ("position", "velocity", "effort")


@dataclass(frozen=True)
class Action:
    """What the robot is commanded with; -1..1 of the model maps to low..high."""

    names: tuple[str, ...]
    mode: str  # position | velocity | effort
    unit: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    topic: str = "applied"  # where bags hold what was really sent
    field: str = ""  # field of that topic; empty: the mode
    delay_s: float = 0.0  # from writing a command to its effect
    limit_low: tuple[float, ...] = ()  # tightened limits; empty: low
    limit_high: tuple[float, ...] = ()
    rate: tuple[float, ...] = ()  # largest change per second, SI units; empty: unlimited
    jerk: tuple[float, ...] = ()  # largest change per second of that rate, SI units; empty: unlimited

    @property
    def size(self) -> int:
        return len(self.names)


def parse_action(reader: FieldReader, data: Any) -> Action:
    table = reader.table(data, "action", Action, required=("names", "mode", "low", "high"))
    names = reader.names(table["names"], "action.names")
    size = len(names)
    low = reader.numbers(table["low"], "action.low", size)
    high = reader.numbers(table["high"], "action.high", size)
    limit_low = reader.numbers(table.get("limit_low") or low, "action.limit_low", size)
    limit_high = reader.numbers(table.get("limit_high") or high, "action.limit_high", size)
    for i, name in enumerate(names):
        if not low[i] < high[i]:
            raise ContractError(f"{reader.source}: action.low: {low[i]} of {name} must be below action.high {high[i]}")
        if not low[i] <= limit_low[i] < limit_high[i] <= high[i]:
            raise ContractError(
                f"{reader.source}: action.limit_low/limit_high: {limit_low[i]}..{limit_high[i]} of {name} must lie "
                f"within low..high {low[i]}..{high[i]}; limits may only be tightened"
            )
    bounds = {
        name: reader.numbers(table[name], f"action.{name}", size, above=0.0)
        for name in ("rate", "jerk")
        if table.get(name) not in (None, [], ())
    }
    field_name = reader.text(table.get("field", ""), "action.field")
    return Action(
        names=names,
        mode=reader.choice(table["mode"], "action.mode", MODES),
        unit=reader.texts(table.get("unit", ""), "action.unit", size),
        low=low,
        high=high,
        topic=reader.text(table.get("topic", "applied"), "action.topic"),
        field=reader.choice(field_name, "action.field", FIELDS) if field_name else "",
        delay_s=reader.number(table.get("delay_s", 0.0), "action.delay_s", at_least=0.0),
        limit_low=limit_low,
        limit_high=limit_high,
        **bounds,
    )
