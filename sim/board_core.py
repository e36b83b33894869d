"""The board's side of our serial protocol in Python, in front of any motor bus; the same rules as firmware/rwm_board.c.

Bytes in, bytes out: here is no pty and no clock (`sim/pty_emulator.py`).
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import replace

import numpy as np

from robot_wm.buses.base import MotorBus
from robot_wm.buses.framing import MASK, VERSION, Decoder, Frame, ahead, encode
from robot_wm.buses.serial_protocol import COUNTERS, MODES, BoardHealth, Fields, Flags, Info, State, Type
from robot_wm.errors import BusError
from robot_wm.messages import JointState
from robot_wm.timebase import NS_PER_S

INTERNAL_ERROR = 1 << 4  # board fault: the physics behind it does not answer
OVER_TEMPERATURE = 1 << 0  # joint fault
MEASURED = Fields.POSITION | Fields.VELOCITY | Fields.EFFORT | Fields.TEMPERATURE | Fields.VOLTAGE
COOL, HOT, VOLTAGE = 25.0, 95.0, 24.0  # [°C], [V]
PATIENCE = (
    NS_PER_S  # [ns] physics may be silent: a loaded machine is no broken board, and old readings carry their old stamp
)


class Board:
    """One board; `faults` and `board_faults` may be set from outside.

    Args:
        physics: its joints with motors come first, in the order of its setpoints.
        mode: position, velocity or effort.
        clock_start: microcontroller time [us] at host time 0; `clock_rate` its seconds per second.
    """

    def __init__(
        self,
        physics: MotorBus,
        motors: int,
        mode: str,
        watchdog_ms: int = 100,
        hardware_id: str = "emulator",
        version: int = VERSION,
        clock_start: int = 0,
        clock_rate: float = 1.0,
    ) -> None:
        self.physics = physics
        self.info = Info(0, len(physics.names), motors, MODES.index(mode), MEASURED, watchdog_ms, hardware_id)
        self.version = version
        self.enabled = False
        self.tripped = False
        self.session = 0
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.faults = [0] * len(physics.names)
        self.board_faults = 0
        self._clock_start, self._clock_rate = clock_start, clock_rate
        self._decoder = Decoder()
        self._last = 0  # sequence of the newest frame of the session
        self._executed = 0
        self._sent = 0
        self._heard = 0  # [ns]
        self._joints: JointState | None = None
        self._sensed = -PATIENCE  # when physics last answered [ns]
        self._unsound_until = 0  # [ns]

    @property
    def driven(self) -> bool:
        """Whether a setpoint reaches a motor."""
        return self.enabled

    def time(self, stamp: int) -> int:
        """Microcontroller time [us, mod 2^32] at host time `stamp` [ns]."""
        return (self._clock_start + int(stamp * self._clock_rate) // 1000) & MASK

    def receive(self, data: bytes, now: int) -> bytes:
        """Take bytes at `now` [ns]; return the answers."""
        before = self._decoder.counts.copy()
        frames = self._decoder.feed(data)
        for reason in ("bytes", "crc", "framing", "length", "version"):
            self.counts[reason] += self._decoder.counts[reason] - before[reason]
        foreign, self._decoder.foreign = self._decoder.foreign, None
        answer = b""
        if foreign is not None and foreign.type == Type.HELLO:
            answer = self._info(foreign.sequence, now)
        return answer + b"".join(self._take(frame, now) for frame in frames)

    def tick(self, now: int) -> None:
        """The watchdog, and motors off on a fault; often."""
        if not self.enabled:
            return
        if now - self._heard > self.info.watchdog_ms * 1_000_000:
            self.tripped = True
            self.counts["watchdog"] += 1
            self._power(False)
        elif self.board_faults or any(self.faults):
            self._power(False)

    def overheat(self, joint: int) -> None:
        """From now on a joint is too hot; `cool` ends it."""
        self.faults[joint] |= OVER_TEMPERATURE

    def cool(self, joint: int = 0) -> None:
        """The joint is cool again."""
        self.faults[joint] &= ~OVER_TEMPERATURE

    def step_clock(self, seconds: float) -> None:
        """Its clock jumps."""
        self._clock_start += round(seconds * 1e6)

    def read_nan(self, until: int) -> None:
        """Until then [ns] every position it measures is NaN."""
        self._unsound_until = until

    def _take(self, frame: Frame, now: int) -> bytes:
        hello = frame.type == Type.HELLO
        if hello and frame.session not in (0, self.session):
            self.counts["lost"] += frame.sequence - 1
            return self._greet(frame, now)
        if frame.session != self.session or self.session == 0:
            self.counts["session"] += 1
            return self._info(frame.sequence, now) if self.session == 0 else b""
        step = ahead(frame.sequence, self._last)
        if step <= 0:
            self.counts["duplicate" if step == 0 else "stale"] += 1
            return b""
        self.counts["lost"] += step - 1
        if hello:
            return self._greet(frame, now)
        self._last = frame.sequence
        self.counts["frames"] += 1
        return self._obey(frame, now)

    def _greet(self, frame: Frame, now: int) -> bytes:
        self._power(False)
        self.tripped = False
        self.session, self._last, self._executed, self._heard = frame.session, frame.sequence, 0, now
        self.counts["frames"] += 1
        return self._info(frame.sequence, now)

    def _obey(self, frame: Frame, now: int) -> bytes:
        age = ahead(self.time(now), frame.time)
        if abs(age) > self.info.watchdog_ms * 1000 and frame.type != Type.DISABLE:
            self.counts["late"] += 1
            return b""
        if frame.type == Type.SETPOINT:
            self._setpoint(frame, now)
            return b""
        size = 1 if frame.type == Type.READ else 0
        if frame.type not in (Type.READ, Type.ENABLE, Type.DISABLE) or len(frame.payload) != size:
            self.counts["refused"] += 1
            return b""
        self._heard = now
        self._sense(now)
        if frame.type == Type.ENABLE and (self.board_faults or any(self.faults)):
            self.counts["refused"] += 1
        elif frame.type == Type.ENABLE:
            self.tripped = False
            self._power(True)
        elif frame.type == Type.DISABLE:
            self._power(False)
        answer = self._frame(Type.STATE, self._state(frame.sequence), now)
        if frame.payload == b"\1":
            temperature = np.array([HOT if word & OVER_TEMPERATURE else COOL for word in self.faults])
            health = BoardHealth(frame.sequence, VOLTAGE, dict(self.counts), temperature)
            answer += self._frame(Type.HEALTH, health.pack(), now)
        return answer

    def _setpoint(self, frame: Frame, now: int) -> None:
        motors = self.info.motors
        values = np.frombuffer(frame.payload, "<f4") if len(frame.payload) == 4 * motors else np.full(1, np.nan)
        if not self.enabled or not np.isfinite(values).all():
            self.counts["refused"] += 1
            return
        self._heard, self._executed = now, frame.sequence
        self.counts["executed"] += 1
        try:
            self.physics.write(values.astype(np.float64))
        except BusError:
            self.board_faults |= INTERNAL_ERROR

    def _sense(self, now: int) -> None:
        """Read physics; while it is late the last reading stands."""
        try:
            self._joints = self.physics.read()
            if now < self._unsound_until:
                self._joints = replace(self._joints, position=np.full(len(self.faults), np.nan))
        except BusError:
            self.counts["physics_late"] += 1
            if self._joints is None or now - self._sensed > PATIENCE:
                self.board_faults |= INTERNAL_ERROR
        else:
            self._sensed = now
            self.board_faults &= ~INTERNAL_ERROR
            if self.physics.fault():
                self.board_faults |= INTERNAL_ERROR

    def _state(self, request: int) -> bytes:
        zero = np.zeros(self.info.joints)
        joints = self._joints or JointState(0, self.physics.names, zero, zero, zero)
        flags = Flags.ENABLED * self.enabled | Flags.WATCHDOG * self.tripped
        state = State(
            request,
            self._executed,
            self.time(joints.stamp),
            Flags(flags),
            self.board_faults,
            joints.position,
            joints.velocity,
            joints.effort,
            tuple(self.faults),
        )
        return state.pack()

    def _power(self, on: bool) -> None:
        try:
            if on and not self.enabled:
                self.physics.enable()
            elif not on:
                self.physics.disable()
        except BusError:
            self.board_faults |= INTERNAL_ERROR
            on = False
        self.enabled = on

    def _info(self, request: int, now: int) -> bytes:
        return self._frame(Type.INFO, struct.pack("<I", request) + self.info.pack()[4:], now)

    def _frame(self, kind: Type, payload: bytes, now: int) -> bytes:
        self._sent += 1
        return encode(Frame(kind, self.session, self._sent, self.time(now), payload, self.version))
