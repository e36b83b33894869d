"""Makes faults befall emulated hardware: those that were planned, and those asked for while it runs."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from robot_wm.errors import RunError
from sim.board_core import Board
from sim.bus_tap import Kind
from sim.link_events import Event, parse_directions
from sim.plant_wire import check_path

if TYPE_CHECKING:
    from sim.pty_emulator import PtyEmulator

LONGEST = 1024  # bytes of a request


class LinkControl:
    """A datagram socket at `path` (empty: none) that takes text as `parse_directions` does; what has no time happens at once.

    Rates replace those before, so an empty text ends them.
    """

    def __init__(self, emulator: PtyEmulator, path: str) -> None:
        self._emulator = emulator
        self._path = path
        self._socket = None
        if path:
            Path(check_path(path)).unlink(missing_ok=True)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._socket.bind(path)

    def serve(self) -> None:
        """Do what was asked for since; never waits."""
        while self._socket is not None:
            try:
                text = self._socket.recv(LONGEST).decode()
            except BlockingIOError:
                return
            try:
                self.obey(text)
            except RunError as error:
                print(f"not obeyed: {error}", file=sys.stderr, flush=True)

    def obey(self, text: str) -> None:
        """Set the rates and let every event happen now. Raises RunError."""
        emulator = self._emulator
        rates, answers, events = parse_directions(text)
        if emulator.tap is not None:
            emulator.tap.write(time.monotonic_ns(), Kind.INFLICTED, text.encode())
        emulator.to_device.rates, emulator.from_device.rates = rates, answers
        for event in events:
            inflict(emulator, event)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            with contextlib.suppress(FileNotFoundError):
                Path(self._path).unlink()
            self._socket = None


def inflict(emulator: PtyEmulator, event: Event) -> None:
    """Make an event happen. Raises RunError where this hardware has nothing that it could befall."""
    device = emulator.device
    if event.what == "stall":
        emulator.stall(event.argument)
    elif event.what == "hangup":
        emulator.hang_up()
    elif event.what == "plugin":
        emulator.plug_in()
    elif event.what == "overheat":
        device.overheat(int(event.argument))
    elif event.what == "cool":
        device.cool(int(event.argument))
    elif not isinstance(device, Board):
        raise RunError(
            f"{event.what} befalls boards of our serial protocol alone: servos tell whole numbers and no time"
        )
    elif event.what == "clock":
        device.step_clock(event.argument)
    else:
        device.read_nan(time.monotonic_ns() + round(event.argument * 1e9))
