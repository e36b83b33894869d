"""An emulated board on a pty: `python -m sim.serial_board --socket run/plant.sock --link run/board`.

The motor node opens the link as it opens /dev/ttyUSB0, with the same bus. What is behind is a plant (`sim/plant.py`) or, in tests,
any motor bus.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from robot_wm.contract import parse_contract
from robot_wm.errors import BusError, RobotWmError, RunError
from robot_wm.launched_by import launcher
from robot_wm.realtime import RealtimeOptions, go_realtime
from sim.board_core import Board
from sim.link_faults import FaultRates, FaultyLine
from sim.plant_bus import PlantBus, PlantControl

CHUNK = 4096  # bytes
TICK_S = 0.005  # how often the board looks at its watchdog
PLANT_TIMEOUT_S = 20.0
PHYSICS_TIMEOUT_S = 0.1  # of one reading: shorter, a loaded machine would never give one
RATES = tuple(field.name for field in fields(FaultRates))
EVENTS = ("stall", "hangup", "plugin", "overheat")


class SerialBoard:
    """A board behind a pty. `path` is what a client opens; it stays the same when the cable is plugged in again.

    Args:
        link: a symbolic link to make to the pty.
        rates: faults of both directions, drawn from `seed`.
    """

    def __init__(self, board: Board, link: Path | str, rates: FaultRates | None = None, seed: int = 0) -> None:
        self.board = board
        self.path = str(link)
        down, up = np.random.default_rng(seed).spawn(2)
        self.to_board = FaultyLine(rates or FaultRates(), down)
        self.from_board = FaultyLine(rates or FaultRates(), up)
        self.overrun = 0  # bytes that the client did not read in time
        self._stalled_until = 0.0
        self._ends: tuple[int, int] | None = None
        self._lock = threading.Lock()  # the cable may be pulled by another thread
        self.plug_in()

    def plug_in(self) -> None:
        """Make the pty; harmless when it is there."""
        with self._lock:
            if self._ends is not None:
                return
            ours, theirs = os.openpty()
            tty.setraw(theirs)
            os.set_blocking(ours, False)
            self._ends = ours, theirs
            new = f"{self.path}.new"
            os.symlink(os.ttyname(theirs), new)
            os.replace(new, self.path)

    def hang_up(self) -> None:
        """Pull the cable: the client's port fails. Harmless when it is pulled."""
        with self._lock:
            if self._ends is not None:
                os.unlink(self.path)
                for end in self._ends:
                    os.close(end)
                self._ends = None

    def stall(self, seconds: float) -> None:
        """Neither read nor answer for a while; the watchdog goes on."""
        with self._lock:
            self._stalled_until = time.monotonic() + seconds

    def step(self, wait_s: float = TICK_S) -> None:
        """Wait for bytes, answer them, look at the watchdog."""
        data, ends = b"", self._ends
        try:
            ready = ends is not None and select.select([ends[0]], [], [], wait_s)[0]
        except OSError:  # the cable was pulled meanwhile
            ready = False
        with self._lock:
            silent = ends is None or self._ends is not ends or time.monotonic() < self._stalled_until
            if ready and not silent and ends is not None:
                data = os.read(ends[0], CHUNK)
        if silent:
            time.sleep(wait_s)
        answer = self.board.receive(self.to_board.carry(data), time.monotonic_ns()) if data else b""
        self.board.tick(time.monotonic_ns())
        if answer:
            self._send(self.from_board.carry(answer))

    def _send(self, data: bytes) -> None:
        with self._lock:
            if self._ends is not None:
                try:
                    self.overrun += len(data) - os.write(self._ends[0], data)
                except BlockingIOError:
                    self.overrun += len(data)

    @contextlib.contextmanager
    def running(self) -> Iterator[SerialBoard]:
        """Serve on a thread of this process."""
        end = threading.Event()

        def serve() -> None:
            while not end.is_set():
                self.step()

        thread = threading.Thread(target=serve, name="serial board", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            end.set()
            thread.join()
            self.hang_up()


def board_of(socket: str, watchdog_ms: int = 100) -> Board:
    """A board in front of the plant at `socket`. Raises RunError when none answers."""
    deadline = time.monotonic() + PLANT_TIMEOUT_S
    while True:
        try:
            control = PlantControl(socket)
            break
        except BusError as error:
            if time.monotonic() > deadline:
                raise RunError(f"no plant for the board after {PLANT_TIMEOUT_S:g} s: {error}") from error
            time.sleep(0.1)
    contract = parse_contract(control.describe()["contract"])
    control.close()
    bus = PlantBus(contract, socket, PHYSICS_TIMEOUT_S)
    bus.open()
    start = time.time_ns() // 1000 % 1_000_003  # a board's clock starts anywhere
    return Board(bus, contract.action.size, contract.action.mode, watchdog_ms, contract.name[:16], clock_start=start)


@dataclass(frozen=True)
class Event:
    """Something that befalls the board `at` seconds after it was first powered."""

    at: float
    what: str  # stall | hangup | plugin | overheat
    argument: float  # stall: how long [s]; overheat: the joint's index


def parse_faults(text: str) -> tuple[FaultRates, list[Event]]:
    """`corrupt=0.01,stall@3=0.5` → rates per frame, and events in the order in which they happen. Raises RunError."""
    rates: dict[str, float] = {}
    events = []
    for item in filter(None, text.split(",")):
        name, _, number = item.partition("=")
        what, at_time, at = name.partition("@")
        known = EVENTS if at_time else RATES
        if what not in known:
            raise RunError(
                f"unknown fault {item!r}; there are {', '.join(RATES)} (=rate), {', '.join(EVENTS)} (@seconds)"
            )
        try:
            if at_time:
                events.append(Event(float(at), what, float(number or 0)))
            else:
                rates[what] = float(number)
        except ValueError as error:
            raise RunError(f"fault {item!r} must read corrupt=0.01, stall@3=0.5 or hangup@5") from error
    return FaultRates(**rates), sorted(events, key=lambda event: event.at)


def inflict(emulator: SerialBoard, event: Event) -> None:
    """Make an event happen."""
    if event.what == "stall":
        emulator.stall(event.argument)
    elif event.what == "hangup":
        emulator.hang_up()
    elif event.what == "plugin":
        emulator.plug_in()
    else:
        emulator.board.overheat(int(event.argument))


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the process; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sim.serial_board", description="An emulated board on a pty.")
    parser.add_argument("--socket", required=True, help="Unix socket of the plant behind it")
    parser.add_argument("--link", required=True, help="symbolic link to make to the pty")
    parser.add_argument(
        "--faults", default="", help="corrupt=0.01,stall@3=0.5,hangup@5: per frame, and s after power-on"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--watchdog", type=int, default=100, help="[ms]")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one is gone")
    parser.add_argument("--priority", type=int, default=60, help="SCHED_FIFO priority where permitted, 0: none (60)")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    parent = launcher()
    try:
        rates, events = parse_faults(options.faults)
        emulator = SerialBoard(board_of(options.socket, options.watchdog), options.link, rates, options.seed)
    except RobotWmError as error:
        print(f"serial board: {error}", file=sys.stderr)
        return 1
    go_realtime(RealtimeOptions(priority=options.priority, lock_memory=False))
    print(json.dumps({"ready": True, "link": emulator.path}), flush=True)
    began = 0.0
    while not stop.is_set() and not (options.with_parent and os.getppid() != parent):
        emulator.step()
        began = began or (time.monotonic() if emulator.board.enabled else 0.0)
        while events and began and time.monotonic() - began >= events[0].at:
            inflict(emulator, events.pop(0))
    emulator.hang_up()
    counts = {"to_board": emulator.to_board.counts, "from_board": emulator.from_board.counts}
    print(json.dumps({"board": emulator.board.counts, **counts}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
