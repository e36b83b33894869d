"""docs/serial_protocol.md against the code: the example's bytes, the tables' numbers."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from fastcrc import crc32

from robot_wm.buses.framing import HEADER, LARGEST, MAX_ENCODED, MAX_PAYLOAD, SHORTEST, VERSION, decode, encode
from robot_wm.buses.serial_protocol import (
    BOARD_FAULTS,
    COUNTERS,
    HEALTH,
    INFO,
    JOINT_FAULTS,
    MAX_JOINTS,
    MODES,
    BoardHealth,
    Fields,
    Flags,
    Info,
    State,
    Type,
    fault_words,
    state_size,
)
from robot_wm.errors import BusError

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "serial_protocol.md").read_text()
(EXAMPLE,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
LINES = {line.split()[0]: bytes.fromhex("".join(line.split()[1:])) for line in EXAMPLE.splitlines()}


@pytest.mark.parametrize("name", LINES)
def test_each_frame_of_the_example_is_what_it_is_called(name):
    data = LINES[name]
    frame = decode(data[:-1])
    assert frame.type == Type[name]
    assert frame.session == 0x1234
    assert encode(frame) == data


def test_the_examples_contents_are_as_described():
    info = Info.unpack(decode(LINES["INFO"][:-1]).payload)
    assert info == Info(1, 2, 1, MODES.index("effort"), Fields(31), 100, "left-arm")
    state = State.unpack(decode(LINES["STATE"][:-1]).payload, 2)
    assert state.position.tolist() == [0.5, -1.25]
    assert (state.request, state.captured, state.flags) == (2, 1_010_000, Flags.ENABLED)
    setpoint = decode(LINES["SETPOINT"][:-1])
    assert (setpoint.sequence, setpoint.time) == (3, 1_010_500)
    assert struct.unpack("<f", setpoint.payload) == (1.5,)
    assert "01 03 3412 03000000 446b0f00 0000c03f dd26bdea" in PAGE


def test_the_pages_numbers_are_the_codes():
    assert f"version {VERSION}\n" in PAGE.partition("\n\n")[0] + "\n"
    assert crc32.iso_hdlc(b"123456789") == 0xCBF43926
    assert (HEADER.size, SHORTEST, LARGEST, MAX_ENCODED, MAX_PAYLOAD) == (12, 16, 252, 253, 236)
    assert f"0..{MAX_PAYLOAD} bytes" in PAGE
    assert (INFO.size, HEALTH.size, state_size(0), state_size(1)) == (28, 64, 16, 30)
    assert f"since power-up: {', '.join(COUNTERS)} |" in PAGE
    for kind in Type:
        assert re.search(rf"\| 0x{kind:02x} \| {kind.name} \|", PAGE)
    for i, name in enumerate(JOINT_FAULTS):
        assert f"{1 << i} {name}" in PAGE.partition("joint faults: ")[2].partition("|")[0]
    for i, name in enumerate(BOARD_FAULTS):
        assert f"{1 << i} {name}" in PAGE.partition("board faults: ")[2].partition("|")[0]


def test_the_largest_board_fits_into_a_frame():
    assert state_size(MAX_JOINTS) <= MAX_PAYLOAD < state_size(MAX_JOINTS + 1)
    assert HEALTH.size + 4 * MAX_JOINTS <= MAX_PAYLOAD


def test_payloads_survive_the_wire():
    state = State(1, 2, 3, Flags.WATCHDOG, 1, np.arange(3.0), np.arange(3.0) + 4, np.arange(3.0) - 9, (0, 1, 64))
    again = State.unpack(state.pack(), 3)
    assert again.effort.tolist() == [-9, -8, -7] and again.faults == (0, 1, 64) and again.flags == Flags.WATCHDOG
    health = BoardHealth(7, 12.5, {name: i for i, name in enumerate(COUNTERS)}, np.array([20.0, 30.5, 40.0]))
    again = BoardHealth.unpack(health.pack(), 3)
    assert again.counters == health.counters and again.temperature.tolist() == [20, 30.5, 40]


@pytest.mark.parametrize("unpack", [Info.unpack, lambda p: State.unpack(p, 2), lambda p: BoardHealth.unpack(p, 2)])
def test_a_payload_of_another_size_is_one_sentence(unpack):
    with pytest.raises(BusError, match="frame carries 3 bytes, not"):
        unpack(b"abc")


def test_fault_words_name_their_bits():
    assert fault_words(0, JOINT_FAULTS) == ""
    assert fault_words(0b1_0000_0011, JOINT_FAULTS) == "over-temperature, over-current, fault bit 8"
