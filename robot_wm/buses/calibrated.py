"""A motor bus that is told the zeros of its joints, so that the contract's position limits mean what they say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from robot_wm.buses.base import MotorBus, bus_kind, open_bus
from robot_wm.contract import Contract
from robot_wm.joint_zero import JointZero

SCALES = ("position_scale", "position_offset", "effort_scale", "position_wrap")  # options of a bus with a `JointMap`


@runtime_checkable
class ZeroingBus(Protocol):
    """The class of a motor bus that can apply joint zeros."""

    @staticmethod
    def with_zeros(contract: Contract, options: Mapping[str, Any], zeros: Mapping[str, JointZero]) -> Mapping[str, Any]:
        """Bus options such that it reports what the zeros make of what it reported with `options` alone."""
        ...


def open_calibrated(
    name: str, contract: Contract, options: Mapping[str, Any], zeros: Mapping[str, JointZero]
) -> tuple[MotorBus, bool]:
    """Open the bus registered as `name` with the zeros among its options, and say whether it applies them.

    Raises:
        BusError: as `open_bus`.
    """
    kind = bus_kind(name)
    if not isinstance(kind, ZeroingBus):
        return open_bus(name, contract, **options), False
    return open_bus(name, contract, **(kind.with_zeros(contract, options, zeros) if zeros else options)), True


def scaled_with_zeros(contract: Contract, options: Mapping[str, Any], zeros: Mapping[str, JointZero]) -> dict[str, Any]:
    """`ZeroingBus.with_zeros` of a bus whose options are those of a `JointMap`.

    The zeros go on top of what is there, which the sweep was recorded with. Torque turns with the direction, as velocity does.
    """
    joints = set(options.get("joints") or contract.joints)
    scale, offset, effort, wrap = (dict(options.get(option) or {}) for option in SCALES)
    for name in sorted(joints & set(zeros)):
        zero = zeros[name]
        offset[name] = zero.direction * (offset.get(name, 0.0) - zero.centre_rad) + zero.centre_position_rad
        scale[name] = zero.direction * scale.get(name, 1.0)
        effort[name] = zero.direction * effort.get(name, 1.0)
        wrap[name] = [zero.centre_position_rad, zero.period_rad]
    return {**options, **dict(zip(SCALES, (scale, offset, effort, wrap), strict=True))}
