"""Frames over a serial port, both ways, every call bounded in time."""

from __future__ import annotations

import contextlib
import os
import termios
import time
from collections.abc import Iterator

import serial

from robot_wm.buses.framing import DELIMITER, Decoder, Frame, encode
from robot_wm.errors import BusError

CHUNK = 4096  # bytes; a tty's input queue
POLL_S = 1e-4  # between looks at what has come


class SerialLink:
    """One port, opened exclusively. When it fails it is closed at once, and `lost` says why until it is opened again.

    `bytes_out`, `frames_out` and `full` (writes that found no room) count since construction.
    """

    def __init__(self, port: str, baud: int) -> None:
        self.port = port
        self.baud = baud
        self.decoder = Decoder()
        self.bytes_out = self.frames_out = self.full = 0
        self.session = 0
        self.sequence = 0  # of the last frame sent
        self.lost = "it was never opened"  # why there is no connection
        self._serial: serial.Serial | None = None
        self._torn = False  # the last frame may have gone out in part

    @property
    def up(self) -> bool:
        return self._serial is not None

    def open(self) -> None:
        """Open the port. Raises BusError when it is missing, in use, or no serial port."""
        self.close("it was closed")
        try:
            self._serial = serial.Serial(self.port, self.baud, timeout=0, exclusive=True)
        except (OSError, ValueError, termios.error) as error:
            hint = "is another program using it?" if "lock" in str(error) else "is it plugged in, and may you read it?"
            raise BusError(f"cannot open serial port {self.port} at {self.baud} baud: {error}; {hint}") from error
        # An FTDI adapter otherwise keeps what it received for up to 16 ms; others, and ptys, do not know the setting.
        with contextlib.suppress(OSError, ValueError, NotImplementedError, termios.error):
            self._serial.set_low_latency_mode(True)
        with self._failing():
            self._port().reset_input_buffer()
            self._port().reset_output_buffer()

    def begin(self, session: int) -> None:
        """Begin a session: sequence numbers start anew, and what has come of a frame is dropped."""
        self.session, self.sequence, self._torn = session, 0, True
        self.decoder.forget()

    def close(self, why: str) -> None:
        """Give the port back; harmless when not open."""
        if self._serial is not None:
            with contextlib.suppress(OSError, termios.error):
                self._serial.close()
            self._serial = None
            self.lost = why

    def send(self, kind: int, stamp: int, payload: bytes = b"") -> int:
        """Send one frame that bears `stamp` [us] and return its sequence number. Raises BusError, also when there is no room."""
        port = self._port()
        self.sequence += 1
        data = encode(Frame(kind, self.session, self.sequence, stamp, payload))
        if self._torn:
            data = DELIMITER + data
        # pyserial's own write waits until the port would take even more; its descriptor does not block.
        with self._failing():
            try:
                sent = os.write(port.fileno(), data)
            except BlockingIOError:
                sent = 0
        if sent < len(data):
            self.full += 1
            self._torn = True
            with self._failing():
                port.reset_output_buffer()  # what has waited so long is too old to be obeyed
            raise BusError(f"serial port {self.port} takes no more bytes: the board or its adapter does not read")
        self._torn = False
        self.bytes_out += len(data)
        self.frames_out += 1
        return self.sequence

    def receive(self, deadline: int) -> list[tuple[int, Frame]]:
        """What has come, each with its arrival [ns]; waits up to `deadline` [ns, monotonic] for bytes. Raises BusError."""
        port = self._port()
        with self._failing():
            # No select: on a Linux tty it waits, whatever its timeout, for a kernel worker of ordinary priority (n_tty_poll).
            while not (count := port.in_waiting):
                if time.monotonic_ns() >= deadline:
                    return []
                time.sleep(POLL_S)
            data = port.read(min(count, CHUNK))
        now = time.monotonic_ns()
        return [(now, frame) for frame in self.decoder.feed(data)]

    def _port(self) -> serial.Serial:
        if self._serial is None:
            raise BusError(f"no connection to {self.port}: {self.lost}; plug it in")
        return self._serial

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """A port that fails is closed at once."""
        try:
            yield
        except (OSError, ValueError, termios.error) as error:  # ValueError: a descriptor that has gone
            self.close(f"the port failed ({error})")
            raise BusError(f"serial port {self.port} failed: {error}; is the cable plugged in?") from error
