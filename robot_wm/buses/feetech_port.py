"""Feetech's packets through the maker's SDK (as packaged in feetech-servo-sdk, which LeRobot uses), on a port that never blocks.

FF FF | id | length | instruction or error, parameters | ~sum; length counts from the instruction on, nothing is stuffed. Source:
Feetech, "Communication Protocol User Manual", sections 1.2 and 1.3.

Of feetech-servo-sdk 1.0 as it is, a lost reply blocks for 34 ms and more, it spins meanwhile and goes by the wall clock, its
sync read takes the answers of every servo in turn and cuts those of a wrong length to the right one.
"""

from __future__ import annotations

from collections.abc import Mapping

from scservo_sdk import BROADCAST_ID, COMM_RX_CORRUPT, COMM_RX_TIMEOUT, COMM_SUCCESS, COMM_TX_FAIL, INST_PING
from scservo_sdk.protocol_packet_handler import protocol_packet_handler

from robot_wm.buses.servo_link import Request, UnreadReply, UnsentRequest
from robot_wm.buses.servo_port import BoundedPort
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError

ID = 2  # where the id stands in a packet
ERROR = 4  # the error byte of an answer, then the parameters


class PacketHandler(protocol_packet_handler):  # type: ignore[misc]
    """The SDK's packet handler, which takes an answer only if it is one to the request."""

    def status(self, port: BoundedPort, id_: int | None, size: int) -> tuple[bytes, int]:
        """Id, error and parameters of the next answer of `id_`, or of anybody, with `size` parameters; and the SDK's result.

        Others are skipped: what has another length answers another request.
        """
        try:
            while True:
                packet, result = self.rxPacket(port)
                if result != COMM_SUCCESS:
                    return b"", result
                body = bytes(packet[ERROR:-1])
                if len(body) == 1 + size and packet[3] == size + 2 and id_ in (None, packet[ID]):
                    return bytes([packet[ID]]) + body, result
                port.skipped += len(packet)
        except IndexError:  # the SDK trusts the lengths that packets announce
            return b"", COMM_RX_CORRUPT


class FeetechProtocol:
    """`PacketProtocol` of Feetech STS and SMS servos. Raises BusError where another package has overwritten the SDK."""

    def __init__(self) -> None:
        try:
            self._handler = PacketHandler()
        except TypeError as error:
            raise BusError(
                "the installed scservo_sdk is that of ftservo-python-sdk, whose calls differ; uninstall it, then "
                "pip install --force-reinstall 'feetech-servo-sdk<2'"
            ) from error

    def request_size(self, request: Request) -> int:
        return 8 + len(request.ids)

    def reply_size(self, request: Request) -> int:
        return len(request.ids) * (request.width + 6)

    def sync_read(self, port: BoundedPort, request: Request) -> None:
        ids = list(request.ids)
        sent = self._handler.syncReadTx(port, request.register.address, request.width, ids, len(ids))
        self._require_sent(sent)

    def take(self, port: BoundedPort, request: Request) -> list[bytes]:
        found = []
        for id_ in request.ids:
            answer, result = self._handler.status(port, id_, request.width)
            if result != COMM_SUCCESS:
                raise UnreadReply(f"servo {id_}", result != COMM_RX_TIMEOUT)
            found.append(answer[1:])
        return found

    def sync_write(self, port: BoundedPort, register: Register, values: Mapping[int, bytes]) -> None:
        data = [byte for id_, value in values.items() for byte in (id_, *value)]
        sent = self._handler.syncWriteTxOnly(port, register.address, register.size, data, len(data))
        self._require_sent(sent)

    def answering(self, port: BoundedPort) -> list[int]:
        self._require_sent(self._handler.txPacket(port, [0, 0, BROADCAST_ID, 2, INST_PING, 0]))
        found = set()
        while not port.isPacketTimeout():
            answer, result = self._handler.status(port, None, 0)
            if result == COMM_SUCCESS:
                found.add(answer[0])
        return sorted(found)

    def alert(self, error: int) -> bool:
        return bool(error)

    def refusal(self, error: int) -> str:
        return ""  # every bit is a state of the servo: it answers all the same

    def _require_sent(self, result: int) -> None:
        if result != COMM_SUCCESS:
            raise UnsentRequest("" if result == COMM_TX_FAIL else self._handler.getTxRxResult(result))
