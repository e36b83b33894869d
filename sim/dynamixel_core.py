"""A chain of emulated Dynamixel servos in front of any motor bus.

Bytes in, bytes out: here is no pty and no clock (`sim/pty_emulator.py`).
"""

from __future__ import annotations

import contextlib
import struct
from collections import Counter
from collections.abc import Mapping

import numpy as np

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
from robot_wm.errors import BusError
from robot_wm.messages import JointState
from sim.dynamixel_packets import BROADCAST, Error, Instruction, Packet, PacketDecoder, encode, fast_status
from sim.dynamixel_servo import EmulatedServo

MODEL = 1020  # XM430-W350


class ServoChain:
    """Servos with ids 1, 2, ..., one per joint of `physics`, whose joints with motors come first.

    `servos` may be changed from outside, and ids put into `absent` to unplug them.

    Args:
        mode: of the physics: position, velocity or effort; a servo in another operating mode gives none.
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
        self.physics = physics
        self.servos = [EmulatedServo(k, model, firmware) for k in range(1, len(physics.names) + 1)]
        self.absent: set[int] = set()
        self.counts: Counter[str] = Counter(dict.fromkeys(("goals", "refused", "watchdog", "physics"), 0))
        self._motors = self.servos[:motors]
        self._mode = mode
        unit = MODELS[model].current_unit if model in MODELS else 0.0
        scale = effort_scale or {}
        self._effort = [scale.get(name, 1.0) * (unit or 1.0) for name in physics.names]  # per unit of Goal Current
        self._decoder = PacketDecoder()
        self._heard = 0  # [ns]
        self._powered = False
        self._joints: JointState | None = None

    @property
    def enabled(self) -> bool:
        """Whether any servo has its torque on."""
        return any(servo.torque for servo in self._motors)

    def receive(self, data: bytes, now: int) -> bytes:
        """Take bytes at `now` [ns]; return the answers."""
        answers = []
        for packet in self._decoder.feed(data):
            if packet.instruction == Instruction.STATUS:
                continue
            self._heard = now
            try:
                answers.append(self._obey(packet))
            except BusError:  # nobody answers for physics that is gone
                self.counts["physics"] += 1
        for name, count in self._decoder.counts.items():
            self.counts[name] = count
        return b"".join(answers)

    def tick(self, now: int) -> None:
        """The bus watchdogs; often."""
        late = False
        for servo in self._motors:
            patience = servo.get(BUS_WATCHDOG) * WATCHDOG_UNIT_S * 1e9
            if servo.torque and 0 < patience < now - self._heard and not servo.tripped:
                servo.put(BUS_WATCHDOG, WATCHDOG_TRIPPED)
                self.counts["watchdog"] += 1
                late = True
        if late:
            with contextlib.suppress(BusError):  # physics that is gone moves nothing either
                self._drive()

    def overheat(self, joint: int) -> None:
        """From now on a joint is too hot; its torque goes."""
        self.servos[joint].overheat()
        with contextlib.suppress(BusError):
            self._drive()

    def power_cycle(self, joint: int) -> None:
        """A servo loses its power and gets it back."""
        self.servos[joint].power_cycle()
        self._drive()

    def _obey(self, packet: Packet) -> bytes:
        kind, parameters = packet.instruction, packet.parameters
        if kind in (Instruction.SYNC_READ, Instruction.FAST_SYNC_READ) and len(parameters) > 4:
            address, size = struct.unpack_from("<HH", parameters)
            return self._sync_read(address, size, parameters[4:], kind)
        if kind == Instruction.SYNC_WRITE and len(parameters) > 4:
            address, size = struct.unpack_from("<HH", parameters)
            self._sync_write(address, size, parameters[4:])
            return b""
        addressed = [s for s in self._present() if packet.id in (s.id, BROADCAST)]
        if kind == Instruction.PING:
            return b"".join(self._status(s, Error.NONE, s.identity) for s in addressed)
        return b"".join(self._single(servo, packet) for servo in addressed)

    def _single(self, servo: EmulatedServo, packet: Packet) -> bytes:
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

    def _read(self, servo: EmulatedServo, address: int, size: int) -> bytes | None:
        if address < PRESENT.address + PRESENT.size and address + size > PRESENT.address:
            self._sense()
        return servo.read(address, size)

    def _write(self, servo: EmulatedServo, address: int, data: bytes) -> Error:
        error = servo.write(address, data)
        if error:
            self.counts["refused"] += 1
        elif address == MODES[self._mode][1].address:
            self.counts["goals"] += 1
        return error

    def _present(self) -> list[EmulatedServo]:
        """The servos that are plugged in."""
        return [servo for servo in self.servos if servo.id not in self.absent]

    def _status(self, servo: EmulatedServo, error: int, data: bytes) -> bytes:
        return encode(Packet(servo.id, Instruction.STATUS, bytes([error | servo.alert]) + data))

    def _sense(self) -> None:
        joints = self._joints = self.physics.read()
        if self._powered and self.physics.fault():
            self._powered = False
            for servo in self._motors:
                servo.power_cycle()
        for k, servo in enumerate(self.servos):
            servo.sense(joints.position[k], joints.velocity[k], joints.effort[k] / self._effort[k])

    def _drive(self) -> None:
        """Bring goals and torque to the physics."""
        was, self._powered = self._powered, self.enabled
        if self._powered and not was:
            self.physics.enable()
        if self._powered:
            self.physics.write(np.array([self._goal(k, servo) for k, servo in enumerate(self._motors)]))
        elif was:
            self.physics.disable()

    def _goal(self, joint: int, servo: EmulatedServo) -> float:
        """What a servo does to its joint; one that is off, stopped or in another mode rests where the mode allows it."""
        active = servo.torque and not servo.tripped
        if self._mode == "position":
            active = active and servo.get(OPERATING_MODE) in (3, 4)
            resting = float(self._joints.position[joint]) if self._joints is not None else 0.0
            return servo.goal_position() if active else resting
        if not active or servo.get(OPERATING_MODE) != MODES[self._mode][0]:
            return 0.0
        if self._mode == "velocity":
            return servo.goal_velocity()
        return servo.get(GOAL_CURRENT, signed=True) * self._effort[joint]
