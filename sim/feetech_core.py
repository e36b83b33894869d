"""A chain of emulated Feetech servos: their packets and instructions. They have no watchdog."""

from __future__ import annotations

from collections.abc import Mapping

from robot_wm.buses.base import MotorBus
from robot_wm.buses.feetech_table import LOAD_UNIT, MANY_TURNS, MODES, OPERATING_MODE, PHASE, PRESENT, SUPPLY
from sim.feetech_packets import BROADCAST, Instruction, Packet, PacketDecoder, encode
from sim.feetech_servo import MODEL, EmulatedFeetech
from sim.servo_chain import ServoChain, efforts

SILENCE = 5_000_000  # [ns] after which a packet that does not go on is given up


class FeetechChain(ServoChain[EmulatedFeetech]):
    """See `ServoChain`; the ids are 1, 2, ...

    Args:
        effort_scale: effort of the physics at full PWM, by joint; absent: 1.
    """

    def __init__(
        self,
        physics: MotorBus,
        motors: int,
        mode: str,
        effort_scale: Mapping[str, float] | None = None,
        model: int = MODEL,
    ) -> None:
        servos = [EmulatedFeetech(k, model) for k in range(1, len(physics.names) + 1)]
        for servo in servos:
            if mode != "position":  # where goals end with the turn
                servo.save(PHASE, servo.get(PHASE) | MANY_TURNS)
        self._packets = PacketDecoder()
        super().__init__(physics, servos, motors, mode, efforts(physics.names, effort_scale, LOAD_UNIT), self._packets)

    def tick(self, now: int) -> None:
        """Give up a packet that does not go on."""
        if now - self._now > SILENCE:
            self._packets.forget()

    def _obey(self, packet: Packet) -> bytes:
        kind, parameters = packet.instruction, packet.parameters
        if kind == Instruction.SYNC_READ and packet.id == BROADCAST and len(parameters) > 2:
            present = {servo.id: servo for servo in self._present()}
            asked = [present[id_] for id_ in parameters[2:] if id_ in present]
            return b"".join(self._answer(servo, parameters[0], parameters[1]) for servo in asked)
        if kind == Instruction.SYNC_WRITE and packet.id == BROADCAST and len(parameters) > 2:
            self._sync_write(parameters[0], parameters[1], parameters[2:])
            return b""
        addressed = self._addressed(packet.id, BROADCAST)
        if kind == Instruction.PING:
            return b"".join(map(self._answer, addressed))
        if kind == Instruction.READ and len(parameters) == 2 and packet.id != BROADCAST:
            return b"".join(self._answer(servo, *parameters) for servo in addressed)
        if kind == Instruction.WRITE and len(parameters) > 1:
            for servo in addressed:
                self._write(servo, parameters[0], parameters[1:])
            self._drive()
            return b"" if packet.id == BROADCAST else b"".join(map(self._answer, addressed))
        return b""

    def _answer(self, servo: EmulatedFeetech, address: int = 0, size: int = 0) -> bytes:
        """An answer with bytes of the table, or with none."""
        if PRESENT.address - size < address < SUPPLY.address + SUPPLY.size and size:
            self._sense()
        return encode(Packet(servo.id, servo.status, servo.read(address, size)))

    def _sync_write(self, address: int, size: int, data: bytes) -> None:
        present = {servo.id: servo for servo in self._present()}
        for at in range(0, len(data) - size, size + 1):
            if data[at] in present:
                self._write(present[data[at]], address, data[at + 1 : at + 1 + size])
        self._drive()

    def _write(self, servo: EmulatedFeetech, address: int, data: bytes) -> None:
        if not servo.write(address, data):
            self.counts["refused"] += 1
        elif address == MODES[self._mode][1].address:
            self.counts["goals"] += 1

    def _goal(self, joint: int, servo: EmulatedFeetech, resting: float) -> float:
        if not servo.torque or servo.get(OPERATING_MODE) != MODES[self._mode][0]:
            return resting
        if self._mode == "position":
            return servo.goal_position()
        return servo.goal_velocity() if self._mode == "velocity" else servo.goal_pwm() * self._effort[joint]
