"""Exchanges with servos, one at a time: every call ends by a deadline, and no reply is ever taken for that to a later request.

The protocols number no packets, so a request is outstanding until its reply has come, however late, or `SETTLE` has passed.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

from robot_wm.buses.serial_port import SerialPort
from robot_wm.buses.servo_port import BoundedPort
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError
from robot_wm.timebase import NS_PER_S

# [ns] after which a reply is lost: an FTDI adapter keeps it for up to 16 ms (ftdi_sio, latency_timer), the rest is the host's
# scheduling: under a planner of real-time priority a reply was seen to wait for the kernel's tty worker for more than 20 ms.
SETTLE = NS_PER_S // 20
USB = NS_PER_S // 500  # [ns] a frame of USB each way
RETURN_DELAY = 508_000  # [ns] the longest "Return Delay Time" of both makers: 254 units of 2 µs


class LateReply(BusError):
    """A reply has not come by the bound; it may still come."""


class UnsentRequest(Exception):
    """A request did not go out; no text: there was no room for it."""


class UnreadReply(Exception):
    """What has come of a reply is not all, or `torn`: it is not sound."""

    def __init__(self, who: str, torn: bool) -> None:
        super().__init__(who)
        self.who = who
        self.torn = torn


@dataclass(frozen=True)
class Request:
    """A sync read. A fast one is answered by a single packet that all servos build: one that is silent spoils it for all."""

    register: Register
    ids: tuple[int, ...]
    fast: bool = False
    extra: int = 0  # bytes read beyond the register: a length that tells its reply from those given up

    @property
    def width(self) -> int:
        """Bytes read of each servo."""
        return self.register.size + self.extra


class PacketProtocol(Protocol):
    """A maker's packets, on its SDK."""

    def request_size(self, request: Request) -> int:
        """Bytes of a request."""
        ...

    def reply_size(self, request: Request) -> int:
        """Bytes of all the answers to it, without stuffing."""
        ...

    def sync_read(self, port: BoundedPort, request: Request) -> None:
        """Send a request. Raises UnsentRequest."""
        ...

    def take(self, port: BoundedPort, request: Request) -> list[bytes]:
        """Error byte and value of each servo, in the order of the ids. Raises UnreadReply."""
        ...

    def sync_write(self, port: BoundedPort, register: Register, values: Mapping[int, bytes]) -> None:
        """Send values, which is not answered. Raises UnsentRequest."""
        ...

    def answering(self, port: BoundedPort) -> list[int]:
        """The ids that answer a ping to all by the port's deadline."""
        ...

    def alert(self, error: int) -> bool:
        """Whether an error byte tells of a servo that is not well, whatever the request was."""
        ...

    def refusal(self, error: int) -> str:
        """Why a servo did not do what it was asked, or nothing."""
        ...


@dataclass(frozen=True)
class Reply:
    """The values of a register, in the order of the ids."""

    request: Request
    sent: int  # [ns, monotonic] when the request was
    received: int  # [ns] when the reply was seen: the values were measured between the two
    values: list[bytes]

    @property
    def stamp(self) -> int:
        """The middle of the exchange [ns]: it errs by half of the exchange at most, however late the reply."""
        return (self.sent + self.received) // 2


