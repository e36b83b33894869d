"""Motor bus of a microcontroller board that speaks our serial protocol (docs/serial_protocol.md, firmware/)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

import numpy as np

from robot_wm.buses.calibrated import scaled_with_zeros
from robot_wm.buses.joint_map import JointMap
from robot_wm.buses.serial_handshake import require_fit
from robot_wm.buses.serial_link import SerialLink
from robot_wm.buses.serial_protocol import BoardHealth, Fields, Flags, Info, State, Type, faults_of
from robot_wm.buses.serial_session import Session
from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S

HEALTH_EVERY = NS_PER_S  # [ns]
ATTEMPTS = 3  # to switch the power
ENABLE_PATIENCE = NS_PER_S // 30  # [ns] of an attempt to switch it on


class FramedSerialBus:
    """Asks the board for a reading each `read`, which is also its heartbeat; what `write` sends is not answered.

    A port that is gone, a board that restarted or fell silent is a fault. `read` then tries to come back, a step per call and
    never waiting; the new session is unpowered, and the fault stands until `disable` has been called.

    Args:
        port, baud: of the serial port; `/dev/serial/by-id/...` names a board wherever it is plugged in.
        joints, position_scale, position_offset, effort_scale, position_wrap: see `JointMap`.
        hardware_id: refuse any other board; empty: take any.
        timeout_s: bound of every call but `open`; 0: half a motor period, 20 ms at most. `enable` takes 0.1 s at most: nothing
            moves yet, and an answer that is late must not be an e-stop.
        open_timeout_s: bound of `open`; some boards restart when their port is opened, and take seconds.
        longest_watchdog_s: refuse a board that goes on longer than this without hearing from us.
    """

    with_zeros = staticmethod(scaled_with_zeros)

    def __init__(
        self,
        contract: Contract,
        port: str,
        baud: int = 1_000_000,
        joints: Sequence[str] | None = None,
        position_scale: Mapping[str, float] | None = None,
        position_offset: Mapping[str, float] | None = None,
        effort_scale: Mapping[str, float] | None = None,
        position_wrap: Mapping[str, Sequence[float]] | None = None,
        hardware_id: str = "",
        timeout_s: float = 0.0,
        open_timeout_s: float = 3.0,
        longest_watchdog_s: float = 0.5,
    ) -> None:
        self.map = JointMap(
            contract,
            joints,
            position_scale or {},
            position_offset or {},
            effort_scale or {},
            position_wrap=position_wrap,
        )
        self.names = self.map.names
        self.session = Session(SerialLink(port, baud), self._check)
        self._hardware_id = hardware_id
        self._period_s = 1.0 / contract.motor_hz
        self._timeout_s = timeout_s or min(0.5 * self._period_s, 0.02)
        self._open_timeout_s = open_timeout_s
        self._longest_watchdog_s = longest_watchdog_s
        self._powered = False  # what we asked for
        self._asked_health = 0  # [ns]

    @property
    def sequence(self) -> int:
        """Of the last frame sent; the board tells by it which setpoint it has obeyed."""
        return self.session.link.sequence

    def open(self) -> None:
        self._powered = False
        self.session.open(self._open_timeout_s)

    def close(self) -> None:
        if self.session.up:
            with contextlib.suppress(BusError):  # the watchdog does it, too
                self.disable()
        self._powered = False
        self.session.close()

    def read(self) -> JointState:
        """The newest reading; one that answers an earlier call when this one's is late, with its own stamp. Raises BusError."""
        session = self.session
        session.renew()
        now = time.monotonic_ns()
        session.receive(0)
        health = now - self._asked_health > HEALTH_EVERY
        if health:
            self._asked_health = now
        request = session.ask(Type.READ, bytes([health]))
        session.wait(request, now + self._timeout, health)
        if session.state is None or not session.news:
            raise BusError(self._silent())
        session.news = False
        return self._joints(session.state)

    def read_health(self) -> BoardHealth:
        """Ask now for temperatures, voltage and the board's counters, which `read` asks for once a second. Raises BusError."""
        self.session.renew()
        request = self.session.ask(Type.READ, b"\1")
        if not self.session.wait(request, time.monotonic_ns() + self._timeout, True) or self.session.health is None:
            raise BusError(self._silent())
        return self.session.health

    def write(self, values: FloatArray) -> None:
        """Send (action,) in the contract's units and order; raises BusError before anything is sent when it is not finite."""
        setpoint = self.map.command(values)
        if not self.session.up:
            raise BusError(self.session.lost())
        self.session.tell(Type.SETPOINT, setpoint.tobytes())

    def enable(self) -> None:
        self._switch(Type.ENABLE, True, max(self._timeout, ENABLE_PATIENCE))
        self._powered = True

    def disable(self) -> None:
        self._switch(Type.DISABLE, False, self._timeout // ATTEMPTS)
        self._powered = False

    def fault(self) -> str | None:
        session = self.session
        if not session.up:
            return session.lost()
        texts = self._faults(session.state) if session.state is not None else []
        flags = session.state.flags if session.state is not None else Flags(0)
        if self._powered and not flags & Flags.ENABLED:
            cut = (
                "its watchdog has cut the motors' power"
                if flags & Flags.WATCHDOG
                else "the motors have lost their power"
            )
            texts.append(cut)
        return f"board at {session.link.path}: {'; '.join(texts)}" if texts else None

    def figures(self) -> dict[str, float | str]:
        """For diagnostics: the link's counters at both ends, clock, voltage and temperatures where reported."""
        session, link = self.session, self.session.link
        info, health = session.info, session.health
        figures: dict[str, float | str] = {
            "port": link.path,
            "bytes_out": link.bytes_out,
            "frames_out": link.frames_out,
            "output_full": link.full,
            **{f"in_{name}": count for name, count in link.decoder.counts.items()},
            "clock_uncertainty_us": session.clock.uncertainty / 1e3,
        }
        if info is not None:
            figures["hardware_id"] = info.hardware_id
        if info is not None and health is not None:
            figures |= {f"board_{name}": count for name, count in health.counters.items()}
            if info.fields & Fields.VOLTAGE:
                figures["voltage"] = health.voltage
            if info.fields & Fields.TEMPERATURE:
                figures |= {f"temperature_{n}": float(t) for n, t in zip(self.names, health.temperature, strict=True)}
        return figures

    @property
    def _timeout(self) -> int:
        return round(self._timeout_s * NS_PER_S)

    def _silent(self) -> str:
        return f"board at {self.session.link.path} did not answer within {self._timeout_s * 1e3:g} ms"

    def _check(self, info: Info) -> None:
        board = f"board {info.hardware_id or 'without an id'} at {self.session.link.path}"
        if self._hardware_id and info.hardware_id != self._hardware_id:
            raise BusError(f"{board} is not the expected {self._hardware_id}")
        require_fit(board, info, self.map, 2 * self._period_s, self._longest_watchdog_s)

    def _switch(self, kind: Type, on: bool, patience: int) -> None:
        """Switch the power and see that it happened; `patience` [ns] of each attempt."""
        session = self.session
        if not session.up:
            raise BusError(session.lost())
        now, first = time.monotonic_ns(), session.link.sequence + 1
        for attempt in range(1, ATTEMPTS + 1):
            session.ask(kind)
            if session.wait(first, now + attempt * patience) or not session.up:
                break
        state = session.state
        if state is None or state.request < first:
            waited = ATTEMPTS * patience / 1e6
            raise BusError(f"board at {session.link.path} did not confirm {kind.name} within {waited:g} ms")
        if bool(state.flags & Flags.ENABLED) is not on:
            because = "; ".join(self._faults(state)) or "it gives no reason"
            raise BusError(f"board at {session.link.path} does not obey {kind.name}: {because}")

    def _joints(self, state: State) -> JointState:
        fields = self.session.info.fields if self.session.info is not None else Fields(0)
        empty = np.zeros(0)
        return JointState(
            self.session.stamp,
            self.names,
            self.map.position(state.position) if fields & Fields.POSITION else empty,
            self.map.velocity(state.velocity) if fields & Fields.VELOCITY else empty,
            self.map.effort(state.effort) if fields & Fields.EFFORT else empty,
        )

    def _faults(self, state: State) -> list[str]:
        info, health = self.session.info, self.session.health
        measured = info is not None and info.fields & Fields.TEMPERATURE
        return faults_of(state, self.names, health.temperature if measured and health is not None else None)
