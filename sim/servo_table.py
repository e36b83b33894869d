"""The control table of an emulated servo."""

from __future__ import annotations

from robot_wm.buses.servo_register import Register


class ServoTable:
    """Bytes by address."""

    def __init__(self, size: int) -> None:
        self.table = bytearray(size)

    def get(self, register: Register, signed: bool = False) -> int:
        """The value of a register."""
        data = self.table[register.address : register.address + register.size]
        return int.from_bytes(data, "little", signed=signed)

    def put(self, register: Register, value: int) -> None:
        """Set a register from inside, without rules."""
        self.table[register.address : register.address + register.size] = register.pack(value)
