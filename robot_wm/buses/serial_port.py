"""A serial port that never blocks: what every bus on a serial line opens, writes and polls."""

from __future__ import annotations

import contextlib
import os
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import serial

from robot_wm.errors import BusError

CHUNK = 4096  # bytes; a tty's input queue
POLL_S = 1e-4  # between looks at what has come
USB_SERIAL = Path("/sys/bus/usb-serial/devices")


class SerialPort:
    """One port, opened exclusively. When it fails it is closed at once, and `lost` says why until it is opened again.

    `bytes_out`, `bytes_in` and `full` (writes that found no room) count since construction.
    """

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        self.baud = baud
        self.bytes_out = self.bytes_in = self.full = 0
        self.lost = "it was never opened"  # why there is no connection
        self._serial: serial.Serial | None = None

    @property
    def up(self) -> bool:
        return self._serial is not None

    def open(self) -> None:
        """Open the port. Raises BusError when it is missing, in use, or no serial port."""
        self.close("it was closed")
        try:
            self._serial = serial.Serial(self.path, self.baud, timeout=0, exclusive=True)
        except (OSError, ValueError, termios.error) as error:
            hint = "is another program using it?" if "lock" in str(error) else "is it plugged in, and may you read it?"
            raise BusError(f"cannot open serial port {self.path} at {self.baud} baud: {error}; {hint}") from error
        # An FTDI adapter otherwise keeps what it received for up to 16 ms; others, and ptys, do not know the setting.
        with contextlib.suppress(OSError, ValueError, NotImplementedError, termios.error):
            self._serial.set_low_latency_mode(True)
        with self._failing():
            self._port().reset_input_buffer()
            self._port().reset_output_buffer()

    def close(self, why: str) -> None:
        """Give the port back; harmless when not open."""
        if self._serial is not None:
            with contextlib.suppress(OSError, termios.error):
                self._serial.close()
            self._serial = None
            self.lost = why

    def write(self, data: bytes) -> bool:
        """Send all of `data`; False when there was no room: then what waits to go out is thrown away. Raises BusError."""
        port = self._port()
        # pyserial's own write waits until the port would take even more; its descriptor does not block.
        with self._failing():
            try:
                sent = os.write(port.fileno(), data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self.full += 1
                port.reset_output_buffer()  # what has waited so long is too old to be obeyed
                return False
        self.bytes_out += len(data)
        return True

    def read(self, deadline: int, most: int = CHUNK) -> bytes:
        """What has come, `most` bytes; waits up to `deadline` [ns, monotonic] for a first one. Raises BusError."""
        port = self._port()
        with self._failing():
            # No select: on a Linux tty it waits, whatever its timeout, for a kernel worker of ordinary priority (n_tty_poll).
            while not (count := port.in_waiting):
                if time.monotonic_ns() >= deadline:
                    return b""
                time.sleep(POLL_S)
            data: bytes = port.read(min(count, most))
        self.bytes_in += len(data)
        return data

    def clear(self) -> None:
        """Drop what has come and was not read. Raises BusError."""
        with self._failing():
            self._port().reset_input_buffer()

    def no_room(self) -> BusError:
        """What to raise when `write` found no room."""
        return BusError(f"serial port {self.path} takes no more bytes: the board or its adapter does not read")

    def _port(self) -> serial.Serial:
        if self._serial is None:
            raise BusError(f"no connection to {self.path}: {self.lost}; plug it in")
        return self._serial

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """A port that fails is closed at once."""
        try:
            yield
        except (OSError, ValueError, termios.error) as error:  # ValueError: a descriptor that has gone
            self.close(f"the port failed ({error})")
            raise BusError(f"serial port {self.path} failed: {error}; is the cable plugged in?") from error


def latency_timer_ms(path: str, devices: Path = USB_SERIAL) -> int | None:
    """How long a USB adapter keeps what it received before it hands it on [ms]; None where the adapter has no such timer.

    Source: Linux, drivers/usb/serial/ftdi_sio.c, attribute `latency_timer`.
    """
    try:
        return int((devices / Path(os.path.realpath(path)).name / "latency_timer").read_text())
    except (OSError, ValueError):
        return None
