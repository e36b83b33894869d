"""A connection with servos: who they are, whether they still answer. It is made again, an exchange per call, after a lost port."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic

from robot_wm.buses.serial_port import latency_timer_ms
from robot_wm.buses.servo_family import S, ServoFamily, UnfitServo, Wanted, patiently
from robot_wm.buses.servo_link import ServoLink
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError
from robot_wm.timebase import NS_PER_S

REOPEN_EVERY = NS_PER_S // 2  # [ns] tries to open a port that is gone
SILENCE = NS_PER_S  # [ns] without an answer: the connection is over
PLAIN_AFTER = 2  # fast sync reads that failed in a row: a plain one says who is silent
DISCOVERY_S = 1.0  # to find out who answers instead


class ServoSession(Generic[S]):
    """What is known of the servos at the other end. `check` raises UnfitServo when they cannot serve the contract.

    Args:
        timeout: bound of every call but `open` [ns].
    """

    def __init__(
        self,
        link: ServoLink,
        family: ServoFamily[S],
        wanted: Sequence[Wanted],
        timeout: int,
        check: Callable[[list[S]], None],
    ) -> None:
        self.link = link
        self.family = family
        self.wanted = list(wanted)
        self.ids = tuple(w.id for w in wanted)
        self.servos: list[S] = []  # empty: no connection
        self.health = family.health(len(self.ids))
        self.heard = 0  # when last [ns]
        self.latency_ms: int | None = None  # timer of the USB adapter; None: it has none
        self._fast = False  # every servo knows it
        self._timeout = timeout
        self._check = check
        self._open = False  # somebody wants a connection
        self._steps: Iterator[None] | None = None  # of a connection that is being made
        self._ended = "it was never opened"
        self._tried = 0  # when last [ns]

    @property
    def up(self) -> bool:
        return self.link.serial.up and bool(self.servos)

    @property
    def fast(self) -> bool:
        """Whether to use fast sync read now."""
        return self._fast and self.link.fast_failed < PLAIN_AFTER

    def open(self, timeout_s: float) -> None:
        """Connect; the torque is off then. Raises BusError when a servo is missing or unfit."""
        end = time.monotonic_ns() + round(timeout_s * NS_PER_S)
        self._connect()
        try:
            while not self.servos:
                try:
                    self._advance()
                except UnfitServo:
                    raise
                except BusError as error:
                    if not self.link.serial.up or time.monotonic_ns() >= end:
                        raise BusError(f"{error}{self._present_instead()}") from error
        except BusError:
            self.close("its servos were refused or did not answer")
            raise
        self._open = True

    def close(self, why: str = "it was closed") -> None:
        self._open = False
        self._end(why)
        self.link.serial.close(why)

    def lost(self) -> str:
        """Why there is no connection."""
        serial = self.link.serial
        return f"no connection to {serial.path}: {serial.lost if not serial.up else self._ended}"

    def require_up(self) -> None:
        """Raise BusError when there is no connection."""
        if not self.up:
            raise BusError(self.lost())

    def renew(self) -> None:
        """Return if there is a connection; else take one step towards a new one. Raises BusError if it takes more."""
        if self.up:
            return
        if not self._open:
            raise BusError(f"{self.lost()}; open the bus")
        if not self.link.serial.up:
            now = time.monotonic_ns()
            if now - self._tried < REOPEN_EVERY:
                raise BusError(f"{self.lost()}; plug it in")
            self._tried = now
            self._connect()
        self._advance()
        if not self.servos:
            raise BusError(f"{self.lost()}; they are asked who they are")

    def write_all(self, register: Register, value: int, ids: Sequence[int], at_once: bool = False) -> None:
        """Write the same value to several servos; see `ServoLink.sync_write`. Raises BusError."""
        self.link.sync_write(register, dict.fromkeys(ids, register.pack(value)), at_once)

    def notice_silence(self) -> None:
        """End the connection when nobody has been heard for long."""
        silent = time.monotonic_ns() - self.heard
        if silent > SILENCE:
            self._end(f"its servos did not answer for {silent / NS_PER_S:.1f} s{self._if_slow()}")

    def slow_adapter(self) -> str:
        """A warning about the USB adapter's latency timer, or nothing."""
        if self.latency_ms is None or self.latency_ms <= 1:
            return ""
        return (
            f"the USB adapter's latency timer is {self.latency_ms} ms and every answer waits for it: "
            "write 1 to /sys/bus/usb-serial/devices/<port>/latency_timer"
        )

    def _connect(self) -> None:
        """Open the port, and forget the servos that were known. Raises BusError."""
        self.link.serial.open()
        self.latency_ms = latency_timer_ms(self.link.serial.path)
        self._end("its servos have not answered yet")

    def _end(self, why: str) -> None:
        self.servos, self._steps, self._ended = [], None, why

    def _advance(self) -> None:
        """One exchange of getting to know the servos; after a failure it begins again. Raises BusError, UnfitServo."""
        self.link.bound(time.monotonic_ns() + self._timeout)
        steps, self._steps = self._steps or self._meet(), None
        if next(steps, self) is None:
            self._steps = steps

    def _meet(self) -> Iterator[None]:
        """Torque off, then every servo in turn; yields between exchanges."""
        for register, value in self.family.greeting:
            self.write_all(register, value, self.ids)
        yield
        servos = []
        for wanted in self.wanted:
            servos.append((yield from self.family.meet(self.link, wanted)))
            yield
        self._check(servos)
        health = self.family.health(len(self.ids))
        for register in (health.torque, health.errors):
            began = time.monotonic_ns()
            health.put(register, (yield from patiently(self.link, register, self.ids)), began)
            yield
        self._fast = self.family.knows_fast(servos)
        self.heard = time.monotonic_ns()
        self.health, self.servos = health, servos

    def _present_instead(self) -> str:
        """Who answers where somebody is missing, as a clause."""
        if not self.link.serial.up:
            return ""
        self.link.bound(time.monotonic_ns() + round(DISCOVERY_S * NS_PER_S))
        try:
            found = ", ".join(map(str, self.link.answering())) or "none"
        except BusError:
            return ""
        wanted = ", ".join(f"{w.id} ({w.joint})" for w in self.wanted)
        return f"; at {self.link.serial.baud} baud answer ids: {found}; wanted: {wanted}{self._if_slow()}"

    def _if_slow(self) -> str:
        slow = self.slow_adapter()
        return f"; {slow}" if slow else ""
