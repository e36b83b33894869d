"""Motor bus of a microcontroller board that speaks our serial protocol (docs/serial_protocol.md, firmware/)."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence

import numpy as np

from robot_wm.buses.framing import Frame
from robot_wm.buses.joint_map import JointMap
from robot_wm.buses.mcu_clock import McuClock
from robot_wm.buses.serial_handshake import no_answer, require_fit
from robot_wm.buses.serial_link import SerialLink
from robot_wm.buses.serial_protocol import BoardHealth, Fields, Flags, Info, State, Type, faults_of
from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S

HELLO_EVERY_S = 0.1
HEALTH_EVERY_S = 1.0
ATTEMPTS = 3  # to switch the power, within the time of one call


class FramedSerialBus:
    """Asks the board for a reading each `read`, which is also its heartbeat; what `write` sends is not answered.

    Args:
        port, baud: of the serial port; `/dev/serial/by-id/...` names a board wherever it is plugged in.
        joints, position_scale, position_offset, effort_scale: see `JointMap`.
        hardware_id: refuse any other board; empty: take any.
        timeout_s: bound of every call but `open`; 0: half a motor period, 20 ms at most.
        open_timeout_s: bound of `open`; some boards restart when their port is opened, and take seconds.
        longest_watchdog_s: refuse a board that goes on longer than this without hearing from us.
    """

    def __init__(
        self,
        contract: Contract,
        port: str,
        baud: int = 1_000_000,
        joints: Sequence[str] | None = None,
        position_scale: Mapping[str, float] | None = None,
        position_offset: Mapping[str, float] | None = None,
        effort_scale: Mapping[str, float] | None = None,
        hardware_id: str = "",
        timeout_s: float = 0.0,
        open_timeout_s: float = 3.0,
        longest_watchdog_s: float = 0.5,
    ) -> None:
        self.map = JointMap(contract, joints, position_scale or {}, position_offset or {}, effort_scale or {})
        self.names = self.map.names
        self.clock = McuClock()
        self.info: Info | None = None
        self.health: BoardHealth | None = None
        self._hardware_id = hardware_id
        self._period_s = 1.0 / contract.motor_hz
        self._timeout_s = timeout_s or min(0.5 * self._period_s, 0.02)
        self._open_timeout_s = open_timeout_s
        self._longest_watchdog_s = longest_watchdog_s
        self._link = SerialLink(port, baud)
        self._powered = False  # what we asked for
        self._state: State | None = None  # the newest
        self._stamp = 0  # its capture [ns]
        self._returned = True  # it has been handed out
        self._sent: dict[int, int] = {}  # requests without an answer: sequence → when [ns]
        self._asked_health = 0

    def open(self) -> None:
        """Connect and begin a session, motors unpowered. Raises BusError when there is no board, or not the contract's."""
        self._powered, self._state, self._returned, self._stamp = False, None, True, 0
        self.info = self.health = None
        self.clock = McuClock()
        self._sent.clear()
        self._link.open(1 + secrets.randbelow(0xFFFF))  # another than before, so that nothing old is taken
        try:
            self._greet()
        except BusError:
            self._link.close("its board was refused or did not answer")
            raise

    def close(self) -> None:
        if self._link.up:
            with contextlib.suppress(BusError):  # the watchdog does it, too
                self.disable()
            self._link.close("it was closed")

    def read(self) -> JointState:
        """The newest reading; one that answers an earlier call when this one's is late, with its own stamp. Raises BusError."""
        began = time.monotonic_ns()
        deadline = began + round(self._timeout_s * NS_PER_S)
        self._receive(0)
        health = began - self._asked_health > HEALTH_EVERY_S * NS_PER_S
        if health:
            self._asked_health = began
        request = self._ask(Type.READ, bytes([health]))
        self._await(request, deadline, health)
        state = self._state
        if state is None or self._returned:
            raise BusError(f"board at {self._link.port} did not answer within {self._timeout_s * 1e3:g} ms")
        self._returned = True
        return self._joints(state)

    def write(self, values: FloatArray) -> None:
        """Send (action,) in the contract's units and order; raises BusError before anything is sent when it is not finite."""
        setpoint = self.map.command(values)
        self._link.send(Type.SETPOINT, self._mcu_now(), setpoint.tobytes())

    def enable(self) -> None:
        self._switch(Type.ENABLE, True)
        self._powered = True

    def disable(self) -> None:
        self._powered = False
        self._switch(Type.DISABLE, False)

    def fault(self) -> str | None:
        if not self._link.up:
            return f"no connection to {self._link.port}: {self._link.lost}"
        foreign = self._link.decoder.foreign
        if foreign is not None and foreign.type == Type.INFO and foreign.session == 0:
            return f"board at {self._link.port} has restarted: it knows no session; open the bus again"
        if self._state is None:
            return None
        texts = self._faults(self._state)
        if self._powered and not self._state.flags & Flags.ENABLED:
            tripped = self._state.flags & Flags.WATCHDOG
            texts.append("its watchdog has cut the motors' power" if tripped else "it has cut the motors' power")
        return f"board at {self._link.port}: {'; '.join(texts)}" if texts else None

    def figures(self) -> dict[str, float | str]:
        """For diagnostics: the link's counters at both ends, clock, voltage and temperatures where reported."""
        link, info, health = self._link, self.info, self.health
        figures: dict[str, float | str] = {
            "port": link.port,
            "bytes_out": link.bytes_out,
            "frames_out": link.frames_out,
            "output_full": link.full,
            **{f"in_{name}": count for name, count in link.decoder.counts.items()},
            "clock_uncertainty_us": self.clock.uncertainty / 1e3,
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
    def sequence(self) -> int:
        """Of the last frame sent; the board tells by it which setpoint it has obeyed."""
        return self._link.sequence

    def read_health(self) -> BoardHealth:
        """Ask now for temperatures, voltage and the board's counters, which `read` asks for once a second. Raises BusError."""
        if self.info is None:
            raise BusError(f"no session with a board at {self._link.port}; open the bus first")
        request = self._ask(Type.READ, b"\1")
        self._await(request, time.monotonic_ns() + round(self._timeout_s * NS_PER_S), True)
        if self.health is None or self.health.request < request:
            raise BusError(f"board at {self._link.port} did not answer within {self._timeout_s * 1e3:g} ms")
        return self.health

    def _greet(self) -> None:
        """Say hello until the board answers, then check that it is the one we expect."""
        end = time.monotonic_ns() + round(self._open_timeout_s * NS_PER_S)
        while self.info is None:
            now = time.monotonic_ns()
            if now >= end or self._link.decoder.foreign_version():
                raise BusError(no_answer(self._link, self._open_timeout_s))
            self._ask(Type.HELLO)
            pause = min(end, now + round(HELLO_EVERY_S * NS_PER_S))
            while self.info is None and time.monotonic_ns() < pause:
                self._receive(pause)
        board = f"board {self.info.hardware_id or 'without an id'} at {self._link.port}"
        if self._hardware_id and self.info.hardware_id != self._hardware_id:
            raise BusError(f"{board} is not the expected {self._hardware_id}")
        require_fit(board, self.info, self.map, 2 * self._period_s, self._longest_watchdog_s)

    def _switch(self, kind: Type, on: bool) -> None:
        """Switch the power and see that it happened."""
        now = time.monotonic_ns()
        wait = round(self._timeout_s * NS_PER_S / ATTEMPTS)
        first = self._link.sequence + 1
        for attempt in range(1, ATTEMPTS + 1):
            self._ask(kind)
            self._await(first, now + attempt * wait)
            if self._state is not None and self._state.request >= first:
                break
        else:
            raise BusError(
                f"board at {self._link.port} did not confirm {kind.name} within {self._timeout_s * 1e3:g} ms"
            )
        state = self._state
        if bool(state.flags & Flags.ENABLED) is not on:
            because = "; ".join(self._faults(state)) or "it gives no reason"
            raise BusError(f"board at {self._link.port} does not obey {kind.name}: {because}")

    def _ask(self, kind: Type, payload: bytes = b"") -> int:
        now = time.monotonic_ns()
        request = self._link.send(kind, self._mcu_now(), payload)
        self._sent[request] = now
        while len(self._sent) > 64:  # never answered
            del self._sent[next(iter(self._sent))]
        return request

    def _await(self, request: int, deadline: int, health: bool = False) -> None:
        """Return when `request` or a later one is answered, or at the deadline [ns]."""
        while (
            self._state is None
            or self._state.request < request
            or (health and (self.health is None or self.health.request < request))
        ):
            if time.monotonic_ns() >= deadline:
                return
            self._receive(deadline)

    def _receive(self, deadline: int) -> None:
        """Take what has come, after a wait until `deadline` [ns] at most."""
        for arrival, frame in self._link.receive(deadline):
            if frame.session == self._link.session:
                self._take(frame, arrival)

    def _take(self, frame: Frame, arrival: int) -> None:
        if frame.type == Type.INFO:
            info = Info.unpack(frame.payload)
            if self.info is None and info.request in self._sent:
                self._link.decoder.follow(frame.session, frame.sequence)
                self.info = info
            self._answered(info.request, frame.time, arrival)
        elif self.info is None:
            return
        elif frame.type == Type.STATE:
            self._take_state(State.unpack(frame.payload, self.info.joints), frame.time, arrival)
        elif frame.type == Type.HEALTH:
            self.health = BoardHealth.unpack(frame.payload, self.info.joints)

    def _take_state(self, state: State, time: int, arrival: int) -> None:
        self._answered(state.request, time, arrival)
        if self._state is None or state.captured != self._state.captured:  # one reading keeps one stamp
            self._stamp = max(self._stamp, min(self.clock.to_host(state.captured), arrival))
        self._state, self._returned = state, False

    def _answered(self, request: int, time: int, arrival: int) -> None:
        sent = self._sent.pop(request, None)
        if sent is not None:
            self.clock.add(sent, time, arrival)

    def _mcu_now(self) -> int:
        return self.clock.to_mcu(time.monotonic_ns())

    def _joints(self, state: State) -> JointState:
        fields = self.info.fields if self.info is not None else Fields(0)
        empty = np.zeros(0)
        return JointState(
            self._stamp,
            self.names,
            self.map.position(state.position) if fields & Fields.POSITION else empty,
            self.map.velocity(state.velocity) if fields & Fields.VELOCITY else empty,
            self.map.effort(state.effort) if fields & Fields.EFFORT else empty,
        )

    def _faults(self, state: State) -> list[str]:
        measured = self.info is not None and self.info.fields & Fields.TEMPERATURE
        return faults_of(state, self.names, self.health.temperature if measured and self.health is not None else None)
