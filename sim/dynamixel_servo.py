"""One emulated Dynamixel X-series servo: its control table and the rules of writing to it.

Source: ROBOTIS e-Manual, XM430-W350, section "Control Table"; errors: "DYNAMIXEL Protocol 2.0", Status Packet.
"""

from __future__ import annotations

import struct

from robot_wm.buses.dynamixel_table import (
    BUS_WATCHDOG,
    CENTRE,
    CURRENT_LIMIT,
    GOAL_CURRENT,
    GOAL_POSITION,
    GOAL_VELOCITY,
    HARDWARE_ERROR,
    LIMITS,
    OPERATING_MODE,
    POSITION_UNIT,
    PRESENT,
    STATUS_RETURN_LEVEL,
    SUPPLY,
    TORQUE_ENABLE,
    VELOCITY_UNIT,
    WATCHDOG_MOST,
    WATCHDOG_TRIPPED,
)
from robot_wm.buses.servo_register import Register
from sim.dynamixel_packets import Error
from sim.servo_table import ServoTable

SIZE = 147
RAM = 64  # below lies the EEPROM, which is locked while the torque is on
SINGLE_TURN = 3  # operating mode: position within the limits
COOL, HOT, VOLTAGE = 35, 95, 120  # [°C], [0.1 V]
OVERHEATING = 1 << 2  # of Hardware Error Status

# Address → size of every register that exists; those in READ_ONLY cannot be written.
SIZES = {
    **dict.fromkeys((6, 7, 8, 9, 10, 11, 12, 13, 31, 63, 64, 65, 68, 69, 70, 98, 122, 123, 146), 1),
    **dict.fromkeys((0, 32, 34, 36, 38, 76, 78, 80, 82, 84, 88, 90, 100, 102, 120, 124, 126, 144), 2),
    **dict.fromkeys((2, 20, 24, 44, 48, 52, 104, 108, 112, 116, 128, 132, 136, 140), 4),
}
READ_ONLY = {0, 2, 6, 69, 70, *(address for address in SIZES if address >= 120)}
EXISTS = {address + k for address, size in SIZES.items() for k in range(size)}
RANGES = {  # values that a register takes at all
    OPERATING_MODE.address: (0, 1, 3, 4, 5, 16),
    TORQUE_ENABLE.address: (0, 1),
    STATUS_RETURN_LEVEL.address: (0, 1, 2),
    BUS_WATCHDOG.address: range(WATCHDOG_MOST + 1),
}
GOALS = {GOAL_CURRENT.address, GOAL_VELOCITY.address, GOAL_POSITION.address}


