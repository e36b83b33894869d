"""Real-time scheduling of the calling thread: what was asked for, what the system granted, and what it refused and why."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_native_id

MCL_CURRENT, MCL_FUTURE = 1, 2  # mlockall(2)


@dataclass(frozen=True)
class RealtimeOptions:
    """What to ask for; each is tried on its own."""

    priority: int = 80  # SCHED_FIFO priority of this thread, 1..99; 0: leave the scheduler alone
    cpu: int | None = None  # pin this thread to one core
    lock_memory: bool = True  # no page of this process is swapped out
    freeze_gc: bool = True  # what exists now is never searched again, and the collector stays off


@dataclass(frozen=True)
class RealtimeReport:
    """What was granted; `refused` has one sentence for each thing asked for and not granted."""

    scheduled: bool = False
    pinned: bool = False
    memory_locked: bool = False
    gc_frozen: bool = False
    refused: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line for diagnostics and run reports."""
        granted = [
            name
            for name, given in (
                ("SCHED_FIFO", self.scheduled),
                ("pinned", self.pinned),
                ("memory locked", self.memory_locked),
                ("gc frozen", self.gc_frozen),
            )
            if given
        ]
        text = ", ".join(granted) or "not real-time"
        return f"{text}; refused: {'; '.join(self.refused)}" if self.refused else text


def go_realtime(options: RealtimeOptions) -> RealtimeReport:
    """Give the calling thread what it can get. Never raises: the loop runs without, and the report says so.

    The limits that grant it to an ordinary user: `rtprio` and `memlock` in limits.conf(5).
    """
    refused: list[str] = []
    if options.freeze_gc:
        gc.collect()
        gc.freeze()
        gc.disable()
    pinned = options.cpu is not None and _granted(refused, f"core {options.cpu}", lambda: _pin(options.cpu or 0))
    locked = options.lock_memory and _granted(refused, "memory lock", _lock_memory)
    scheduled = options.priority > 0 and _granted(
        refused, f"SCHED_FIFO {options.priority}", lambda: _schedule(options.priority)
    )
    return RealtimeReport(scheduled, pinned, locked, options.freeze_gc, tuple(refused))


def back_to_normal() -> None:
    """Undo `go_realtime` for the calling thread, as far as that is possible: benchmarks and tests go on afterwards."""
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "munlockall"):
        libc.munlockall()
    gc.unfreeze()
    gc.enable()


def step_back(niceness: int = 10) -> None:
    """Let everything else go before the calling thread, whatever scheduling it has inherited."""
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        thread = get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))


def _granted(refused: list[str], what: str, ask: Callable[[], None]) -> bool:
    try:
        ask()
    except (OSError, AttributeError) as error:  # not permitted, or not on this system
        refused.append(f"{what}: {getattr(error, 'strerror', None) or error}")
        return False
    return True


def _schedule(priority: int) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def _pin(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})


def _lock_memory() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
