"""When this machine stood still: a virtual one waits for its host, and then nothing that runs on it can be in time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from types import TracebackType

PERIOD_S = 0.005  # between looks at the clock
LEAST_S = 0.02  # shorter pauses are not told: the kernel's own work


class StandstillMeter:
    """Watches every core of this process from a process of its own that goes before everything else; use it as a context.

    `permitted` is False where SCHED_FIFO is refused: what delays the watcher then may be the load, and nothing is told.
    """

    def __init__(self) -> None:
        self.permitted = True
        self._text = b""
        self._pauses: list[tuple[int, int]] = []  # [ns, monotonic]

    def __enter__(self) -> StandstillMeter:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "robot_wm.standstill"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.permitted = self._process.stdout.readline().strip() == b"watching"
        os.set_blocking(self._process.stdout.fileno(), False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its input, which ends it

    def within(self, start: int, end: int) -> float:
        """For how long [s] of the time from `start` to `end` [ns, monotonic] any core stood still."""
        self._poll()
        total, covered = 0, start
        for first, last in sorted(self._pauses):
            first, last = max(first, covered), min(last, end)
            if last > first:
                total, covered = total + last - first, last
        return total / 1e9

    def _poll(self) -> None:
        assert self._process.stdout is not None
        self._text += self._process.stdout.read() or b""
        *lines, self._text = self._text.split(b"\n")
        for line in lines:
            first, last = map(int, line.split())
            self._pauses.append((first, last))


def watch(core: int, ready: threading.Barrier, ended: threading.Event) -> None:
    """Tell every pause of a core on the standard output: from and to [ns, monotonic]."""
    os.sched_setaffinity(0, {core})
    last = time.monotonic_ns()
    ready.wait()
    while not ended.is_set():
        time.sleep(PERIOD_S)
        now = time.monotonic_ns()
        if now - last > (PERIOD_S + LEAST_S) * 1e9:
            os.write(1, f"{last + round(PERIOD_S * 1e9)} {now}\n".encode())
        last = now


def main() -> None:
    """Watch until the standard input is closed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_max(os.SCHED_FIFO)))
    except (OSError, AttributeError):
        print("not permitted", flush=True)
        return
    numbers, ended = sorted(os.sched_getaffinity(0)), threading.Event()
    ready = threading.Barrier(len(numbers) + 1)
    cores = [threading.Thread(target=watch, args=(number, ready, ended)) for number in numbers]
    for core in cores:
        core.start()
    ready.wait()
    print("watching", flush=True)
    sys.stdin.read()
    ended.set()
    for core in cores:
        core.join()


if __name__ == "__main__":
    main()
