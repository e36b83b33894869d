"""A session with a board: handshake, answers, clock. It is begun again, without waiting, after a lost port or a restarted board."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from robot_wm.buses.framing import Frame
from robot_wm.buses.mcu_clock import McuClock
from robot_wm.buses.serial_handshake import no_answer
from robot_wm.buses.serial_link import SerialLink
from robot_wm.buses.serial_protocol import BoardHealth, Info, State, Type
from robot_wm.errors import BusError
from robot_wm.timebase import NS_PER_S

HELLO_EVERY = NS_PER_S // 10  # [ns]
REOPEN_EVERY = NS_PER_S // 2  # [ns] tries to open a port that is gone
SILENCE = NS_PER_S  # [ns] without an answer: the session is over, the board has cut the power long ago
UNANSWERED = 64  # requests remembered


class Session:
    """What is known of the board at the other end. `check` raises BusError when it is not the right one."""

    def __init__(self, link: SerialLink, check: Callable[[Info], None]) -> None:
        self.link = link
        self.clock = McuClock()
        self.info: Info | None = None  # None: no session
        self.state: State | None = None  # the newest
        self.stamp = 0  # of its capture [ns, monotonic]
        self.news = False  # it has not been handed out
        self.health: BoardHealth | None = None
        self.ended = "it was never opened"  # why there is no session
        self._check = check
        self._open = False  # somebody wants a session
        self._sent: dict[int, int] = {}  # requests without an answer: sequence → when [ns]
        self._hello = self._tried = self._heard = 0  # when last [ns]

    @property
    def up(self) -> bool:
        return self.link.up and self.info is not None

    def open(self, timeout_s: float) -> None:
        """Connect; the board's motors are off then. Raises BusError when there is no board, or not the right one."""
        end = time.monotonic_ns() + round(timeout_s * NS_PER_S)
        self.link.open()
        self._open = True
        self._begin()
        try:
            while self.info is None:
                if time.monotonic_ns() >= end or self.link.decoder.foreign_version():
                    raise BusError(no_answer(self.link, timeout_s))
                self._greet(min(end, time.monotonic_ns() + HELLO_EVERY))
        except BusError:
            self.close("its board was refused or did not answer")
            raise

    def close(self, why: str = "it was closed") -> None:
        self._open = False
        self.info, self.ended = None, why
        self.link.close(why)

    def lost(self) -> str:
        """Why there is no session."""
        return f"no connection to {self.link.path}: {self.link.lost if not self.link.up else self.ended}"

    def renew(self) -> None:
        """Return if there is a session; else take one step towards a new one, without waiting. Raises BusError if it takes more."""
        if self.up:
            return
        if not self._open:
            raise BusError(f"{self.lost()}; open the bus")
        now = time.monotonic_ns()
        if not self.link.up:
            if now - self._tried < REOPEN_EVERY:
                raise BusError(f"{self.lost()}; plug it in")
            self._tried = now
            self.link.open()
            self._begin()
        self._greet(0)
        if not self.up:
            raise BusError(f"{self.lost()}; its board does not answer yet")

    def ask(self, kind: Type, payload: bytes = b"") -> int:
        """Send a request and return its sequence number. Raises BusError."""
        now = time.monotonic_ns()
        request = self.link.send(kind, self.clock.to_mcu(now), payload)
        self._sent[request] = now
        while len(self._sent) > UNANSWERED:
            del self._sent[next(iter(self._sent))]
        return request

    def tell(self, kind: Type, payload: bytes) -> None:
        """Send what is not answered. Raises BusError."""
        self.link.send(kind, self.clock.to_mcu(time.monotonic_ns()), payload)

    def wait(self, request: int, deadline: int, health: bool = False) -> bool:
        """Take what comes until `request` or a later one is answered; False at the deadline [ns]. Raises BusError."""
        while not (
            self.state is not None
            and self.state.request >= request
            and (not health or (self.health is not None and self.health.request >= request))
        ):
            if time.monotonic_ns() >= deadline:
                self._notice_silence()
                return False
            self.receive(deadline)
        return True

    def receive(self, deadline: int) -> None:
        """Take what has come, after a wait until `deadline` [ns] at most. Raises BusError."""
        for arrival, frame in self.link.receive(deadline):
            if frame.session == self.link.session:
                self._take(frame, arrival)
        foreign = self.link.decoder.foreign
        if self.info is not None and foreign is not None and foreign.type == Type.INFO and foreign.session == 0:
            self._end("the board has restarted")

    def _begin(self) -> None:
        """Forget the last session; the new one has another number, so that nothing old is taken for new."""
        self.link.begin(1 + secrets.randbelow(0xFFFF))
        self.clock = McuClock()
        self.state = self.health = self.info = None
        self.news = False
        self._hello = 0
        self._sent.clear()

    def _end(self, why: str) -> None:
        self._begin()
        self.ended = why

    def _greet(self, deadline: int) -> None:
        """Say hello if it is time to, and listen until `deadline` [ns]."""
        now = time.monotonic_ns()
        if now - self._hello >= HELLO_EVERY:
            self._hello = now
            self.ask(Type.HELLO)
        self.receive(deadline)
        if self.info is not None:
            try:
                self._check(self.info)
            except BusError:
                self._end("another board answers there")
                raise

    def _take(self, frame: Frame, arrival: int) -> None:
        if frame.type == Type.INFO:
            self._take_info(Info.unpack(frame.payload), frame, arrival)
        elif self.info is None:
            return
        elif frame.type == Type.STATE:
            state = State.unpack(frame.payload, self.info.joints)
            self._answered(state.request, frame.time, arrival)
            if self.state is None or state.captured != self.state.captured:  # one reading keeps one stamp
                self.stamp = max(self.stamp + 1, min(self.clock.to_host(state.captured), arrival))
            self.state, self.news = state, True
        elif frame.type == Type.HEALTH:
            self.health = BoardHealth.unpack(frame.payload, self.info.joints)

    def _take_info(self, info: Info, frame: Frame, arrival: int) -> None:
        if info.request not in self._sent:
            return
        self._answered(info.request, frame.time, arrival)
        if self.info is None:
            self.link.decoder.follow(frame.session, frame.sequence)
            self.info = info

    def _answered(self, request: int, time: int, arrival: int) -> None:
        self._heard = arrival
        sent = self._sent.pop(request, None)
        if sent is not None:
            self.clock.add(sent, time, arrival)

    def _notice_silence(self) -> None:
        silent = time.monotonic_ns() - self._heard
        if self.info is not None and silent > SILENCE:
            self._end(f"the board did not answer for {silent / NS_PER_S:.1f} s")
