"""Dynamixel Protocol 2.0 through the maker's SDK, on a port that never blocks and with bytes stuffed rightly.

Of dynamixel-sdk 4.1 as it is, a lost reply blocks for 34 ms and more (it assumes a USB latency timer of 16 ms), it spins while
it waits, measures time by the wall clock, throws half a reply away, cuts replies of a wrong length to the right one, never
stuffs what it sends and takes stuffing off wrongly where there is more of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from dynamixel_sdk import BROADCAST_ID, COMM_RX_CORRUPT, COMM_RX_TIMEOUT, COMM_SUCCESS, COMM_TX_FAIL
from dynamixel_sdk.protocol2_packet_handler import Protocol2PacketHandler

from robot_wm.buses.servo_link import Request, UnreadReply, UnsentRequest
from robot_wm.buses.servo_port import BoundedPort
from robot_wm.buses.servo_register import Register

ALERT = 0x80  # of a status packet's error: see Hardware Error Status
ID = 4  # where the id stands in a packet
BODY = 7  # the instruction, then the parameters; of a status packet the first is its error
HEADER = b"\xff\xff\xfd"


class PacketHandler(Protocol2PacketHandler):  # type: ignore[misc]
    """The SDK's packet handler, with byte stuffing as in the e-Manual, "DYNAMIXEL Protocol 2.0", Packet Process."""

    def addStuffing(self, packet: list[int]) -> list[int]:
        return _replace_body(packet, HEADER, HEADER + b"\xfd")

    def removeStuffing(self, packet: list[int]) -> list[int]:
        return _replace_body(packet, HEADER + b"\xfd", HEADER)

    def status(self, port: BoundedPort, id_: int, size: int) -> tuple[bytes, int]:
        """Parameters of the next status packet of `id_` that has `size` of them, or only an error; and the SDK's result.

        Others are skipped: what has another length answers another request. Packets of all servos come unstuffed.
        """
        try:
            while True:
                packet, result = self.rxPacket(port, id_ == BROADCAST_ID)
                if result != COMM_SUCCESS:
                    return b"", result
                parameters = bytes(packet[BODY + 1 : -2])
                refused = len(parameters) == 1 and parameters[0] & ~ALERT
                if packet[ID] == id_ and (len(parameters) == size or refused):
                    return parameters, result
                port.skipped += len(packet)
        except IndexError:  # the SDK trusts the lengths that packets announce
            return b"", COMM_RX_CORRUPT


class Protocol2:
    """`PacketProtocol` of Dynamixel servos."""

    def __init__(self) -> None:
        self._handler = PacketHandler()

    def request_size(self, request: Request) -> int:
        return 14 + len(request.ids)

    def reply_size(self, request: Request) -> int:
        servos = len(request.ids)
        return 8 + servos * (request.width + 4) if request.fast else servos * (request.width + 11)

    def sync_read(self, port: BoundedPort, request: Request) -> None:
        ids = list(request.ids)
        sent = self._handler.syncReadTx(port, request.register.address, request.width, ids, len(ids), request.fast)
        self._require_sent(sent)

    def take(self, port: BoundedPort, request: Request) -> list[bytes]:
        return self._take_fast(port, request) if request.fast else self._take_plain(port, request)

    def sync_write(self, port: BoundedPort, register: Register, values: Mapping[int, bytes]) -> None:
        data = [byte for id_, value in values.items() for byte in (id_, *value)]
        sent = self._handler.syncWriteTxOnly(port, register.address, register.size, data, len(data))
        self._require_sent(sent)

    def answering(self, port: BoundedPort) -> list[int]:
        found, _ = self._handler.broadcastPing(port)
        return list(map(int, found))

    def alert(self, error: int) -> bool:
        return bool(error & ALERT)

    def refusal(self, error: int) -> str:
        return str(self._handler.getRxPacketError(error & ~ALERT)) if error & ~ALERT else ""

    def _require_sent(self, result: int) -> None:
        if result != COMM_SUCCESS:
            raise UnsentRequest("" if result == COMM_TX_FAIL else self._handler.getTxRxResult(result))

    def _take_plain(self, port: BoundedPort, request: Request) -> list[bytes]:
        found = []
        for id_ in request.ids:
            parameters, result = self._handler.status(port, id_, 1 + request.width)
            if result != COMM_SUCCESS:
                raise UnreadReply(f"servo {id_}", result != COMM_RX_TIMEOUT)
            found.append(parameters)
        return found

    def _take_fast(self, port: BoundedPort, request: Request) -> list[bytes]:
        block = request.width + 4  # error, id, value, CRC (2)
        data, result = self._handler.status(port, BROADCAST_ID, block * len(request.ids) - 2)
        if result != COMM_SUCCESS:
            raise UnreadReply("servos", result != COMM_RX_TIMEOUT)
        blocks = [data[at : at + block] for at in range(0, len(data), block)]
        if [b[1] for b in blocks if len(b) >= block - 2] != list(request.ids):
            raise UnreadReply("servos", torn=True)
        return [b[:1] + b[2 : block - 2] for b in blocks]


def _replace_body(packet: list[int], old: bytes, new: bytes) -> list[int]:
    """Replace in instruction and parameters, in place; the length follows, room for the CRC stays."""
    end = BODY + (packet[5] | packet[6] << 8) - 2
    body = bytes(packet[BODY:end]).replace(old, new)
    packet[BODY:end] = body
    packet[5:BODY] = (len(body) + 2).to_bytes(2, "little")
    return packet
