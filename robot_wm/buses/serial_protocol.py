"""What the frames of our serial protocol carry: types, payloads, and the words for faults (docs/serial_protocol.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np

from robot_wm.errors import BusError
from robot_wm.messages import FloatArray

MODES = ("position", "velocity", "effort")
MAX_JOINTS = 15

INFO = struct.Struct("<IBBBBHH16s")  # request, joints, motors, mode, fields, watchdog [ms], 0, hardware id
STATE = struct.Struct("<IIIHH")  # request, executed, captured [us], flags, board faults
COUNTERS = (  # of a HEALTH frame, u32 each, since the board was switched on
    "bytes",
    "frames",
    "crc",
    "framing",
    "length",
    "version",
    "session",
    "lost",
    "duplicate",
    "stale",
    "late",
    "refused",
    "executed",
    "watchdog",
)
HEALTH = struct.Struct(f"<If{len(COUNTERS)}I")  # request, voltage [V], counters


class Type(IntEnum):
    """The first group goes to the board, the second comes from it."""

    HELLO = 0x01  # begins a session, unpowered; answered by INFO
    READ = 0x02  # payload u8: 0, or 1 for HEALTH as well; answered by STATE; heartbeat
    SETPOINT = 0x03  # payload float32 per motor; not answered; heartbeat
    ENABLE = 0x04  # answered by STATE
    DISABLE = 0x05  # answered by STATE

    INFO = 0x81
    STATE = 0x82
    HEALTH = 0x83


class Fields(IntFlag):
    """What a board measures."""

    POSITION = 1
    VELOCITY = 2
    EFFORT = 4
    TEMPERATURE = 8
    VOLTAGE = 16


class Flags(IntFlag):
    """Of a STATE."""

    ENABLED = 1  # the motors are powered
    WATCHDOG = 2  # the watchdog has cut the power since the last ENABLE


JOINT_FAULTS = ("over-temperature", "over-current", "encoder", "driver", "stalled", "position limit", "no answer")
BOARD_FAULTS = ("emergency stop", "under-voltage", "over-voltage", "over-temperature", "internal error")


@dataclass(frozen=True)
class Info:
    """What a board says of itself."""

    request: int
    joints: int
    motors: int  # the first joints are those with motors
    mode: int  # index into MODES
    fields: Fields
    watchdog_ms: int
    hardware_id: str

    def pack(self) -> bytes:
        name = self.hardware_id.encode("ascii", "replace")[:16]
        return INFO.pack(self.request, self.joints, self.motors, self.mode, self.fields, self.watchdog_ms, 0, name)

    @classmethod
    def unpack(cls, payload: bytes) -> Info:
        """Raises BusError when it is none."""
        if len(payload) != INFO.size:
            raise BusError(f"an INFO frame carries {len(payload)} bytes, not {INFO.size}")
        request, joints, motors, mode, fields, watchdog, _, name = INFO.unpack(payload)
        return cls(
            request, joints, motors, mode, Fields(fields), watchdog, name.rstrip(b"\0").decode("ascii", "replace")
        )


@dataclass(frozen=True)
class State:
    """One reading in the board's joint order and units; arrays are (joints,)."""

    request: int
    executed: int  # sequence of the last setpoint that reached the motors; 0: none in this session
    captured: int  # microcontroller time of the reading [us, modulo 2^32]
    flags: Flags
    board_faults: int
    position: FloatArray
    velocity: FloatArray
    effort: FloatArray
    faults: tuple[int, ...]  # per joint

    def pack(self) -> bytes:
        values = np.concatenate([self.position, self.velocity, self.effort]).astype("<f4").tobytes()
        head = STATE.pack(self.request, self.executed, self.captured, self.flags, self.board_faults)
        return head + values + struct.pack(f"<{len(self.faults)}H", *self.faults)

    @classmethod
    def unpack(cls, payload: bytes, joints: int) -> State:
        """Raises BusError when it is none of so many joints."""
        if len(payload) != state_size(joints):
            raise BusError(f"a STATE frame carries {len(payload)} bytes, not {state_size(joints)} for {joints} joints")
        request, executed, captured, flags, board_faults = STATE.unpack_from(payload)
        values = np.frombuffer(payload, "<f4", 3 * joints, STATE.size).astype(np.float64).reshape(3, joints)
        faults = struct.unpack_from(f"<{joints}H", payload, STATE.size + 12 * joints)
        return cls(request, executed, captured, Flags(flags), board_faults, values[0], values[1], values[2], faults)


@dataclass(frozen=True)
class BoardHealth:
    """What a board reports now and then."""

    request: int
    voltage: float  # [V]
    counters: dict[str, int]
    temperature: FloatArray  # (joints,) [°C]

    def pack(self) -> bytes:
        head = HEALTH.pack(self.request, self.voltage, *(self.counters[name] & 0xFFFFFFFF for name in COUNTERS))
        return head + self.temperature.astype("<f4").tobytes()

    @classmethod
    def unpack(cls, payload: bytes, joints: int) -> BoardHealth:
        """Raises BusError when it is none of so many joints."""
        if len(payload) != HEALTH.size + 4 * joints:
            raise BusError(f"a HEALTH frame carries {len(payload)} bytes, not {HEALTH.size + 4 * joints}")
        request, voltage, *counters = HEALTH.unpack_from(payload)
        temperature = np.frombuffer(payload, "<f4", joints, HEALTH.size).astype(np.float64)
        return cls(request, voltage, dict(zip(COUNTERS, counters, strict=True)), temperature)


def state_size(joints: int) -> int:
    """Bytes of a STATE's payload."""
    return STATE.size + 14 * joints


def fault_words(word: int, names: tuple[str, ...]) -> str:
    """Text of a fault word: the names of its bits, or nothing."""
    bits = [i for i in range(16) if word >> i & 1]
    return ", ".join(names[i] if i < len(names) else f"fault bit {i}" for i in bits)


def faults_of(state: State, names: tuple[str, ...], temperature: FloatArray | None) -> list[str]:
    """One text for the board and one per faulty joint; `temperature` (joints,) [°C] where it is measured."""
    texts = [fault_words(state.board_faults, BOARD_FAULTS)] if state.board_faults else []
    for i, (name, word) in enumerate(zip(names, state.faults, strict=True)):
        if word:
            at = "" if temperature is None else f" at {temperature[i]:.0f} °C"
            texts.append(f"{name}: {fault_words(word, JOINT_FAULTS)}{at}")
    return texts
