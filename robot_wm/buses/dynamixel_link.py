"""The maker's SDK on a port that never blocks: every call ends by a deadline, whatever the line does.

Of dynamixel-sdk 4.1 as it is, a lost reply blocks for 34 ms and more (it assumes a USB latency timer of 16 ms), it spins while
it waits, measures time by the wall clock, never stuffs what it sends and takes stuffing off wrongly where there is more of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dynamixel_sdk import BROADCAST_ID, COMM_RX_TIMEOUT, COMM_SUCCESS, COMM_TX_FAIL
from dynamixel_sdk.port_handler import PortHandler
from dynamixel_sdk.protocol2_packet_handler import Protocol2PacketHandler

from robot_wm.buses.dynamixel_table import Register
from robot_wm.buses.serial_port import SerialPort
from robot_wm.errors import BusError

ALERT = 0x80  # of a status packet's error: see Hardware Error Status
BODY = 7  # where the instruction stands in a packet
HEADER = b"\xff\xff\xfd"


class BoundedPort(PortHandler):  # type: ignore[misc]
    """The SDK's port: what it asks of one, answered from a `SerialPort` until `deadline` [ns, monotonic]."""

    def __init__(self, serial: SerialPort) -> None:
        super().__init__(serial.path)
        self.serial = serial
        self.baudrate = serial.baud
        self.deadline = 0

    def clearPort(self) -> None:
        self.serial.clear()

    def readPort(self, length: int) -> bytes:
        if length <= 0 or time.monotonic_ns() >= self.deadline:
            return b""
        return self.serial.read(self.deadline, length)

    def writePort(self, packet: Iterable[int]) -> int:
        data = bytes(packet)
        return len(data) if self.serial.write(data) else 0

    def setPacketTimeout(self, packet_length: int) -> None:
        """The deadline stands."""

    def setPacketTimeoutMillis(self, msec: float) -> None:
        """The deadline stands."""

    def isPacketTimeout(self) -> bool:
        return time.monotonic_ns() >= self.deadline


class StuffingHandler(Protocol2PacketHandler):  # type: ignore[misc]
    """The SDK's packet handler with byte stuffing as in the e-Manual, "DYNAMIXEL Protocol 2.0", Packet Process."""

    def addStuffing(self, packet: list[int]) -> list[int]:
        return _replace_body(packet, HEADER, HEADER + b"\xfd")

    def removeStuffing(self, packet: list[int]) -> list[int]:
        return _replace_body(packet, HEADER + b"\xfd", HEADER)


