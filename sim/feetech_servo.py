"""One emulated Feetech STS servo: its memory table and what it does about writes. Source: memory table, see `feetech_table.py`."""

from __future__ import annotations

import struct

from robot_wm.buses.feetech_table import (
    CENTRE,
    COARSE,
    FINE_SPEED,
    FULL_PWM,
    GOAL_POSITION,
    GOAL_PWM,
    GOAL_SPEED,
    IDENTITY,
    LOAD_SIGN,
    LOCK,
    MANY_TURNS,
    OPERATING_MODE,
    PHASE,
    POSITION_LIMITS,
    PRESENT,
    RESOLUTION,
    SIGN,
    SPEED_LIMIT,
    STEP,
    STEPS,
    SUPPLY,
    TORQUE_ENABLE,
    TORQUE_LIMIT,
    ZERO_IS_FULL,
    pack_signed,
    signed,
)
from robot_wm.buses.servo_register import Register
from sim.servo_table import ServoTable

SIZE = 87
RAM = 40  # below lies the EEPROM
READ_ONLY = {*range(5), *range(56, SIZE)}
MODEL = 777  # STS3215
COOL, HOT, VOLTAGE = 35, 85, 74  # [°C], [0.1 V]
OVERHEATING = 1 << 2  # of Status
MAX_TORQUE = Register(16, 2)  # becomes Torque Limit with the power
MAX_TEMPERATURE = Register(13, 1)


class EmulatedFeetech(ServoTable):
    """A servo that is only its table; what moves it is `sim/feetech_core.py`."""

    def __init__(self, id_: int, model: int = MODEL) -> None:
        super().__init__(SIZE)
        self.id = id_
        self.temperature = COOL
        self._turns = 0  # [step] that Present Position leaves out
        struct.pack_into("<BBBH", self.table, IDENTITY.address, 3, 10, 0, model)
        struct.pack_into("<HH", self.table, POSITION_LIMITS.address, 0, STEPS - 1)
        self.table[5] = id_
        for register, value in (
            (MAX_TEMPERATURE, 70),
            (MAX_TORQUE, 1000),
            (PHASE, FINE_SPEED | ZERO_IS_FULL),
            (RESOLUTION, 1),
            (SPEED_LIMIT, 68),
        ):
            self.put(register, value)
        self._saved = bytes(self.table[:RAM])
        self.power_cycle()

    def save(self, register: Register, value: int) -> None:
        """Set a register of the EEPROM from inside, for good."""
        self.put(register, value)
        self._saved = bytes(self.table[:RAM])

    @property
    def torque(self) -> bool:
        """Whether it drives its motor; one that is too hot does not, whatever Torque Enable says."""
        return bool(self.get(TORQUE_ENABLE)) and not self.status

    @property
    def status(self) -> int:
        return OVERHEATING if self.temperature > self.get(MAX_TEMPERATURE) else 0

    def power_cycle(self) -> None:
        """What lies in RAM is lost, and what was written to the EEPROM while it was locked."""
        self.table[:RAM] = self._saved
        self.table[RAM : SPEED_LIMIT.address] = bytes(SPEED_LIMIT.address - RAM)
        self.put(TORQUE_LIMIT, self.get(MAX_TORQUE))
        self.measure_supply()

    def overheat(self) -> None:
        self.temperature = HOT
        self.measure_supply()

    def cool(self) -> None:
        """The status goes with its cause."""
        self.temperature = COOL
        self.measure_supply()

    def measure_supply(self, current: int = 0) -> None:
        """Voltage, temperature, status and current [6.5 mA] into the table."""
        supply = struct.pack("<BBBBBHH", VOLTAGE, self.temperature, 0, self.status, 0, 0, current)
        self.table[SUPPLY.address : SUPPLY.address + SUPPLY.size] = supply

    def sense(self, position: float, velocity: float, effort: float) -> None:
        """Present values from [rad], [rad/s] and 0.1 % of full PWM."""
        speed = _within(round(velocity / self._speed_unit), 1 << SIGN)
        load = _within(round(effort), FULL_PWM + 1)
        steps = round(position / STEP) + CENTRE
        self._turns = 0 if self.get(PHASE) & MANY_TURNS else steps - steps % STEPS
        raw = pack_signed(_within(steps - self._turns, 1 << SIGN), SIGN)
        raw += pack_signed(speed, SIGN) + pack_signed(load, LOAD_SIGN)
        self.table[PRESENT.address : PRESENT.address + PRESENT.size] = raw

    def goal_position(self) -> float:
        """[rad], kept within the limits, in the turn where it stands."""
        bottom, top = struct.unpack_from("<HH", self.table, POSITION_LIMITS.address)
        goal = min(max(self._signed(GOAL_POSITION, SIGN), bottom), top)
        return (goal + self._turns - CENTRE) * STEP

    def goal_velocity(self) -> float:
        """[rad/s]"""
        return self._signed(GOAL_SPEED, SIGN) * self._speed_unit

    def goal_pwm(self) -> int:
        """0.1 % of full PWM, kept within the torque limit."""
        limit = self.get(TORQUE_LIMIT)
        return min(max(self._signed(GOAL_PWM, LOAD_SIGN), -limit), limit)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the table; those behind its end are 0."""
        return bytes(self.table[address : address + size]).ljust(size, b"\0")

    def write(self, address: int, data: bytes) -> bool:
        """Write bytes; False, and nothing is written, where some cannot be."""
        touched = range(address, address + len(data))
        if not data or touched.stop > SIZE or not READ_ONLY.isdisjoint(touched):
            return False
        self.table[address : touched.stop] = data
        if not self.get(LOCK):
            self._saved = bytes(self.table[:RAM])
        if GOAL_POSITION.address in touched and self.get(OPERATING_MODE) == 0:
            self.put(TORQUE_ENABLE, 1)  # a goal switches the torque on, as the bus has to reckon with
        return True

    @property
    def _speed_unit(self) -> float:
        """[rad/s]"""
        return STEP if self.get(PHASE) & FINE_SPEED else COARSE * STEP

    def _signed(self, register: Register, sign: int) -> int:
        return int(signed(self.get(register), sign))


def _within(value: int, end: int) -> int:
    return min(max(value, 1 - end), end - 1)
