"""A chain of emulated Dynamixel servos: Protocol 2.0, its instructions and the bus watchdog."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from robot_wm.buses.base import MotorBus
from robot_wm.buses.dynamixel_table import (
    BUS_WATCHDOG,
    GOAL_CURRENT,
    MODELS,
    MODES,
    OPERATING_MODE,
    PRESENT,
    STATUS_RETURN_LEVEL,
    WATCHDOG_TRIPPED,
    WATCHDOG_UNIT_S,
)
from sim.dynamixel_packets import BROADCAST, Error, Instruction, Packet, PacketDecoder, encode, fast_status
from sim.dynamixel_servo import EmulatedDynamixel
from sim.servo_chain import ServoChain, efforts

MODEL = 1020  # XM430-W350


class DynamixelChain(ServoChain[EmulatedDynamixel]):
    """See `ServoChain`; the ids are 1, 2, ...

    Args:
        effort_scale: effort of the physics per ampere, by joint; absent: 1.
    """

    def __init__(
        self,
        physics: MotorBus,
        motors: int,
        mode: str,
        effort_scale: Mapping[str, float] | None = None,
        model: int = MODEL,
        firmware: int = 45,
    ) -> None:
        servos = [EmulatedDynamixel(k, model, firmware) for k in range(1, len(physics.names) + 1)]
        unit = MODELS[model].current_unit if model in MODELS else 0.0
        effort = efforts(physics.names, effort_scale, unit or 1.0)  # per unit of Goal Current
        super().__init__(physics, servos, motors, mode, effort, PacketDecoder())
        self.counts["watchdog"] = 0
        self._heard = 0  # [ns]

    @property
    def driven(self) -> bool:
        """Whether a goal reaches a motor; a servo whose watchdog has tripped obeys none."""
        return any(servo.torque and not servo.tripped for servo in self._motors)

    def tick(self, now: int) -> None:
        """The bus watchdogs."""
        late = False
        for servo in self._motors:
            patience = servo.get(BUS_WATCHDOG) * WATCHDOG_UNIT_S * 1e9
            if servo.torque and 0 < patience < now - self._heard and not servo.tripped:
                servo.put(BUS_WATCHDOG, WATCHDOG_TRIPPED)
                self.counts["watchdog"] += 1
                late = True
        if late:
            self._drive_if_there()

    def _obey(self, packet: Packet) -> bytes:
        kind, parameters = packet.instruction, packet.parameters
        if kind == Instruction.STATUS:
            return b""
        self._heard = self._now
        if kind in (Instruction.SYNC_READ, Instruction.FAST_SYNC_READ) and len(parameters) > 4:
            address, size = struct.unpack_from("<HH", parameters)
            return self._sync_read(address, size, parameters[4:], kind)
        if kind == Instruction.SYNC_WRITE and len(parameters) > 4:
            address, size = struct.unpack_from("<HH", parameters)
            self._sync_write(address, size, parameters[4:])
            return b""
        addressed = self._addressed(packet.id, BROADCAST)
        if kind == Instruction.PING:
            return b"".join(self._status(s, Error.NONE, s.identity) for s in addressed)
        return b"".join(self._single(servo, packet) for servo in addressed)

    def _single(self, servo: EmulatedDynamixel, packet: Packet) -> bytes:
        """An instruction to one servo; one to all is not answered."""
        kind, parameters, data = packet.instruction, packet.parameters, b""
        level, error = 2, Error.NONE
        if kind == Instruction.READ and len(parameters) == 4:
            level = 1
            found = self._read(servo, *struct.unpack("<HH", parameters))
            data, error = (found, error) if found is not None else (b"", Error.ACCESS)
        elif kind == Instruction.WRITE and len(parameters) > 2:
            error = self._write(servo, int.from_bytes(parameters[:2], "little"), parameters[2:])
            self._drive()
        elif kind == Instruction.REBOOT:
            self.power_cycle(self.servos.index(servo))
        else:
            error = Error.INSTRUCTION
        if packet.id == BROADCAST or servo.get(STATUS_RETURN_LEVEL) < level:
            return b""
        return self._status(servo, error, data)

    def _sync_read(self, address: int, size: int, ids: bytes, kind: int) -> bytes:
        present = {servo.id: servo for servo in self._present()}
        answers, blocks = b"", []
        for id_ in ids:
            servo = present.get(id_)
            if servo is None or servo.get(STATUS_RETURN_LEVEL) == 0:
                if kind == Instruction.FAST_SYNC_READ:
                    break  # each waits for the one before it
                continue
            data = self._read(servo, address, size)
            if kind == Instruction.SYNC_READ:
                answers += self._status(servo, Error.ACCESS if data is None else Error.NONE, data or b"")
            elif data is not None:
                blocks.append(bytes([servo.alert, id_]) + data)
        return answers + fast_status(blocks, len(ids))

    def _sync_write(self, address: int, size: int, data: bytes) -> None:
        present = {servo.id: servo for servo in self._present()}
        for at in range(0, len(data) - size, size + 1):
            if data[at] in present:
                self._write(present[data[at]], address, data[at + 1 : at + 1 + size])
        self._drive()

    def _read(self, servo: EmulatedDynamixel, address: int, size: int) -> bytes | None:
        if address < PRESENT.address + PRESENT.size and address + size > PRESENT.address:
            self._sense()
        return servo.read(address, size)

    def _write(self, servo: EmulatedDynamixel, address: int, data: bytes) -> Error:
        error = servo.write(address, data)
        if error:
            self.counts["refused"] += 1
        elif address == MODES[self._mode][1].address:
            self.counts["goals"] += 1
        return error

    def _status(self, servo: EmulatedDynamixel, error: int, data: bytes) -> bytes:
        return encode(Packet(servo.id, Instruction.STATUS, bytes([error | servo.alert]) + data))

    def _goal(self, joint: int, servo: EmulatedDynamixel, resting: float) -> float:
        active = servo.torque and not servo.tripped
        if self._mode == "position":
            return servo.goal_position() if active and servo.get(OPERATING_MODE) in (3, 4) else resting
        if not active or servo.get(OPERATING_MODE) != MODES[self._mode][0]:
            return resting
        if self._mode == "velocity":
            return servo.goal_velocity()
        return servo.get(GOAL_CURRENT, signed=True) * self._effort[joint]
