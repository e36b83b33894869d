"""A chain of emulated servos as a process between a plant and a pty."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping

from robot_wm.buses.base import MotorBus
from sim.link_faults import Split
from sim.pty_emulator import Device, arguments_of, plant_behind, serve

# Physics, joints with motors, mode, effort_scale → the servos.
Chain = Callable[[MotorBus, int, str, Mapping[str, float]], Device]


def serve_chain(
    chain: Chain, split: Split, module: str, what: str, effort_unit: str, arguments: list[str] | None
) -> int:
    """Serve the servos until a signal; `what` they are, and what an effort is given per. Returns the exit status."""
    parser = arguments_of(module, what)
    parser.add_argument(
        "--effort-scale", type=_scales, default={}, help=f"effort per {effort_unit} by joint, a JSON object"
    )
    options = parser.parse_args(arguments)

    def make() -> Device:
        contract, bus = plant_behind(options.socket)
        return chain(bus, contract.action.size, contract.action.mode, options.effort_scale)

    return serve(what, options, make, split)


def _scales(text: str) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in json.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} must be a JSON object of numbers") from error
