"""A process of its own that cuts the motors' power when the motor process hangs or dies while they are powered.

Boards and servos with a watchdog stop by themselves; this one is for those without, and for a motor process that keeps its port
open and says nothing. The motor loop leaves a byte in a pipe every tick. When none comes for too long, or the pipe ends without
a farewell, this process kills the other, opens the bus itself and disables it. A bus that several processes may have open
(`SHARED`: a robot behind ROS topics, which takes a second to find) is opened ahead.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from robot_wm.buses.base import MotorBus, bus_kind, open_bus
from robot_wm.contract import Contract, parse_contract
from robot_wm.errors import BusError, RobotWmError
from robot_wm.realtime import RealtimeOptions, go_realtime

POWERED, UNPOWERED, FAREWELL = b"p", b"u", b"q"
PRIORITY = 90  # above the motor loop's: what hangs may spin
STALL_S = 0.05  # woken so much too late, the whole machine stood still: the motor loop gets its time again
ATTEMPTS, PAUSE_S = 20, 0.1  # to reach the bus; a port may be busy until the kernel has closed it
CHUNK = 65536


class Watchdog:
    """The motor process's end; `beat` every tick."""

    def __init__(self, contract: Contract, bus: str, options: Mapping[str, Any], patience_s: float) -> None:
        """Start the process. It begins to judge with the first beat.

        Args:
            patience_s: so long may the motor loop be silent while the motors are powered.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "robot_wm.watchdog"], stdin=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin.fileno()
        job = {"contract": contract.to_dict(), "bus": bus, "options": dict(options), "patience_s": patience_s}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({**job, "pid": os.getpid()}).encode() + b"\n")
            self._process.stdin.flush()
        os.set_blocking(self._pipe, False)

    def beat(self, powered: bool) -> None:
        """The motor loop lives. Never waits: a full pipe has been fed enough."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, POWERED if powered else UNPOWERED)

    @property
    def alive(self) -> bool:
        """Whether somebody watches."""
        return self._process.poll() is None

    def release(self) -> None:
        """Say farewell: the loop ends in order."""
        assert self._process.stdin is not None
        os.set_blocking(self._pipe, True)
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, FAREWELL)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def watch(pipe: int, patience_s: float, now: Callable[[], float] = time.monotonic) -> str:
    """Read beats until something is wrong: return what, or nothing after a farewell or an end without power."""
    powered, waiting_since = False, now()
    while True:
        ready, _, _ = select.select([pipe], [], [], patience_s)
        late = now() - waiting_since - patience_s
        if ready:
            beats = os.read(pipe, CHUNK)
            if FAREWELL in beats or not (beats or powered):
                return ""
            if not beats:
                return "it has ended without switching the power off"
            powered = beats.endswith(POWERED)
        elif powered and late < STALL_S:
            return f"it has been silent for {patience_s:g} s"
        waiting_since = now()


def standby(contract: Contract, bus: str, options: Mapping[str, Any]) -> MotorBus | None:
    """Import the bus now, not when every millisecond counts: open, where several processes may have it open; else None."""
    try:
        return open_bus(bus, contract, **options) if getattr(bus_kind(bus), "SHARED", False) else None
    except BusError:
        return None


def cut_power(contract: Contract, bus: str, options: Mapping[str, Any], ready: MotorBus | None = None) -> None:
    """Disable the bus, `ready` or opened for that, again and again. Raises BusError with the last reason when that never worked."""
    for attempt in range(ATTEMPTS):
        try:
            with contextlib.closing(ready or open_bus(bus, contract, **options)) as opened:
                opened.disable()
            return
        except BusError:
            ready = None
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE_S)


def main() -> int:
    """Watch whoever writes to standard input; the first line is the job, as JSON."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it ends with the motor process, never before
    pipe = sys.stdin.fileno()
    text = b""
    while not text.endswith(b"\n"):
        byte = os.read(pipe, 1)
        if not byte:
            return 0
        text += byte
    job = json.loads(text)
    contract = parse_contract(job["contract"])
    ready = standby(contract, job["bus"], job["options"])
    go_realtime(RealtimeOptions(PRIORITY))
    wrong = watch(pipe, job["patience_s"])
    if not wrong:
        if ready is not None:
            ready.close()
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(job["pid"], signal.SIGKILL)
    try:
        cut_power(contract, job["bus"], job["options"], ready)
    except RobotWmError as error:
        print(f"watchdog: motor process {job['pid']}: {wrong}; the power could NOT be cut: {error}", file=sys.stderr)
        return 1
    print(f"watchdog: motor process {job['pid']}: {wrong}; killed it and cut the motors' power", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
