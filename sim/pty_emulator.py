"""Emulated hardware on a pty, in front of the simulated plant; the motor node opens the link as it opens /dev/ttyUSB0.

What the hardware is (`sim/serial_board.py`, `sim/servo_process.py`) is a `Device`: bytes in, bytes out. Here are the pty, the
bad cable and the process.
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
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from robot_wm.contract import Contract, parse_contract
from robot_wm.errors import BusError, RobotWmError, RunError
from robot_wm.launched_by import launcher
from robot_wm.realtime import RealtimeOptions, go_realtime
from sim.bus_tap import Kind, Tap
from sim.link_control import LinkControl, inflict
from sim.link_events import parse_faults
from sim.link_faults import FaultRates, FaultyLine, Split, at_zeros
from sim.plant_bus import PlantBus, PlantControl

CHUNK = 4096  # bytes
TICK_S = 0.005  # how often the device looks at its watchdog
PLANT_TIMEOUT_S = 20.0
PHYSICS_TIMEOUT_S = 0.1  # of one reading: shorter, a loaded machine would never give one


class Device(Protocol):
    """Hardware at the end of a serial line; `counts` says at the end what it saw."""

    counts: Counter[str]

    @property
    def enabled(self) -> bool:
        """Whether any motor is powered."""
        ...

    @property
    def driven(self) -> bool:
        """Whether what it is told reaches a motor."""
        ...

    def receive(self, data: bytes, now: int) -> bytes:
        """Take bytes at `now` [ns]; return the answers."""
        ...

    def tick(self, now: int) -> None:
        """The watchdog; often."""
        ...

    def overheat(self, joint: int) -> None:
        """From now on a joint is too hot."""
        ...

    def cool(self, joint: int) -> None:
        """It is no longer, and has been power-cycled where it needs that."""
        ...


class PtyEmulator:
    """A device behind a pty. `path` is what a client opens; it stays the same when the cable is plugged in again.

    Args:
        link: a symbolic link to make to the pty.
        rates: faults of both directions, drawn from `seed`.
        split: how the line's frames are told apart.
        tap: where to write what passes.
    """

    def __init__(
        self,
        device: Device,
        link: Path | str,
        rates: FaultRates | None = None,
        seed: int = 0,
        split: Split = at_zeros,
        tap: Tap | None = None,
    ) -> None:
        self.device = device
        self.tap = tap
        self._driven = False  # as the tap knows it
        self.path = str(link)
        down, up = np.random.default_rng(seed).spawn(2)
        self.to_device = FaultyLine(rates or FaultRates(), down, split)
        self.from_device = FaultyLine(rates or FaultRates(), up, split)
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
                self._tell(Kind.SENT, data)
        if silent:
            time.sleep(wait_s)
        answer = self.device.receive(self.to_device.carry(data), time.monotonic_ns()) if data else b""
        self.device.tick(time.monotonic_ns())
        if self.device.driven is not self._driven:
            self._driven = self.device.driven
            self._tell(Kind.DRIVEN, bytes([self._driven]))
        if answer:
            self._send(self.from_device.carry(answer))

    def _tell(self, kind: Kind, data: bytes) -> None:
        if self.tap is not None:
            self.tap.write(time.monotonic_ns(), kind, data)

    def _send(self, data: bytes) -> None:
        with self._lock:
            if self._ends is not None:
                try:
                    self.overrun += len(data) - os.write(self._ends[0], data)
                except BlockingIOError:
                    self.overrun += len(data)

    @contextlib.contextmanager
    def running(self) -> Iterator[PtyEmulator]:
        """Serve on a thread of this process."""
        end = threading.Event()

        def serve() -> None:
            while not end.is_set():
                self.step()

        thread = threading.Thread(target=serve, name="pty emulator", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            end.set()
            thread.join()
            self.hang_up()


def plant_behind(socket: str) -> tuple[Contract, PlantBus]:
    """Contract and open bus of the plant at `socket`. Raises RunError when none answers."""
    deadline = time.monotonic() + PLANT_TIMEOUT_S
    while True:
        try:
            control = PlantControl(socket)
            break
        except BusError as error:
            if time.monotonic() > deadline:
                raise RunError(f"no plant for the emulated hardware after {PLANT_TIMEOUT_S:g} s: {error}") from error
            time.sleep(0.1)
    contract = parse_contract(control.describe()["contract"])
    control.close()
    bus = PlantBus(contract, socket, PHYSICS_TIMEOUT_S)
    bus.open()
    return contract, bus


def arguments_of(module: str, what: str) -> argparse.ArgumentParser:
    """The arguments that every emulator takes; `what` it emulates."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=f"Emulated hardware on a pty: {what}.")
    parser.add_argument("--socket", required=True, help="Unix socket of the plant behind it")
    parser.add_argument("--link", required=True, help="symbolic link to make to the pty")
    parser.add_argument(
        "--faults", default="", help="corrupt=0.01,stall@3=0.5,hangup@5: per frame, and s after power-on"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--tap", default="", help="file to write to what passes the line")
    parser.add_argument("--control", default="", help="Unix socket that takes more faults while it runs, as --faults")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one is gone")
    parser.add_argument("--priority", type=int, default=60, help="SCHED_FIFO priority where permitted, 0: none (60)")
    return parser


def serve(what: str, options: argparse.Namespace, make: Callable[[], Device], split: Split = at_zeros) -> int:
    """Serve the device that `make` builds until a signal, with the options of `arguments_of`; returns the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    parent = launcher()
    try:
        rates, events = parse_faults(options.faults)
        tap = Tap(options.tap) if options.tap else None
        emulator = PtyEmulator(make(), options.link, rates, options.seed, split, tap)
        control = LinkControl(emulator, options.control)
    except RobotWmError as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1
    go_realtime(RealtimeOptions(priority=options.priority, lock_memory=False))
    print(json.dumps({"ready": True, "link": emulator.path}), flush=True)
    began = 0.0
    while not stop.is_set() and not (options.with_parent and os.getppid() != parent):
        emulator.step()
        control.serve()
        began = began or (time.monotonic() if emulator.device.enabled else 0.0)
        while events and began and time.monotonic() - began >= events[0].at:
            inflict(emulator, events.pop(0))
    control.close()
    emulator.hang_up()
    counts = {"to_device": emulator.to_device.counts, "from_device": emulator.from_device.counts}
    print(json.dumps({"device": emulator.device.counts, **counts}), flush=True)
    return 0
