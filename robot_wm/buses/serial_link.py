"""Frames over a serial port, both ways, every call bounded in time."""

from __future__ import annotations

import time

from robot_wm.buses.framing import DELIMITER, Decoder, Frame, encode
from robot_wm.buses.serial_port import SerialPort


class SerialLink(SerialPort):
    """A port with the frames of our protocol on it. `frames_out` counts since construction."""

    def __init__(self, path: str, baud: int) -> None:
        super().__init__(path, baud)
        self.decoder = Decoder()
        self.frames_out = 0
        self.session = 0
        self.sequence = 0  # of the last frame sent
        self._torn = False  # the last frame may have gone out in part

    def begin(self, session: int) -> None:
        """Begin a session: sequence numbers start anew, and what has come of a frame is dropped."""
        self.session, self.sequence, self._torn = session, 0, True
        self.decoder.forget()

    def send(self, kind: int, stamp: int, payload: bytes = b"") -> int:
        """Send one frame that bears `stamp` [us] and return its sequence number. Raises BusError, also when there is no room."""
        self._port()
        self.sequence += 1
        data = encode(Frame(kind, self.session, self.sequence, stamp, payload))
        if not self.write(DELIMITER + data if self._torn else data):
            self._torn = True
            raise self.no_room()
        self._torn = False
        self.frames_out += 1
        return self.sequence

    def receive(self, deadline: int) -> list[tuple[int, Frame]]:
        """What has come, each with its arrival [ns]; waits up to `deadline` [ns, monotonic] for bytes. Raises BusError."""
        data = self.read(deadline)
        now = time.monotonic_ns()
        return [(now, frame) for frame in self.decoder.feed(data)]
