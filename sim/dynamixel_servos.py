"""Emulated Dynamixel servos: `python -m sim.dynamixel_servos --socket run/plant.sock --link run/servos`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from sim.dynamixel_core import ServoChain
from sim.dynamixel_packets import split
from sim.pty_emulator import arguments_of, plant_behind, serve


def chain_of(socket: str, effort_scale: Mapping[str, float]) -> ServoChain:
    """Servos in front of the plant at `socket`. Raises RunError when none answers."""
    contract, bus = plant_behind(socket)
    return ServoChain(bus, contract.action.size, contract.action.mode, effort_scale)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the process; returns its exit status."""
    parser = arguments_of("sim.dynamixel_servos", "Dynamixel servos, Protocol 2.0")
    parser.add_argument("--effort-scale", type=_scales, default={}, help="effort per ampere by joint, a JSON object")
    options = parser.parse_args(arguments)
    return serve("dynamixel servos", options, lambda: chain_of(options.socket, options.effort_scale), split)


def _scales(text: str) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be a JSON object of numbers") from error


if __name__ == "__main__":
    sys.exit(main())
