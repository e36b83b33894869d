"""One reading a call, and beside it a register of the health rotation; a reply that is late is used by a later call."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from robot_wm.buses.servo_link import Reply, Request
from robot_wm.buses.servo_session import ServoSession
from robot_wm.errors import BusError
from robot_wm.timebase import NS_PER_S

LENGTHS = 4  # of readings, used in turn after each reply given up
HEALTH_EVERY = NS_PER_S // 20  # [ns] one register of the rotation


class ServoReader:
    """Reads what a session's servos measure.

    Args:
        pause: after one that is longer [ns] the servos are asked whether it has stopped them; 0: none does.
    """

    def __init__(self, session: ServoSession[Any], pause: int = 0) -> None:
        self._session = session
        self._pause = pause
        self._present = session.family.present
        self._readings: list[Reply] = []  # that came in this call
        self._asked_health = 0  # [ns]
        session.link.late = self._take

    def read(self, powered: bool) -> Reply:
        """The newest reading; one that an earlier call has asked for when this one's is late. Raises BusError.

        `powered`: we asked for torque.
        """
        session, link = self._session, self._session.link
        self._readings.clear()
        try:
            link.settle()
            if not (
                self._readings and self._health_due()
            ):  # else it is the turn of the health, however late all replies are
                link.ask(Request(self._present, session.ids, session.fast, link.given_up % LENGTHS))
                self._take(link.reply())
        except BusError:
            if not self._readings:
                session.notice_silence()
                raise
        reading = self._readings[-1]
        paused = 0 < self._pause < reading.received - session.heard
        session.heard = reading.received
        if link.outstanding is None:
            self._look_after(paused and powered)
        return reading

    def _look_after(self, paused: bool) -> None:
        """Read the next register of the rotation in what is left of the call, if one is due; news come first."""
        session, link = self._session, self._session.link
        urgent = session.health.errors if self._news() else session.health.stopped if paused else None
        if urgent is None and not self._health_due():
            return
        self._asked_health = time.monotonic_ns()
        with contextlib.suppress(BusError):  # it is counted, and asked for again
            link.ask(Request(urgent or session.health.due(), session.ids, session.fast))
            self._take(link.reply())

    def _health_due(self) -> bool:
        return self._news() or time.monotonic_ns() - self._asked_health >= HEALTH_EVERY

    def _news(self) -> bool:
        """Whether a servo tells of a hardware error that is not known yet."""
        session = self._session
        return any(not session.health.error(session.ids.index(id_)) for id_ in session.link.alerts)

    def _take(self, reply: Reply) -> None:
        """Use a reply for what it is, whoever asked for it."""
        register, session = reply.request.register, self._session
        if register is self._present and reply.request.ids == session.ids:
            self._readings.append(reply)
        elif register in session.health.rotation and session.up:
            session.health.put(register, reply.values, reply.sent)
