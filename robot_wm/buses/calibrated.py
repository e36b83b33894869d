"""A motor bus that is told the zeros of its joints, so that the contract's position limits mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robot_wm.buses.base import MotorBus, bus_options, open_bus
from robot_wm.contract import Contract
from robot_wm.joint_zero import JointZero

ZEROS = ("position_scale", "position_offset", "position_wrap", "effort_scale")  # a bus that takes them can apply zeros


def open_calibrated(
    name: str, contract: Contract, options: Mapping[str, Any], zeros: Mapping[str, JointZero]
) -> tuple[MotorBus, bool]:
    """Open the bus registered as `name` with the zeros among its options, and say whether it applies them.

    Raises:
        BusError: as `open_bus`.
    """
    applied = set(ZEROS) <= set(bus_options(name))
    return open_bus(name, contract, **(with_zeros(contract, options, zeros) if applied and zeros else options)), applied


def with_zeros(contract: Contract, options: Mapping[str, Any], zeros: Mapping[str, JointZero]) -> dict[str, Any]:
    """Bus options such that it reports what a joint's zero makes of what it reported with `options` alone.

    That is what the sweep was recorded with. Torque turns with the direction, as velocity does.
    """
    observed = [name for o in contract.observations if o.field != "data" for name in o.names]
    joints = set(options.get("joints") or [*contract.action.names, *observed])
    scale, offset, wrap, effort = (dict(options.get(option) or {}) for option in ZEROS)
    for name in sorted(joints & set(zeros)):
        zero = zeros[name]
        offset[name] = zero.direction * (offset.get(name, 0.0) - zero.centre_rad) + zero.centre_position_rad
        scale[name] = zero.direction * scale.get(name, 1.0)
        effort[name] = zero.direction * effort.get(name, 1.0)
        wrap[name] = [zero.centre_position_rad, zero.period_rad]
    return {**options, **dict(zip(ZEROS, (scale, offset, wrap, effort), strict=True))}
