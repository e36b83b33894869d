"""Motor bus of Dynamixel X-series servos, Protocol 2.0, through the maker's SDK (docs/dynamixel.md)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from robot_wm.buses.dynamixel_port import Protocol2
from robot_wm.buses.dynamixel_setup import DynamixelFamily, DynamixelServo, resting_goal
from robot_wm.buses.dynamixel_table import (
    BUS_WATCHDOG,
    CENTRE,
    HARDWARE_ERROR,
    POSITION_UNIT,
    PRESENT,
    PRESENT_LAYOUT,
    TORQUE_ENABLE,
    VELOCITY_UNIT,
    WATCHDOG_MOST,
    WATCHDOG_UNIT_S,
    error_words,
)
from robot_wm.buses.servo_bus import ServoBus
from robot_wm.buses.servo_family import UnfitServo
from robot_wm.buses.servo_link import ServoLink
from robot_wm.buses.servo_options import joint_map, with_zeros
from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.messages import JointState
from robot_wm.timebase import NS_PER_S


class DynamixelBus(ServoBus[DynamixelServo]):
    """See `ServoBus`. A watchdog that tripped is cleared by `enable` alone.

    Args:
        port, baud: of the serial port; `/dev/serial/by-id/...` names an adapter wherever it is plugged in.
        ids: servo of each joint; absent: 1, 2, ... for the actions, then the other joints observed. Joints that are no actions are
            only measured, their torque stays off.
        zero: where the joint's zero is on the servo [rad], 0 is the middle of its turn; absent: 0.
        direction: 1 or -1, by joint; absent: 1. position = direction × (servo − zero).
        effort_scale: effort [SI] per ampere, by joint (the torque constant); absent: 1.
        position_wrap: see `JointMap`; a motor in position control needs `extended` for it.
        models: expected model by joint, e.g. XM430-W350; absent: any of the X series.
        extended: position control over many turns, without the servos' position limits.
        watchdog_s: the servos stop after so long without a packet; rounded up to 20 ms.
        timeout_s, open_timeout_s: see `ServoBus`.
    """

    with_zeros = staticmethod(with_zeros)

    def __init__(
        self,
        contract: Contract,
        port: str,
        baud: int = 1_000_000,
        ids: Mapping[str, int] | None = None,
        zero: Mapping[str, float] | None = None,
        direction: Mapping[str, int] | None = None,
        effort_scale: Mapping[str, float] | None = None,
        position_wrap: Mapping[str, Sequence[float]] | None = None,
        models: Mapping[str, str] | None = None,
        extended: bool = False,
        watchdog_s: float = 0.1,
        timeout_s: float = 0.0,
        open_timeout_s: float = 3.0,
    ) -> None:
        scales = (zero or {}, direction or {}, effort_scale or {}, models or {}, position_wrap or {})
        joints = joint_map(contract, ids, *scales, extended, "; set extended")
        self._watchdog = watchdog_units(watchdog_s, 1.0 / contract.motor_hz)
        super().__init__(
            contract,
            joints,
            ServoLink(port, baud, Protocol2()),
            DynamixelFamily(self._watchdog),
            ids,
            models or {},
            extended,
            timeout_s,
            open_timeout_s,
            pause=round(self._watchdog * WATCHDOG_UNIT_S * NS_PER_S),
        )

    def figures(self) -> dict[str, float | str]:
        """Those of every bus of servos, and whether fast sync read is used."""
        return {**super().figures(), "fast_sync_read": "yes" if self.session.fast else "no"}

    def _joints(self, stamp: int, values: bytes) -> JointState:
        raw = np.frombuffer(values, PRESENT_LAYOUT)
        units = np.array([servo.model.current_unit for servo in self.session.servos])
        return JointState(
            stamp,
            self.names,
            self.map.position((raw["position"].astype(np.float64) - CENTRE) * POSITION_UNIT),
            self.map.velocity(raw["velocity"] * VELOCITY_UNIT),
            self.map.effort(raw["current"] * units) if units.all() else np.zeros(0),
        )

    def _power_up(self) -> None:
        session = self.session
        errors = session.link.sync_read(HARDWARE_ERROR, self._motors)
        bad = [f"{w.joint}: {error_words(e[0])}" for w, e in zip(self._driven, errors, strict=True) if e[0]]
        if bad:
            raise UnfitServo(f"servos at {session.link.serial.path}: {'; '.join(bad)}; power-cycle them")
        session.write_all(BUS_WATCHDOG, 0, self._motors)  # a tripped one refuses goals
        present = session.link.sync_read(PRESENT, self._motors)
        self._send_goals(list(map(resting_goal, self._driven, session.servos, present)))
        session.write_all(BUS_WATCHDOG, self._watchdog, self._motors)
        session.write_all(TORQUE_ENABLE, 1, self._motors)
        written = time.monotonic_ns()
        self._confirm(TORQUE_ENABLE, 1, written)
        self._confirm(BUS_WATCHDOG, self._watchdog, written)
        session.heard = time.monotonic_ns()


def watchdog_units(watchdog_s: float, period_s: float) -> int:
    """Bus Watchdog (98) for a time, rounded up. Raises BusError unless it lies between two motor periods and 2.54 s."""
    units = math.ceil(round(watchdog_s / WATCHDOG_UNIT_S, 6))
    if not (units <= WATCHDOG_MOST and watchdog_s >= 2 * period_s):
        raise BusError(
            f"watchdog_s is {watchdog_s:g}; it must lie between two motor periods, {2 * period_s:g} s, "
            f"and {WATCHDOG_MOST * WATCHDOG_UNIT_S:g} s"
        )
    return units
