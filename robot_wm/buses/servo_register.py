"""A place in a servo's control table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Register:
    """Address and bytes; values are little-endian, negative ones in two's complement unless a table says otherwise."""

    address: int
    size: int

    def pack(self, value: int) -> bytes:
        return (value & ((1 << 8 * self.size) - 1)).to_bytes(self.size, "little")