class EmulatedDynamixel(ServoTable):
    """A servo that is only its table; what moves it is `sim/dynamixel_core.py`."""

    def __init__(self, id_: int, model: int = 1020, firmware: int = 45) -> None:
        super().__init__(SIZE)
        self.id = id_
        self.temperature = COOL
        self._turns = 0  # that Present Position has forgotten
        struct.pack_into("<HIBBB", self.table, 0, model, 0, firmware, id_, 3)
        self.put(OPERATING_MODE, 3)
        self.put(CURRENT_LIMIT, 1193)
        struct.pack_into("<Iii", self.table, LIMITS.address, 350, 4095, 0)
        self.power_cycle()

    @property
    def identity(self) -> bytes:
        """What a ping is answered with: model number and firmware."""
        return bytes(self.table[0:2] + self.table[6:7])

    @property
    def torque(self) -> bool:
        return bool(self.get(TORQUE_ENABLE))

    @property
    def tripped(self) -> bool:
        return self.get(BUS_WATCHDOG) == WATCHDOG_TRIPPED

    @property
    def alert(self) -> int:
        """The error bit that tells of a hardware error."""
        return Error.ALERT if self.get(HARDWARE_ERROR) else 0

    def power_cycle(self) -> None:
        """What lies in RAM is lost; a hardware error is, too, unless its cause still stands."""
        self.table[RAM:] = bytes(SIZE - RAM)
        self.put(STATUS_RETURN_LEVEL, 2)
        self.measure_supply()

    def overheat(self) -> None:
        self.temperature = HOT
        self.measure_supply()

    def cool(self) -> None:
        """The error stays until it is power-cycled."""
        self.temperature = COOL
        self.measure_supply()

    def measure_supply(self) -> None:
        """Voltage and temperature into the table; too hot: a hardware error, and the torque goes (Shutdown (63))."""
        self.put(SUPPLY, VOLTAGE | self.temperature << 16)
        if self.temperature >= HOT:
            self.put(HARDWARE_ERROR, self.get(HARDWARE_ERROR) | OVERHEATING)
            self.put(TORQUE_ENABLE, 0)

    def sense(self, position: float, velocity: float, current: float) -> None:
        """Present values from [rad], [rad/s] and Present Current's units."""
        pulses = round(position / POSITION_UNIT) + CENTRE - self._turns
        raw = struct.pack(
            "<hii",
            min(max(round(current), -(1 << 15)), (1 << 15) - 1),
            _int32(round(velocity / VELOCITY_UNIT)),
            _int32(pulses),
        )
        self.table[PRESENT.address : PRESENT.address + PRESENT.size] = raw

    def goal_position(self) -> float:
        """[rad]"""
        return (self.get(GOAL_POSITION, signed=True) + self._turns - CENTRE) * POSITION_UNIT

    def goal_velocity(self) -> float:
        """[rad/s]"""
        return self.get(GOAL_VELOCITY, signed=True) * VELOCITY_UNIT

    def read(self, address: int, size: int) -> bytes | None:
        """Bytes of the table; None where some do not exist."""
        if size == 0 or not EXISTS.issuperset(range(address, address + size)):
            return None
        return bytes(self.table[address : address + size])

    def write(self, address: int, data: bytes) -> Error:
        """Write registers that follow one another; all or nothing."""
        parts: list[tuple[Register, int]] = []
        while data:
            size = SIZES.get(address, 0)
            if not size:
                return Error.ACCESS
            if len(data) < size:
                return Error.DATA_LENGTH
            register, value = Register(address, size), int.from_bytes(data[:size], "little")
            error = self._refusal(register, value)
            if error:
                return error
            parts.append((register, value))
            address, data = address + size, data[size:]
        for register, value in parts:
            if register.address == TORQUE_ENABLE.address and value and not self.torque:
                self._forget_turns()
            self.put(register, value)
        return Error.NONE

    def _refusal(self, register: Register, value: int) -> Error:
        at = register.address
        if at in READ_ONLY or (at < RAM and self.torque):
            return Error.ACCESS
        if value not in RANGES.get(at, (value,)) or (at in GOALS and self.tripped):
            return Error.DATA_RANGE
        if at == BUS_WATCHDOG.address and self.tripped and value:
            return Error.DATA_RANGE
        if at == TORQUE_ENABLE.address and value and self.get(HARDWARE_ERROR):
            return Error.RESULT_FAIL
        if at in GOALS and not self._within_limits(
            at, value - (1 << 8 * register.size) * (value >> 8 * register.size - 1)
        ):
            return Error.DATA_LIMIT
        return Error.NONE

    def _within_limits(self, address: int, goal: int) -> bool:
        if address == GOAL_CURRENT.address:
            return abs(goal) <= self.get(CURRENT_LIMIT)
        speed, top, bottom = struct.unpack_from("<Iii", self.table, LIMITS.address)
        if address == GOAL_VELOCITY.address:
            return bool(abs(goal) <= speed)
        return self.get(OPERATING_MODE) != SINGLE_TURN or bool(bottom <= goal <= top)

    def _forget_turns(self) -> None:
        """In Position Control Mode the present position is brought into one turn (Present Position (132))."""
        if self.get(OPERATING_MODE) == SINGLE_TURN:
            present = Register(132, 4)
            pulses = self.get(present, signed=True)
            self._turns += pulses - pulses % (2 * CENTRE)
            self.put(present, pulses % (2 * CENTRE))


def _int32(value: int) -> int:
    return min(max(value, -(1 << 31)), (1 << 31) - 1)
