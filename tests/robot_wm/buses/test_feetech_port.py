"""What had to be put right about Feetech's SDK, and the numbers of its servos, against the servos' own codec."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scservo_sdk", reason="needs the extra `serial`")

import scservo_sdk as sdk

from robot_wm.buses.feetech_port import FeetechProtocol, PacketHandler
from robot_wm.buses.feetech_table import LOAD_SIGN, SIGN, pack_signed, signed, status_words
from robot_wm.buses.servo_link import Request, UnreadReply, UnsentRequest
from robot_wm.buses.servo_port import BoundedPort
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError
from sim.feetech_packets import BROADCAST, Instruction, Packet, PacketDecoder, encode

BOTH = Request(Register(56, 2), (1, 2))


class Wire:
    """A serial port that keeps what is written and gives what it was told to."""

    path, baud = "wire", 1_000_000

    def __init__(self, incoming=b""):
        self.written, self.incoming, self.room = b"", incoming, True

    def write(self, data):
        self.written += data
        return self.room

    def read(self, deadline, most):
        data, self.incoming = self.incoming[:most], self.incoming[most:]
        return data


def port(incoming=b"", seconds=60.0):
    made = BoundedPort(Wire(incoming))
    made.deadline = time.monotonic_ns() + round(seconds * 1e9)
    return made


def answer(id_, values, status=0):
    return encode(Packet(id_, status, values))


def test_requests_are_as_the_servos_understand_them():
    line, protocol = port(), FeetechProtocol()
    protocol.sync_read(line, BOTH)
    line.is_using = False
    protocol.sync_write(line, Register(42, 2), {1: b"\x00\x08", 2: b"\xff\xff"})
    assert PacketDecoder().feed(line.serial.written) == [
        Packet(BROADCAST, Instruction.SYNC_READ, bytes([56, 2, 1, 2])),
        Packet(BROADCAST, Instruction.SYNC_WRITE, bytes([42, 2, 1, 0, 8, 2, 255, 255])),
    ]
    assert protocol.request_size(BOTH) == 10 and protocol.reply_size(BOTH) == 16


def test_what_found_no_room_or_is_too_long_was_not_sent():
    line, protocol = port(), FeetechProtocol()
    line.serial.room = False
    with pytest.raises(UnsentRequest, match=r"^$"):
        protocol.sync_read(line, BOTH)
    with pytest.raises(UnsentRequest, match="Incorrect instruction packet"):
        protocol.sync_write(line, Register(41, 7), dict.fromkeys(range(40), bytes(7)))


def test_answers_of_all_servos_are_told_apart():
    line = port(answer(1, b"ab", status=4) + answer(2, b"cd"))
    assert FeetechProtocol().take(line, BOTH) == [b"\x04ab", b"\0cd"]


@pytest.mark.parametrize(("incoming", "torn"), [(b"", False), (answer(1, b"ab"), False), (answer(1, b"ab")[:5], True)])
def test_what_is_missing_is_told_from_what_is_torn(incoming, torn):
    with pytest.raises(UnreadReply) as unread:
        FeetechProtocol().take(port(incoming, seconds=0.0005), BOTH)
    assert unread.value.torn == torn


def test_an_answer_of_another_length_or_servo_is_skipped():
    """The SDK alone would cut the first to the right length."""
    others = answer(1, b"longer") + answer(1, b"x") + answer(2, b"ab")
    line = port(others + answer(1, b"ab"))
    assert PacketHandler().status(line, 1, 2) == (b"\x01\0ab", sdk.COMM_SUCCESS)
    assert line.skipped == len(others)


@given(st.lists(st.sampled_from([0xFF, 0xFF, 0xFF, 1, 2, 3, 0xFA]), max_size=40).map(bytes) | st.binary(max_size=300))
def test_any_bytes_end_in_an_answer_or_none_and_never_in_an_exception(noise):
    line = port(noise, seconds=0.0005)
    answer_, result = PacketHandler().status(line, 1, 2)
    assert (len(answer_) == 4) == (result == sdk.COMM_SUCCESS)


def test_everybody_who_answers_a_ping_is_found():
    line = port(answer(3, b"") + b"\xff\x00noise" + answer(1, b"", status=32), seconds=0.2)
    assert FeetechProtocol().answering(line) == [1, 3]
    assert PacketDecoder().feed(line.serial.written) == [Packet(BROADCAST, Instruction.PING)]


def test_the_other_package_of_the_same_name_is_told(monkeypatch):
    monkeypatch.setattr(PacketHandler, "__init__", lambda self, port, byte_order: None)  # as in ftservo-python-sdk 2
    with pytest.raises(BusError, match="scservo_sdk is that of ftservo-python-sdk"):
        FeetechProtocol()


@given(st.integers(-32767, 32767))
def test_numbers_are_a_magnitude_and_a_sign_bit(value):
    raw = pack_signed(value, SIGN)
    assert signed(np.frombuffer(raw, "<u2"), SIGN) == [value]
    assert sdk.SCS_TOHOST(int.from_bytes(raw, "little"), SIGN) == value


def test_loads_have_their_sign_in_bit_10():
    assert pack_signed(-1000, LOAD_SIGN) == (1000 | 1 << 10).to_bytes(2, "little")
    assert signed(np.array([1000 | 1 << 10, 1000, 1 << 10]), LOAD_SIGN).tolist() == [-1000, 1000, 0]


def test_a_status_has_words():
    assert status_words(0) == ""
    assert status_words(0b100101) == "input voltage, overheating, overload"
    assert status_words(0b1000000) == "status bit 6"
