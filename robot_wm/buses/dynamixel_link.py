"""Exchanges with servos, one at a time: every call ends by a deadline, and no reply is ever taken for that to a later request.

Protocol 2.0 numbers no packets, so a request is outstanding until its reply has come, however late, or `SETTLE` has passed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from dynamixel_sdk import BROADCAST_ID, COMM_RX_TIMEOUT, COMM_SUCCESS, COMM_TX_FAIL

from robot_wm.buses.dynamixel_port import ALERT, BoundedPort, PacketHandler
from robot_wm.buses.dynamixel_table import Register
from robot_wm.buses.serial_port import SerialPort
from robot_wm.errors import BusError
from robot_wm.timebase import NS_PER_S

# [ns] after which a reply is lost: an FTDI adapter keeps it for up to 16 ms (ftdi_sio, latency_timer), the rest is the host's
# scheduling: under a planner of real-time priority a reply was seen to wait for the kernel's tty worker for more than 20 ms.
SETTLE = NS_PER_S // 20
USB = NS_PER_S // 500  # [ns] a frame of USB each way
RETURN_DELAY = 508_000  # [ns] the longest "Return Delay Time (9)"


class LateReply(BusError):
    """A reply has not come by the bound; it may still come."""


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

    @property
    def size(self) -> int:
        """Bytes of the reply, without stuffing."""
        servos = len(self.ids)
        return 8 + servos * (self.width + 4) if self.fast else servos * (self.width + 11)

    def line_ns(self, baud: int) -> int:
        """How long request and reply may hold the line [ns]."""
        return USB + len(self.ids) * RETURN_DELAY + (14 + len(self.ids) + self.size) * 10 * NS_PER_S // baud


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

    def __init__(self, path: str, baud: int) -> None:
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
        self._handler = PacketHandler()

    def bound(self, deadline: int) -> None:
        """No call waits past `deadline` [ns, monotonic] from now on."""
        self._port.deadline = deadline

    def answering(self) -> list[int]:
        """The ids that answer a ping to all; takes until the deadline. Raises BusError when the port fails."""
        self.settle()
        self._port.drop()
        found, _ = self._send(self._handler.broadcastPing)
        return sorted(int(id_) for id_ in found)

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
        ids = list(request.ids)
        sent = time.monotonic_ns()
        self._tell(self._handler.syncReadTx, request.register.address, request.width, ids, len(ids), request.fast)
        self.outstanding, self._sent = request, sent

    def reply(self) -> Reply:
        """The reply to the outstanding request, waited for until the bound.

        Raises LateReply when it may still come, BusError when it is lost, torn or tells of an error.
        """
        request = self.outstanding
        assert request is not None
        self._port.fill(request.size, self._port.deadline)
        self._port.rewind()
        parameters = self._fast_parameters(request) if request.fast else self._parameters(request)
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
            free = self._sent + self.outstanding.line_ns(self.serial.baud)
            self._port.fill(self.outstanding.size, min(free, self._port.deadline))
        data = [byte for id_, value in values.items() for byte in (id_, *value)]
        self._tell(self._handler.syncWriteTxOnly, register.address, register.size, data, len(data))

    def _parameters(self, request: Request) -> list[bytes]:
        """Error and value of each servo."""
        found = []
        for id_ in request.ids:
            parameters, result = self._handler.status(self._port, id_, 1 + request.width)
            if result != COMM_SUCCESS:
                self._fail(request, result, f"servo {id_}")
            found.append(parameters)
        return found

    def _fast_parameters(self, request: Request) -> list[bytes]:
        block = request.width + 4  # error, id, value, CRC (2)
        data, result = self._handler.status(self._port, BROADCAST_ID, block * len(request.ids) - 2)
        if result != COMM_SUCCESS:
            self._fail(request, result, "servos")
        blocks = [data[at : at + block] for at in range(0, len(data), block)]
        if [b[1] for b in blocks if len(b) >= block - 2] != list(request.ids):
            self._lose(request, "corrupt", "servos")
        return [b[:1] + b[2 : block - 2] for b in blocks]

    def _fail(self, request: Request, result: int, who: str) -> NoReturn:
        """Tell late from lost: a reply is here, though not sound, when as many bytes have come as it has."""
        torn = result != COMM_RX_TIMEOUT
        if torn and self._port.come - self._port.skipped >= request.size:
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
            (self.alerts.add if error & ALERT else self.alerts.discard)(id_)
        refused = [(id_, error & ~ALERT) for id_, error in zip(request.ids, errors, strict=True) if error & ~ALERT]
        self.counts["refused"] += len(refused)
        for id_, error in refused:
            raise BusError(f"servo {id_} at {self.serial.path} refuses: {self._handler.getRxPacketError(error)}")

    def _tell(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Send what is answered later or never. Raises BusError."""
        result = self._send(call, *arguments)
        if result == COMM_TX_FAIL:
            raise self.serial.no_room()
        if result != COMM_SUCCESS:
            raise BusError(f"{self.serial.path}: the SDK did not send: {self._handler.getTxRxResult(result)}")

    def _send(self, call: Callable[..., Any], *arguments: Any) -> Any:
        self._port.is_using = False  # it stays true until a reply has come, or for ever when the port failed
        self.counts["requests"] += 1
        return call(self._port, *arguments)