class ServoLink:
    """Exchanges with servos. `bound` sets until when; `alerts` are the ids that last told of a hardware error.

    `counts`: requests, replies, timeouts, corrupt, refused (by a servo, with an error).
    """

    def __init__(self, path: str, baud: int) -> None:
        self.serial = SerialPort(path, baud)
        self.counts: Counter[str] = Counter(dict.fromkeys(("requests", "replies", "timeouts", "corrupt", "refused"), 0))
        self.alerts: set[int] = set()
        self._port = BoundedPort(self.serial)
        self._handler = StuffingHandler()

    def bound(self, deadline: int) -> None:
        """No call waits past `deadline` [ns, monotonic] from now on."""
        self._port.deadline = deadline

    def ping(self, id_: int) -> int:
        """Model number of a servo. Raises BusError when it does not answer."""
        model, result, error = self._ask(self._handler.ping, id_)
        self._judge(result, error, id_)
        return int(model)

    def answering(self) -> list[int]:
        """The ids that answer a ping to all; takes until the deadline. Raises BusError when the port fails."""
        found, _ = self._ask(self._handler.broadcastPing)
        return sorted(int(id_) for id_ in found)

    def read(self, id_: int, register: Register) -> bytes:
        """A register of one servo. Raises BusError."""
        data, result, error = self._ask(self._handler.readTxRx, id_, register.address, register.size)
        return self._sound(data, result, error, id_, register)

    def sync_read(self, register: Register, ids: Iterable[int], fast: bool) -> list[bytes]:
        """A register of several servos, in their order. Raises BusError naming the id where it is known.

        A fast one is answered by a single packet that all of them build: one that is silent spoils it for all.
        """
        asked = list(ids)
        self._send(self._handler.syncReadTx, register.address, register.size, asked, len(asked), fast)
        if fast:
            return self._fast_reply(register, asked)
        values = []
        for id_ in asked:
            data, result, error = self._ask_more(self._handler.readRx, id_, register.size)
            values.append(self._sound(data, result, error, id_, register))
        return values

    def sync_write(self, register: Register, values: Mapping[int, bytes]) -> None:
        """Write a register of several servos, which is not answered. Raises BusError."""
        data = [byte for id_, value in values.items() for byte in (id_, *value)]
        self._send(self._handler.syncWriteTxOnly, register.address, register.size, data, len(data))

    def _fast_reply(self, register: Register, ids: list[int]) -> list[bytes]:
        size = register.size + 4  # error, id, data, CRC (2)
        data, result, _ = self._ask_more(self._handler.fastSyncReadRx, BROADCAST_ID, size * len(ids))
        if result != COMM_SUCCESS:
            self._fail(result, "servos")
        blocks = [bytes(data[at : at + size]) for at in range(0, len(data), size)]
        if [block[1] for block in blocks if len(block) == size] != ids:
            raise self._corrupt("servos")
        return [
            self._sound(block[2:-2], result, block[0], id_, register) for id_, block in zip(ids, blocks, strict=True)
        ]

    def _send(self, call: Callable[..., Any], *arguments: Any) -> None:
        result = self._ask(call, *arguments)
        if result == COMM_TX_FAIL:
            raise self.serial.no_room()
        if result != COMM_SUCCESS:
            raise BusError(f"{self.serial.path}: the SDK did not send: {self._handler.getTxRxResult(result)}")

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        self._port.is_using = False  # it stays true when the port failed in the middle of an exchange
        self.counts["requests"] += 1
        return self._ask_more(call, *arguments)

    def _ask_more(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(self._port, *arguments)
        except IndexError as error:  # the SDK trusts the lengths that packets announce
            raise self._corrupt("servos") from error

    def _sound(self, data: Iterable[int], result: int, error: int, id_: int, register: Register) -> bytes:
        self._judge(result, error, id_)
        value = bytes(data)
        if len(value) != register.size:
            raise self._corrupt(f"servo {id_}")
        return value

    def _judge(self, result: int, error: int, id_: int) -> None:
        if result == COMM_TX_FAIL:
            raise self.serial.no_room()
        if result != COMM_SUCCESS:
            self._fail(result, f"servo {id_}")
        self.counts["replies"] += 1
        (self.alerts.add if error & ALERT else self.alerts.discard)(id_)
        if error & ~ALERT:
            self.counts["refused"] += 1
            said = self._handler.getRxPacketError(error & ~ALERT)
            raise BusError(f"servo {id_} at {self.serial.path} refuses: {said}")

    def _fail(self, result: int, who: str) -> None:
        if result != COMM_RX_TIMEOUT:
            raise self._corrupt(who)
        self.counts["timeouts"] += 1
        raise BusError(f"{who} at {self.serial.path} did not answer")

    def _corrupt(self, who: str) -> BusError:
        self.counts["corrupt"] += 1
        return BusError(f"{who} at {self.serial.path}: the answer was torn or corrupt")


def _replace_body(packet: list[int], old: bytes, new: bytes) -> list[int]:
    """Replace in instruction and parameters, in place; the length follows, room for the CRC stays."""
    end = BODY + (packet[5] | packet[6] << 8) - 2
    body = bytes(packet[BODY:end]).replace(old, new)
    packet[BODY:end] = body
    packet[5:BODY] = (len(body) + 2).to_bytes(2, "little")
    return packet
