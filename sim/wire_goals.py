"""Goals and power in what a host sends to motors, per protocol: of the motor node's code nothing is used but what a byte means.

Each decoder takes bytes in any pieces and returns what they ask for, in the contract's order and units. Sources:
docs/serial_protocol.md; ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0" and "Control Table" of the X series; Feetech, "Communication
Protocol User Manual" and the memory table of the STS series.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from robot_wm.contract import Contract
from robot_wm.messages import FloatArray
from sim import dynamixel_packets, feetech_packets


@dataclass(frozen=True)
class Goal:
    """What the motors are told to do, `values` (action,) in SI units."""

    values: FloatArray


@dataclass(frozen=True)
class Power:
    """Every motor is told to be on or off."""

    on: bool


Asked = Goal | Power


class Wire(Protocol):
    """A decoder. `quantum` (action,): the step in which goals are told, in SI units."""

    quantum: FloatArray

    def feed(self, data: bytes) -> list[Asked]:
        """Take bytes; return what they ask for, in order."""
        ...


class SerialWire:
    """Our own frames: COBS | version, type, session, sequence, time, payload, CRC-32 | 0."""

    HELLO, SETPOINT, ENABLE, DISABLE = 1, 3, 4, 5
    HEAD = struct.Struct("<BBHII")

    def __init__(self, contract: Contract, options: Mapping[str, Any]) -> None:
        scale = options.get("effort_scale") or {}
        self._scale = np.array([scale.get(name, 1.0) for name in contract.action.names])
        self.quantum = np.array([1e-6 * max(-low, high) for low, high in _ranges(contract)])  # float32
        self._partial = b""

    def feed(self, data: bytes) -> list[Asked]:
        *frames, self._partial = (self._partial + data).split(b"\0")
        asked = [self._read(frame) for frame in frames]
        return [item for item in asked if item is not None]

    def _read(self, encoded: bytes) -> Asked | None:
        body = _without_cobs(encoded)
        if len(body) < self.HEAD.size + 4 or zlib.crc32(body[:-4]) != int.from_bytes(body[-4:], "little"):
            return None
        kind, payload = body[1], body[self.HEAD.size : -4]
        if kind == self.SETPOINT:
            return Goal(np.frombuffer(payload, "<f4").astype(np.float64) * self._scale)
        if kind in (self.ENABLE, self.DISABLE, self.HELLO):
            return Power(kind == self.ENABLE)
        return None


class ServoWire:
    """Sync writes of one goal register and of Torque Enable, to servos with the ids 1, 2, ..."""

    def __init__(self, contract: Contract, options: Mapping[str, Any], goal: int, size: int, torque: int) -> None:
        scale = options.get("effort_scale") or {}
        self._goal, self._size, self._torque = goal, size, torque
        self._count = contract.action.size
        self.quantum = self._unit() * np.array([scale.get(name, 1.0) for name in contract.action.names])
        self._on = [False] * self._count

    def _unit(self) -> float:
        raise NotImplementedError

    def _number(self, raw: bytes) -> float:
        raise NotImplementedError

    def _write(self, address: int, size: int, rows: bytes) -> list[Asked]:
        """A sync write: `rows` of id and `size` bytes each."""
        told = {rows[i]: rows[i + 1 : i + 1 + size] for i in range(0, len(rows) - size, size + 1)}
        if address <= self._torque < address + size:
            for id_ in range(1, self._count + 1):
                if id_ in told:
                    self._on[id_ - 1] = told[id_][self._torque - address] != 0
            return [Power(any(self._on))]
        if not address <= self._goal < address + size or not {*range(1, self._count + 1)} <= told.keys():
            return []
        at = self._goal - address
        raw = [self._number(told[id_][at : at + self._size]) for id_ in range(1, self._count + 1)]
        return [Goal(np.array(raw) * self.quantum)]


class DynamixelWire(ServoWire):
    """Goal Current (102), 2.69 mA of XM430-W350."""

    def __init__(self, contract: Contract, options: Mapping[str, Any]) -> None:
        super().__init__(contract, options, goal=102, size=2, torque=64)
        self._decoder = dynamixel_packets.PacketDecoder()

    def _unit(self) -> float:
        return 2.69e-3

    def _number(self, raw: bytes) -> float:
        return float(int.from_bytes(raw, "little", signed=True))

    def feed(self, data: bytes) -> list[Asked]:
        asked: list[Asked] = []
        for packet in self._decoder.feed(data):
            if packet.instruction == 0x83 and len(packet.parameters) > 4:
                asked += self._write(*struct.unpack_from("<HH", packet.parameters), packet.parameters[4:])
        return asked


class FeetechWire(ServoWire):
    """Goal PWM (44), 0.1 % of full PWM as magnitude and a sign in bit 10."""

    def __init__(self, contract: Contract, options: Mapping[str, Any]) -> None:
        super().__init__(contract, options, goal=44, size=2, torque=40)
        self._decoder = feetech_packets.PacketDecoder()

    def _unit(self) -> float:
        return 1e-3

    def _number(self, raw: bytes) -> float:
        word = int.from_bytes(raw, "little")
        return float((word & 0x3FF) * (-1 if word >> 10 & 1 else 1))

    def feed(self, data: bytes) -> list[Asked]:
        asked: list[Asked] = []
        for packet in self._decoder.feed(data):
            if packet.instruction == 0x83 and len(packet.parameters) > 2:
                asked += self._write(packet.parameters[0], packet.parameters[1], packet.parameters[2:])
        return asked


WIRES = {"serial": SerialWire, "dynamixel": DynamixelWire, "feetech": FeetechWire}


def _ranges(contract: Contract) -> list[tuple[float, float]]:
    return list(zip(contract.action.low, contract.action.high, strict=True))


def _without_cobs(encoded: bytes) -> bytes:
    """Consistent Overhead Byte Stuffing undone; nothing where it is torn."""
    body, at = b"", 0
    while at < len(encoded):
        code = encoded[at]
        if code == 0 or at + code > len(encoded):
            return b""
        body += encoded[at + 1 : at + code]
        at += code
        if code < 0xFF and at < len(encoded):
            body += b"\0"
    return body
