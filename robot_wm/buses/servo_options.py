"""Options of a bus of servos, checked: ids, zeros, directions, scales; and those of calibrated joints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from robot_wm.buses.joint_map import JointMap
from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.joint_zero import JointZero

MOST_IDS = 253  # 0..252, MAX_ID of both makers' SDKs


def joint_map(
    contract: Contract,
    ids: Mapping[str, int] | None,
    zero: Mapping[str, float],
    direction: Mapping[str, int],
    effort_scale: Mapping[str, float],
    models: Mapping[str, str],
    position_wrap: Mapping[str, Sequence[float]],
    extended: bool = False,
    way_out: str = "",
) -> JointMap:
    """The joints in the order of the bus, motors first, and the bus's units [rad, rad/s, of effort] ↔ the contract's.

    `way_out` of a wrap that a servo in position control cannot have. Raises BusError.
    """
    actions = contract.action.names
    missing = [name for name in actions if ids is not None and name not in ids]
    if missing:
        raise BusError(f"ids: no servo for {', '.join(missing)}; the contract's actions are {', '.join(actions)}")
    joints = None if ids is None else [*actions, *(name for name in ids if name not in actions)]
    names = JointMap(contract, joints, {}, {}, {}, MOST_IDS).names
    options = {"zero": zero, "direction": direction, "effort_scale": effort_scale, "models": models}
    for option, given in options.items():
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise BusError(f"{option} names {', '.join(unknown)}; the joints are {', '.join(names)}")
    if any(value not in (1, -1) for value in direction.values()):
        raise BusError("direction must be 1 or -1 for every joint")
    single = [name for name in position_wrap if name in _single_turn(contract, extended)]
    if single:
        raise BusError(f"position_wrap names {', '.join(single)}, which leave no turn in position control{way_out}")
    signs = {name: direction.get(name, 1) for name in names}
    offsets = {name: -signs[name] * float(value) for name, value in zero.items()}
    efforts = {name: signs[name] * float(effort_scale.get(name, 1.0)) for name in names}
    return JointMap(contract, names, direction, offsets, efforts, MOST_IDS, position_wrap)


def with_zeros(contract: Contract, options: Mapping[str, Any], zeros: Mapping[str, JointZero]) -> dict[str, Any]:
    """`ZeroingBus.with_zeros` in these options: `zero`, `direction`, and `position_wrap` where a servo leaves its turn.

    A motor in position control cannot, unless `extended`: its range has to lie within the turn, or the servo's limits refuse
    the contract.
    """
    single = _single_turn(contract, bool(options.get("extended")))
    at, direction, wrap = (dict(options.get(option) or {}) for option in ("zero", "direction", "position_wrap"))
    for name in sorted(set(options.get("ids") or contract.joints) & set(zeros)):
        zero, sign = zeros[name], direction.get(name, 1)
        middle = math.remainder(at.get(name, 0.0) + sign * zero.centre_rad, zero.period_rad)  # on the servo
        direction[name] = sign * round(zero.direction)
        at[name] = middle - direction[name] * zero.centre_position_rad
        if name not in single:
            wrap[name] = [zero.centre_position_rad, zero.period_rad]
    return {**options, "zero": at, "direction": direction, "position_wrap": wrap}


def _single_turn(contract: Contract, extended: bool) -> tuple[str, ...]:
    """Joints whose goals must lie within one turn of the servo."""
    return contract.action.names if contract.action.mode == "position" and not extended else ()


def servo_ids(names: Sequence[str], ids: Mapping[str, int] | None) -> list[int]:
    """The id of each joint; 1, 2, ... where none are given. Raises BusError when one is no id, or serves two joints."""
    found = list(range(1, len(names) + 1)) if ids is None else [ids[name] for name in names]
    wrong = [str(id_) for id_ in found if not isinstance(id_, int) or not 0 <= id_ < MOST_IDS or found.count(id_) > 1]
    if wrong:
        raise BusError(f"ids must be different numbers from 0 to {MOST_IDS - 1}, not {', '.join(sorted(set(wrong)))}")
    return found
