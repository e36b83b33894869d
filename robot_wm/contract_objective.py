"""The contract's `reward` and `costs`: what a planner shall seek, and what avoid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robot_wm.errors import ContractError
from robot_wm.field_reader import FieldReader


@dataclass(frozen=True)
class Reward:
    """Where the reward comes from: a recorded topic, or `package.module:function` that relabels the bag."""

    topic: str = "reward"
    function: str = ""


@dataclass(frozen=True)
class Costs:
    """What a planner shall avoid: subtracted from the predicted return. Weights may change without retraining."""

    action: tuple[float, ...] = ()  # times the square of each normalised action, per step; empty: zero
    change: tuple[float, ...] = ()  # times the square of its change since the step before; empty: zero
    disagreement: float = 0.0  # times the standard deviation of the value heads at the end of the horizon
    functions: dict[str, float] = field(default_factory=dict)  # `package.module:function` → weight (models/costs.py)


def parse_reward(reader: FieldReader, data: Any) -> Reward:
    table = reader.table(data, "reward", Reward)
    function = reader.text(table.get("function", ""), "reward.function")
    if function and function.count(":") != 1:
        raise ContractError(f"{reader.source}: reward.function: {function!r} must read package.module:function")
    return Reward(topic=reader.text(table.get("topic", "reward"), "reward.topic"), function=function)


def parse_costs(reader: FieldReader, data: Any, size: int) -> Costs:
    table = reader.table(data, "costs", Costs)
    weights = {
        name: reader.numbers(table[name], f"costs.{name}", size, at_least=0.0)
        for name in ("action", "change")
        if table.get(name) not in (None, [], ())
    }
    functions = reader.mapping(table.get("functions") or {}, "costs.functions")
    for name in functions:
        if name.count(":") != 1:
            raise ContractError(f"{reader.source}: costs.functions: {name!r} must read package.module:function")
    return Costs(
        disagreement=reader.number(table.get("disagreement", 0.0), "costs.disagreement", at_least=0.0),
        functions={
            name: reader.number(weight, f"costs.functions.{name}", above=0.0) for name, weight in functions.items()
        },
        **weights,
    )
