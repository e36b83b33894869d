"""The contract's `safety`: bounds of the safety filter and of the fallback ladder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from robot_wm.errors import ContractError
from robot_wm.field_reader import FieldReader, short


@dataclass(frozen=True)
class Box:
    """Where a point of the robot may be (robot_wm/workspace.py)."""

    function: str  # package.module:function, of the driven joints' positions
    low: tuple[float, ...]  # corner (3,) [m]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Safety:
    """Bounds of the safety filter and the fallback ladder; every per-joint table is by joint name."""

    position: dict[str, tuple[float, float]] = field(default_factory=dict)
    velocity: dict[str, float] = field(default_factory=dict)
    soft: dict[str, float] = field(default_factory=dict)  # so near a position bound a push towards it fades
    workspace: Box | None = None  # outside: damp
    plan_stale_s: float = 0.1  # no valid plan for this long: hold
    joint_stale_s: float = 0.05  # no joint state for this long: damp
    hold_s: float = 1.0  # holding for this long: damp
    hold_effort: tuple[float, ...] = ()  # effort mode: what hold sends; empty: zero
    damping: tuple[float, ...] = ()  # effort mode: damp sends -damping * velocity; empty: zero effort
    voltage: tuple[float, ...] = ()  # lowest and highest supply [V] to arm with; empty: any


def parse_safety(reader: FieldReader, data: Any) -> Safety:
    table = reader.table(data, "safety", Safety)
    defaults = Safety()
    position = {}
    for joint, bounds in reader.mapping(table.get("position") or {}, "safety.position").items():
        low, high = reader.numbers(bounds, f"safety.position.{joint}", 2)
        if not low < high:
            raise ContractError(f"{reader.source}: safety.position.{joint}: {low} must be below {high}")
        position[joint] = (low, high)
    velocity = {
        joint: reader.number(value, f"safety.velocity.{joint}", above=0.0)
        for joint, value in reader.mapping(table.get("velocity") or {}, "safety.velocity").items()
    }
    soft = {}
    for joint, value in reader.mapping(table.get("soft") or {}, "safety.soft").items():
        soft[joint] = reader.number(value, f"safety.soft.{joint}", above=0.0)
        if joint not in position:
            raise reader.fail(f"safety.soft.{joint}", "has no bound to be near to: give it one in safety.position")
    times = {
        name: reader.number(table.get(name, getattr(defaults, name)), f"safety.{name}", above=0.0)
        for name in ("plan_stale_s", "joint_stale_s", "hold_s")
    }
    return Safety(
        position=position,
        velocity=velocity,
        soft=soft,
        workspace=_box(reader, table.get("workspace")),
        hold_effort=reader.numbers(table.get("hold_effort") or (), "safety.hold_effort"),
        damping=reader.numbers(table.get("damping") or (), "safety.damping"),
        voltage=_voltage(reader, table.get("voltage") or ()),
        **times,
    )


def _box(reader: FieldReader, data: Any) -> Box | None:
    if not data:
        return None
    table = reader.table(data, "safety.workspace", Box, ("function", "low", "high"))
    low, high = (reader.numbers(table[name], f"safety.workspace.{name}", 3) for name in ("low", "high"))
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise reader.fail("safety.workspace", "low must be below high in each of the three directions")
    return Box(reader.text(table["function"], "safety.workspace.function"), low, high)


def _voltage(reader: FieldReader, data: Any) -> tuple[float, ...]:
    bounds = reader.numbers(data, "safety.voltage", at_least=0.0)
    if bounds and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise reader.fail("safety.voltage", f"must be [lowest, highest] in V, got {short(list(bounds))}")
    return bounds
