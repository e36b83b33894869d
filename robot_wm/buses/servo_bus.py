"""Motor bus of servos on one serial line: what is the same for every maker."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Generic

import numpy as np

from robot_wm.buses.joint_map import JointMap
from robot_wm.buses.servo_family import S, ServoFamily, UnfitServo, Wanted, goals_of
from robot_wm.buses.servo_link import ServoLink
from robot_wm.buses.servo_options import servo_ids
from robot_wm.buses.servo_reader import ServoReader
from robot_wm.buses.servo_register import Register
from robot_wm.buses.servo_session import ServoSession
from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S

ATTEMPTS = 3  # to switch the torque
ENABLE_PATIENCE = NS_PER_S // 30  # [ns] of an attempt to switch it on


class ServoBus(Generic[S]):
    """One sync read each `read`, one sync write each `write`; health in rotation beside them.

    A port that is gone and servos that fell silent are faults. `read` then tries to come back, an exchange per call; the torque is
    off then, and the fault stands until `disable` has been called.

    Args:
        joints: names, units and mode.
        ids, models: options of the bus, see `DynamixelBus`.
        timeout_s: bound of every call but `open`; 0: half a motor period, 20 ms at most. `enable` takes 0.1 s at most, or three
            times `timeout_s`: nothing moves yet, and an answer that is late must not be an e-stop.
        open_timeout_s: bound of `open`; a second more where a servo is missing, to find out who is there.
        pause: see `ServoReader`.
    """

    def __init__(
        self,
        contract: Contract,
        joints: JointMap,
        link: ServoLink,
        family: ServoFamily[S],
        ids: Mapping[str, int] | None,
        models: Mapping[str, str],
        extended: bool,
        timeout_s: float,
        open_timeout_s: float,
        pause: int = 0,
    ) -> None:
        self.map = joints
        self.names = joints.names
        self.family = family
        self._limits = np.array([contract.action.limit_low, contract.action.limit_high])
        self._goal = family.goals[joints.mode]
        self._timeout = round((timeout_s or min(0.5 / contract.motor_hz, 0.02)) * NS_PER_S)
        self._open_timeout_s = open_timeout_s
        self._powered = False  # what we asked for
        self._disabling = 0  # since when, when it is not confirmed yet [ns]
        wanted = [
            Wanted(name, id_, joints.mode if k < joints.motors else "", models.get(name, ""), extended)
            for k, (name, id_) in enumerate(zip(self.names, servo_ids(self.names, ids), strict=True))
        ]
        self._driven = wanted[: joints.motors]
        self._motors = [w.id for w in self._driven]
        self.session = ServoSession(link, family, wanted, self._timeout, self._check)
        self._reader = ServoReader(self.session, pause)

    def open(self) -> None:
        self._powered = False
        self.session.open(self._open_timeout_s)

    def close(self) -> None:
        if self.session.up:
            with contextlib.suppress(BusError):
                self.disable()
        self._powered = False
        self.session.close()

    def read(self) -> JointState:
        """The newest reading; that of an earlier call, with its own stamp, when this one's is late. Raises BusError."""
        self.session.renew()
        self._begin()
        reply = self._reader.read(self._powered)
        return self._joints(reply.stamp, b"".join(reply.values))

    def write(self, values: FloatArray) -> None:
        """Send (action,) in the contract's units and order; raises BusError before anything is sent when it is not finite."""
        setpoint = self.map.command(values)
        self.session.require_up()
        self._begin()
        self._send_goals(goals_of(self._servos, setpoint))

    def enable(self) -> None:
        """Torque on, and what watches it; nothing moves. Raises BusError when a servo does not confirm it."""
        self.session.require_up()
        self._disabling = 0
        for attempt in range(ATTEMPTS):
            self._begin(max(self._timeout, ENABLE_PATIENCE))
            try:
                self._power_up()
                break
            except BusError as error:
                with contextlib.suppress(BusError):
                    self.session.write_all(self.session.health.torque, 0, self._motors, at_once=True)
                if isinstance(error, UnfitServo) or attempt == ATTEMPTS - 1 or not self.session.up:
                    raise
        self._powered = True

    def disable(self) -> None:
        self.session.require_up()
        torque = self.session.health.torque
        for attempt in range(ATTEMPTS):
            began = self._begin(self._timeout // ATTEMPTS)
            try:
                self.session.write_all(torque, 0, self._motors, at_once=True)
                self._disabling = self._disabling or began
                self._confirm(torque, 0, self._disabling)
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
            for text in session.health.faults(k, self._powered and k < self.map.motors)
        ]
        return f"servos at {session.link.serial.path}: {'; '.join(texts)}" if texts else None

    def figures(self) -> dict[str, float | str]:
        """For diagnostics: counters of the line, models, what the servos measure, and a warning where the adapter is slow."""
        session, serial = self.session, self.session.link.serial
        figures: dict[str, float | str] = {
            "port": serial.path,
            "bytes_out": serial.bytes_out,
            "bytes_in": serial.bytes_in,
            "output_full": serial.full,
            **session.link.counts,
        }
        if session.latency_ms is not None:
            figures["latency_timer_ms"] = session.latency_ms
        if session.slow_adapter():
            figures["warning"] = session.slow_adapter()
        for k, (name, servo) in enumerate(zip(self.names, list(session.servos), strict=False)):
            figures[f"model_{name}"] = f"{servo.name}, firmware {servo.firmware}"
            figures |= {f"{what}_{name}": value for what, value in session.health.measured(k).items()}
        return figures

    def _joints(self, stamp: int, values: bytes) -> JointState:
        """A reading, from the register `present` of every servo."""
        raise NotImplementedError

    def _power_up(self) -> None:
        """Goals that move nothing, torque on, and all of it confirmed. Raises BusError, UnfitServo."""
        raise NotImplementedError

    def _pack(self, goal: int) -> bytes:
        return self._goal.pack(goal)

    @property
    def _servos(self) -> Sequence[S]:
        """Those with motors."""
        return self.session.servos[: self.map.motors]

    def _begin(self, timeout: int = 0) -> int:
        """Bound the exchanges from now on, and return now [ns]."""
        now = time.monotonic_ns()
        self.session.link.bound(now + (timeout or self._timeout))
        return now

    def _check(self, servos: list[S]) -> None:
        low, high = (self.map.command(limits) for limits in self._limits)
        for wanted, servo, a, b in zip(self._driven, servos, low, high, strict=False):
            self.family.check(self.session.link.serial.path, wanted, servo, (float(a), float(b)))

    def _send_goals(self, goals: list[int]) -> None:
        self.session.link.sync_write(self._goal, dict(zip(self._motors, map(self._pack, goals), strict=True)))

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
