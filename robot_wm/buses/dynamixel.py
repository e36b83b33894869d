"""Motor bus of Dynamixel X-series servos, Protocol 2.0, through the maker's SDK (docs/dynamixel.md)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

import numpy as np

from robot_wm.buses.dynamixel_link import ServoLink
from robot_wm.buses.dynamixel_options import joint_map, servo_ids, watchdog_units, with_zeros
from robot_wm.buses.dynamixel_reader import ServoReader
from robot_wm.buses.dynamixel_session import ServoSession
from robot_wm.buses.dynamixel_setup import Servo, UnfitServo, Wanted, goals_of, require_limits, resting_goal
from robot_wm.buses.dynamixel_table import (
    BUS_WATCHDOG,
    CENTRE,
    HARDWARE_ERROR,
    MODES,
    POSITION_UNIT,
    PRESENT,
    PRESENT_LAYOUT,
    TORQUE_ENABLE,
    VELOCITY_UNIT,
    WATCHDOG_UNIT_S,
    Register,
    error_words,
)
from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S

ATTEMPTS = 3  # to switch the torque
ENABLE_PATIENCE = NS_PER_S // 30  # [ns] of an attempt to switch it on


class DynamixelBus:
    """One sync read each `read`, one sync write each `write`; health in rotation beside them.

    A port that is gone and servos that fell silent are faults. `read` then tries to come back, an exchange per call; the torque is
    off then, and the fault stands until `disable` has been called. A watchdog that tripped is cleared by `enable` alone.

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
        timeout_s: bound of every call but `open`; 0: half a motor period, 20 ms at most. `enable` takes 0.1 s at most, or three
            times `timeout_s`: nothing moves yet, and an answer that is late must not be an e-stop.
        open_timeout_s: bound of `open`; a second more where a servo is missing, to find out who is there.
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
        period = 1.0 / contract.motor_hz
        self.map = joint_map(
            contract, ids, zero or {}, direction or {}, effort_scale or {}, models or {}, position_wrap or {}, extended
        )
        self.names = self.map.names
        self._limits = np.array([contract.action.limit_low, contract.action.limit_high])
        self._goal = MODES[self.map.mode][1]
        self._watchdog = watchdog_units(watchdog_s, period)
        self._timeout = round((timeout_s or min(0.5 * period, 0.02)) * NS_PER_S)
        self._open_timeout_s = open_timeout_s
        self._powered = False  # what we asked for
        self._disabling = 0  # since when, when it is not confirmed yet [ns]
        wanted = [
            Wanted(name, id_, self.map.mode if k < self.map.motors else "", (models or {}).get(name, ""), extended)
            for k, (name, id_) in enumerate(zip(self.names, servo_ids(self.names, ids), strict=True))
        ]
        self._driven = wanted[: self.map.motors]
        self._motors = [w.id for w in self._driven]
        self.session = ServoSession(ServoLink(port, baud), wanted, self._timeout, self._check)
        self._reader = ServoReader(self.session, round(self._watchdog * WATCHDOG_UNIT_S * NS_PER_S))

    def open(self) -> None:
        self._powered = False
        self.session.open(self._open_timeout_s)

    def close(self) -> None:
        if self.session.up:
            with contextlib.suppress(BusError):  # the watchdogs stop the servos, too
                self.disable()
        self._powered = False
        self.session.close()

    def read(self) -> JointState:
        """The newest reading; that of an earlier call, with its own stamp, when this one's is late. Raises BusError."""
        self.session.renew()
        self._begin()
        reply = self._reader.read(self._powered)
        return self._joints(reply.stamp, reply.values)

    def write(self, values: FloatArray) -> None:
        """Send (action,) in the contract's units and order; raises BusError before anything is sent when it is not finite."""
        setpoint = self.map.command(values)
        self.session.require_up()
        self._begin()
        self._send_goals(goals_of(self.session.servos[: self.map.motors], setpoint))

    def enable(self) -> None:
        """Clear tripped watchdogs, arm them, torque on; nothing moves. Raises BusError when a servo does not confirm it."""
        self.session.require_up()
        self._disabling = 0
        for attempt in range(ATTEMPTS):
            self._begin(max(self._timeout, ENABLE_PATIENCE))
            try:
                self._power_up()
                break
            except BusError as error:
                with contextlib.suppress(BusError):
                    self.session.write_all(TORQUE_ENABLE, 0, self._motors, at_once=True)
                if isinstance(error, UnfitServo) or attempt == ATTEMPTS - 1 or not self.session.up:
                    raise
        self._powered = True

    def disable(self) -> None:
        self.session.require_up()
        for attempt in range(ATTEMPTS):
            began = self._begin(self._timeout // ATTEMPTS)
            try:
                self.session.write_all(TORQUE_ENABLE, 0, self._motors, at_once=True)
                self._disabling = self._disabling or began
                self._confirm(TORQUE_ENABLE, 0, self._disabling)
                break
            except BusError:
                if attempt == ATTEMPTS - 1 or not self.session.up:
                    raise
        self._powered, self._disabling = False, 0

    def fault(self) -> str | None:
        session = self.session
        if not session.up:
            return session.lost()
        texts = [
            f"{name}: {text}"
            for k, name in enumerate(self.names)
            for text in session.health.faults(k, self._powered and k < self.map.motors, self._watchdog)
        ]
        return f"servos at {session.link.serial.path}: {'; '.join(texts)}" if texts else None

    def figures(self) -> dict[str, float | str]:
        """For diagnostics: counters of the line, models, voltages, temperatures, and a warning where the adapter is slow."""
        session, serial = self.session, self.session.link.serial
        figures: dict[str, float | str] = {
            "port": serial.path,
            "bytes_out": serial.bytes_out,
            "bytes_in": serial.bytes_in,
            "output_full": serial.full,
            "fast_sync_read": "yes" if session.fast else "no",
            **session.link.counts,
        }
        if session.latency_ms is not None:
            figures["latency_timer_ms"] = session.latency_ms
        if session.slow_adapter():
            figures["warning"] = session.slow_adapter()
        for k, (name, servo) in enumerate(zip(self.names, list(session.servos), strict=False)):
            figures[f"model_{name}"] = f"{servo.model.name}, firmware {servo.firmware}"
            voltage, temperature = session.health.voltage(k), session.health.temperature(k)
            if voltage is not None and temperature is not None:
                figures |= {f"voltage_{name}": voltage, f"temperature_{name}": float(temperature)}
        return figures

    def _begin(self, timeout: int = 0) -> int:
        """Bound the exchanges from now on, and return now [ns]."""
        now = time.monotonic_ns()
        self.session.link.bound(now + (timeout or self._timeout))
        return now

    def _check(self, servos: list[Servo]) -> None:
        low, high = (self.map.command(limits) for limits in self._limits)
        for wanted, servo, a, b in zip(self._driven, servos, low, high, strict=False):
            require_limits(self.session.link.serial.path, wanted, servo, (float(a), float(b)))

    def _joints(self, stamp: int, values: list[bytes]) -> JointState:
        raw = np.frombuffer(b"".join(values), PRESENT_LAYOUT)
        units = np.array([servo.model.current_unit for servo in self.session.servos])
        return JointState(
            stamp,
            self.names,
            self.map.position((raw["position"].astype(np.float64) - CENTRE) * POSITION_UNIT),
            self.map.velocity(raw["velocity"] * VELOCITY_UNIT),
            self.map.effort(raw["current"] * units) if units.all() else np.zeros(0),
        )

    def _power_up(self) -> None:
        """Goals that move nothing, watchdogs armed, torque on, and all of it confirmed. Raises BusError, UnfitServo."""
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

    def _send_goals(self, goals: list[int]) -> None:
        self.session.link.sync_write(self._goal, dict(zip(self._motors, map(self._goal.pack, goals), strict=True)))

    def _confirm(self, register: Register, value: int, written: int) -> None:
        """See that every motor has taken a value that was written at `written` [ns]; a late answer to an earlier attempt will do.

        Raises BusError naming those that have not.
        """
        link, health = self.session.link, self.session.health
        link.settle()
        if health.asked.get(register, 0) < written:
            asked = time.monotonic_ns()
            health.put(register, link.sync_read(register, self._motors), asked)
        wrong = [w.joint for k, w in enumerate(self._driven) if health.number(register, k) != value]
        if wrong:
            health.asked.pop(register)
            path = link.serial.path
            raise BusError(f"servos at {path}: {', '.join(wrong)} did not take {value} in register {register.address}")
