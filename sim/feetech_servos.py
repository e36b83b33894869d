"""Emulated Feetech servos: `python -m sim.feetech_servos --socket run/plant.sock --link run/servos`."""

from __future__ import annotations

import sys

from sim.feetech_core import FeetechChain
from sim.feetech_packets import split
from sim.servo_process import serve_chain


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the process; returns its exit status."""
    return serve_chain(FeetechChain, split, "sim.feetech_servos", "Feetech servos", "full PWM", arguments)


if __name__ == "__main__":
    sys.exit(main())
