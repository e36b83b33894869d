"""Emulated Dynamixel servos: `python -m sim.dynamixel_servos --socket run/plant.sock --link run/servos`."""

from __future__ import annotations

import sys

from sim.dynamixel_core import DynamixelChain
from sim.dynamixel_packets import split
from sim.servo_process import serve_chain


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the process; returns its exit status."""
    return serve_chain(DynamixelChain, split, "sim.dynamixel_servos", "Dynamixel servos", "ampere", arguments)


if __name__ == "__main__":
    sys.exit(main())
