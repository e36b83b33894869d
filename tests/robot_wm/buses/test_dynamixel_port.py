"""What had to be put right about the SDK, against the servos' own codec."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("dynamixel_sdk", reason="needs the extra `serial`")

import dynamixel_sdk as sdk

from robot_wm.buses.dynamixel_port import PacketHandler
from robot_wm.buses.dynamixel_table import MODELS, error_words
from robot_wm.buses.serial_port import SerialPort, latency_timer_ms
from robot_wm.buses.servo_port import BoundedPort
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError
from sim.dynamixel_packets import BROADCAST, Instruction, Packet, encode

headers = st.lists(st.sampled_from([0xFF, 0xFF, 0xFD, 0xFD, 0, 1]), min_size=1, max_size=40).map(bytes)


class Wire:
    """A serial port that keeps what is written and gives what it was told to."""

    path, baud = "wire", 1_000_000

    def __init__(self, incoming=b""):
        self.written, self.incoming = b"", incoming

    def clear(self):
        self.incoming = b""

    def write(self, data):
        self.written += data
        return True

    def read(self, deadline, most):
        data, self.incoming = self.incoming[:most], self.incoming[most:]
        return data


def port(incoming=b"", seconds=60.0):
    made = BoundedPort(Wire(incoming))
    made.deadline = time.monotonic_ns() + round(seconds * 1e9)
    return made


def status(id_, parameters):
    return encode(Packet(id_, Instruction.STATUS, parameters))


@given(headers)
def test_what_is_sent_is_stuffed(data):
    line = port()
    assert PacketHandler().writeTxOnly(line, 1, 116, len(data), list(data)) == sdk.COMM_SUCCESS
    assert line.serial.written == encode(Packet(1, Instruction.WRITE, b"\x74\0" + data))


@given(headers)
def test_stuffing_is_taken_off_what_comes(data):
    line = port(status(1, b"\0" + data))
    assert PacketHandler().status(line, 1, 1 + len(data)) == (b"\0" + data, sdk.COMM_SUCCESS)


@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_answer_or_none_and_never_in_an_exception(noise):
    for id_, size in ((1, 5), (BROADCAST, 14)):
        assert PacketHandler().status(port(noise, seconds=0.0005), id_, size)[1] != sdk.COMM_PORT_BUSY


def test_a_reply_of_another_length_or_servo_is_skipped():
    """The SDK alone would cut the first and fill the second up with its CRC."""
    line = port(status(1, b"\0longer") + status(1, b"\0x") + status(2, b"\0abc") + status(1, b"\0abc"))
    assert PacketHandler().status(line, 1, 4) == (b"\0abc", sdk.COMM_SUCCESS)
    assert line.skipped == len(status(1, b"\0longer") + status(1, b"\0x") + status(2, b"\0abc"))


def test_an_error_is_an_answer_without_a_value():
    assert PacketHandler().status(port(status(1, b"\x07")), 1, 4) == (b"\x07", sdk.COMM_SUCCESS)


def test_half_a_reply_is_kept_for_the_other_half():
    whole = status(1, b"\0abc")
    for cut in range(len(whole)):
        line = port(whole[:cut], seconds=0.0005)
        assert PacketHandler().status(line, 1, 4)[1] != sdk.COMM_SUCCESS
        line.serial.incoming = whole[cut:]
        line.deadline = time.monotonic_ns() + 10**10
        line.rewind()
        assert PacketHandler().status(line, 1, 4) == (b"\0abc", sdk.COMM_SUCCESS)


def test_after_its_deadline_a_port_waits_for_nothing_more_and_keeps_what_comes():
    line = port(b"abc", seconds=0.0)
    assert line.readPort(3) == b""
    assert line.isPacketTimeout()
    line.deadline = time.monotonic_ns() + 10**10
    assert line.readPort(-4) == b""  # the SDK asks for it
    assert line.readPort(2) == b"ab"
    line.deadline = 0
    assert line.readPort(2) == b"c"
    line.rewind()
    assert line.readPort(3) == b"abc"
    line.drop()
    assert line.readPort(3) == b""


def test_the_latency_timer_is_read_where_the_adapter_has_one(tmp_path):
    (tmp_path / "ttyUSB7").mkdir()
    (tmp_path / "ttyUSB7" / "latency_timer").write_text("16\n")
    link = tmp_path / "usb-adapter"
    link.symlink_to(tmp_path / "ttyUSB7")
    assert latency_timer_ms(str(link), tmp_path) == 16
    assert latency_timer_ms("/dev/ttyACM0", tmp_path) is None


def test_negative_values_are_in_twos_complement():
    assert Register(102, 2).pack(-2) == b"\xfe\xff"
    assert Register(116, 4).pack(-1) == b"\xff\xff\xff\xff"


def test_hardware_errors_have_words():
    assert error_words(0) == ""
    assert error_words(0b100101) == "input voltage, overheating, overload"
    assert error_words(0b10) == "hardware error bit 1"


def test_models_are_told_apart_by_number():
    assert MODELS[1020].name == "XM430-W350" and MODELS[1020].current_unit == 2.69e-3
    assert MODELS[1200].fast_firmware == 46 and MODELS[1090].fast_firmware == 0
    assert len({model.name for model in MODELS.values()}) == len(MODELS)


def test_a_port_that_was_never_opened_says_so():
    with pytest.raises(BusError, match="no connection to nowhere: it was never opened; plug it in"):
        SerialPort("nowhere", 57600).write(b"x")
