"""An emulated board of our serial protocol: `python -m sim.serial_board --socket run/plant.sock --link run/board`."""

from __future__ import annotations

import sys
import time

from sim.board_core import Board
from sim.pty_emulator import arguments_of, plant_behind, serve


def board_of(socket: str, watchdog_ms: int) -> Board:
    """A board in front of the plant at `socket`. Raises RunError when none answers."""
    contract, bus = plant_behind(socket)
    start = time.time_ns() // 1000 % 1_000_003  # a board's clock starts anywhere
    return Board(bus, contract.action.size, contract.action.mode, watchdog_ms, contract.name[:16], clock_start=start)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the process; returns its exit status."""
    parser = arguments_of("sim.serial_board", "a board of our serial protocol")
    parser.add_argument("--watchdog", type=int, default=100, help="[ms]")
    options = parser.parse_args(arguments)
    return serve("serial board", options, lambda: board_of(options.socket, options.watchdog))


if __name__ == "__main__":
    sys.exit(main())