class ServoLink:
    """Exchanges with servos. `bound` sets until when; `alerts` are the ids that last told of a hardware error.

    `late` is given the replies that nobody waits for any more. `fast_failed`: fast sync reads that failed in a row.
    `counts`: requests, replies, late (those not there by their bound), timeouts, corrupt, refused (by a servo, with an error).
    """

    def __init__(self, path: str, baud: int, protocol: PacketProtocol) -> None:
        self.serial = SerialPort(path, baud)
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("requests", "replies", "late", "timeouts", "corrupt", "refused"), 0)
        )
        self.alerts: set[int] = set()
        self.fast_failed = 0
        self.late: Callable[[Reply], None] = lambda reply: None
        self.outstanding: Request | None = None
        self._sent = 0  # when that was [ns]
        self._port = BoundedPort(self.serial)
        self._protocol = protocol

    def bound(self, deadline: int) -> None:
        """No call waits past `deadline` [ns, monotonic] from now on."""
        self._port.deadline = deadline

    def answering(self) -> list[int]:
        """The ids that answer a ping to all; takes until the deadline. Raises BusError when the port fails."""
        self.settle()
        self._port.drop()
        with self._sending():
            return sorted(self._protocol.answering(self._port))

    @property
    def given_up(self) -> int:
        """Replies that may still come, though nobody waits for them."""
        return self.counts["timeouts"] + self.counts["corrupt"]

    def sync_read(self, register: Register, ids: Iterable[int], fast: bool = False) -> list[bytes]:
        """A register of several servos, in their order. Raises LateReply; BusError naming the id where it is known."""
        self.ask(Request(register, tuple(ids), fast))
        return self.reply().values

    def ask(self, request: Request) -> None:
        """Send a request when the one before has been settled. Raises LateReply when that is not so by the bound."""
        self.settle()
        self._port.drop()
        sent = time.monotonic_ns()
        with self._sending():
            self._protocol.sync_read(self._port, request)
        self.outstanding, self._sent = request, sent

    def reply(self) -> Reply:
        """The reply to the outstanding request, waited for until the bound.

        Raises LateReply when it may still come, BusError when it is lost, torn or tells of an error.
        """
        request = self.outstanding
        assert request is not None
        self._port.fill(self._protocol.reply_size(request), self._port.deadline)
        self._port.rewind()
        try:
            parameters = self._protocol.take(self._port, request)
        except UnreadReply as unread:
            self._fail(request, unread.torn, unread.who)
        self.outstanding, self.fast_failed = None, 0
        self.counts["replies"] += len(parameters)
        self._judge(request, [p[0] for p in parameters])
        return Reply(request, self._sent, time.monotonic_ns(), [p[1 : 1 + request.register.size] for p in parameters])

    def settle(self) -> None:
        """Wait until nothing is outstanding; a reply that comes is given to `late`. Raises LateReply when the bound is first."""
        if self.outstanding is None:
            return
        bound = self._port.deadline
        self.bound(min(bound, self._sent + SETTLE))
        try:
            reply = self.reply()
        except LateReply:
            raise
        except BusError:
            if not self.serial.up:
                raise
        else:
            self.late(reply)
        finally:
            self.bound(bound)

    def sync_write(self, register: Register, values: Mapping[int, bytes], at_once: bool = False) -> None:
        """Write a register of several servos, which is not answered. Raises BusError.

        It waits until an outstanding reply has left the line, not until it has come here: then it is the host that is late.
        `at_once`: it does not, and may tear that reply.
        """
        if self.outstanding is not None and not at_once:
            free = self._sent + self.line_ns(self.outstanding)
            self._port.fill(self._protocol.reply_size(self.outstanding), min(free, self._port.deadline))
        with self._sending():
            self._protocol.sync_write(self._port, register, values)

    def line_ns(self, request: Request) -> int:
        """How long a request and its reply may hold the line [ns]."""
        bytes_ = self._protocol.request_size(request) + self._protocol.reply_size(request)
        return USB + len(request.ids) * RETURN_DELAY + bytes_ * 10 * NS_PER_S // self.serial.baud

    def _fail(self, request: Request, torn: bool, who: str) -> NoReturn:
        """Tell late from lost: a reply is here, though not sound, when as many bytes have come as it has."""
        if torn and self._port.come - self._port.skipped >= self._protocol.reply_size(request):
            self._lose(request, "corrupt", who)
        if time.monotonic_ns() - self._sent >= SETTLE:
            self._lose(request, "corrupt" if torn else "timeouts", who)
        self.counts["late"] += 1
        raise LateReply(f"{who} at {self.serial.path} did not answer yet")

    def _lose(self, request: Request, count: str, who: str) -> NoReturn:
        self.outstanding = None
        self.counts[count] += 1
        self.fast_failed += request.fast
        said = " did not answer" if count == "timeouts" else ": the answer was torn or corrupt"
        raise BusError(f"{who} at {self.serial.path}{said}")

    def _judge(self, request: Request, errors: list[int]) -> None:
        for id_, error in zip(request.ids, errors, strict=True):
            (self.alerts.add if self._protocol.alert(error) else self.alerts.discard)(id_)
        refusals = [(id_, self._protocol.refusal(error)) for id_, error in zip(request.ids, errors, strict=True)]
        refused = [(id_, why) for id_, why in refusals if why]
        self.counts["refused"] += len(refused)
        for id_, why in refused:
            raise BusError(f"servo {id_} at {self.serial.path} refuses: {why}")

    @contextlib.contextmanager
    def _sending(self) -> Iterator[None]:
        """Raise BusError for what was not sent."""
        self._port.is_using = False  # it stays true until a reply has come, or for ever when the port failed
        self.counts["requests"] += 1
        try:
            yield
        except UnsentRequest as unsent:
            why = str(unsent)
            path = self.serial.path
            raise (BusError(f"{path}: the SDK did not send: {why}") if why else self.serial.no_room()) from unsent
