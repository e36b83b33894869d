"""The C reference as a process, alone on pipes or behind a pty with a bad cable."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import threading
import tty
from pathlib import Path

import numpy as np
import pytest

from sim.link_faults import FaultRates, FaultyLine

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
FLAGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]


def compiled(folder: Path) -> Path:
    """The example program, every warning an error; skips the test where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler on this machine: the C reference is not tested here")
    program = folder / "example"
    sources = [str(FIRMWARE / name) for name in ("rwm_board.c", "example_posix.c")]
    done = subprocess.run([compiler, *FLAGS, "-o", str(program), *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def start(program: Path, joints=2, motors=1, mode=0, watchdog_ms=60_000, clock_start=0, log: Path | None = None):
    """The program as a process with pipes."""
    numbers = map(str, (joints, motors, mode, watchdog_ms, clock_start))
    return subprocess.Popen(
        [str(program), *numbers, *([str(log)] if log else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


class Cable:
    """Carries bytes between a pty and the program through two lines, good ones until their `rates` are set."""

    def __init__(self, process: subprocess.Popen[bytes], seed: int) -> None:
        down, up = np.random.default_rng(seed).spawn(2)
        self.to_board, self.from_board = FaultyLine(FaultRates(), down), FaultyLine(FaultRates(), up)
        self._process = process
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.path = os.ttyname(self._theirs)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def set(self, rates: FaultRates) -> None:
        """From now on faults in both directions."""
        self.to_board.rates = self.from_board.rates = rates

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)

    def _serve(self) -> None:
        out = self._process.stdout.fileno()
        while not self._end.is_set():
            ready = select.select([self._ours, out], [], [], 0.01)[0]
            if self._ours in ready:
                self._process.stdin.write(self.to_board.carry(os.read(self._ours, 4096)))
            if out in ready:
                os.write(self._ours, self.from_board.carry(os.read(out, 4096)))
