"""Protocol 2.0 as the emulated servos speak it, against the manual and library of its maker (long streams: test_fuzz_packets)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.dynamixel_packets import (
    BROADCAST,
    MAX_LENGTH,
    Instruction,
    Packet,
    PacketDecoder,
    crc16,
    encode,
    fast_status,
    split,
    stuff,
    unstuff,
)

sdk = pytest.importorskip("dynamixel_sdk", reason="needs the extra `serial`")

# Bytes of which headers are made come often.
parameters = st.lists(st.sampled_from([0xFF, 0xFF, 0xFD, 0xFD, 0, 1, 0x55]) | st.integers(0, 255), max_size=60)
packets = st.builds(Packet, st.integers(0, 252) | st.just(BROADCAST), st.integers(0, 255), parameters.map(bytes))

# ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0", the examples of Ping, Read, Write and Sync Write.
EXAMPLES = [
    (Packet(1, Instruction.PING), "ffff fd00 01 0300 01 194e"),
    (Packet(1, Instruction.STATUS, bytes.fromhex("00 0604 26")), "fffffd00 01 0700 55 00 0604 26 655d"),
    (Packet(1, Instruction.READ, bytes.fromhex("8400 0400")), "fffffd00 01 0700 02 8400 0400 1d15"),
    (Packet(1, Instruction.WRITE, bytes.fromhex("7400 00020000")), "fffffd00 01 0900 03 7400 00020000 ca89"),
    (
        Packet(BROADCAST, Instruction.SYNC_WRITE, bytes.fromhex("7400 0400 01 96000000 02 aa000000")),
        "fffffd00 fe 1100 83 7400 0400 01 96000000 02 aa000000 8287",
    ),
]


@pytest.mark.parametrize(("packet", "wire"), EXAMPLES)
def test_packets_are_those_of_the_manual(packet, wire):
    assert encode(packet) == bytes.fromhex(wire)
    assert PacketDecoder().feed(bytes.fromhex(wire)) == [packet]


def test_a_fast_status_is_that_of_the_manual():
    blocks = [bytes.fromhex(text) for text in ("00 03 a6000000", "00 07 1f080000", "00 04 ff030000")]
    wire = "fffffd00 fe 1900 55 00 03 a6000000 8408 00 07 1f080000 16ca 00 04 ff030000 d19e"
    assert fast_status(blocks, 3) == bytes.fromhex(wire)
    assert fast_status(blocks[:1], 3) == bytes.fromhex(wire)[:16]
    assert fast_status([], 3) == b""


@given(packets)
def test_the_makers_library_computes_the_same_crc_and_takes_off_the_same_stuffing(packet):
    handler = sdk.PacketHandler(2.0)
    wire = encode(packet)
    assert handler.updateCRC(0, wire, len(wire) - 2) == int.from_bytes(wire[-2:], "little") == crc16(wire[:-2])


@given(packets)
def test_what_is_encoded_is_decoded(packet):
    assert PacketDecoder().feed(encode(packet)) == [packet]


@given(parameters.map(bytes))
def test_stuffing_hides_every_header_and_comes_off_again(data):
    assert unstuff(stuff(data)) == data
    hidden = stuff(data).replace(b"\xff\xff\xfd\xfd", b"")
    assert b"\xff\xff\xfd" not in hidden or data.count(b"\xff\xff\xfd")


@given(st.lists(packets, max_size=5), st.lists(st.integers(1, 40), max_size=30))
def test_chunks_may_end_anywhere(sent, cuts):
    data = b"".join(map(encode, sent))
    decoder, got = PacketDecoder(), []
    for cut in cuts:
        chunk, data = data[:cut], data[cut:]
        got += decoder.feed(chunk)
    assert got + decoder.feed(data) == sent


@given(st.binary(max_size=600), packets, packets)
def test_after_any_noise_the_second_packet_is_taken(noise, first, second):
    decoder = PacketDecoder()
    decoder.feed(noise)
    assert (decoder.feed(encode(first)) + decoder.feed(encode(second)))[-1:] == [second]


@given(packets, packets, st.data())
def test_a_torn_packet_costs_no_other(first, second, data):
    wire = encode(first)
    torn = wire[: data.draw(st.integers(0, len(wire) - 1))]
    assert PacketDecoder().feed(torn + encode(second))[-1:] == [second]


def test_memory_is_bounded_by_one_packet():
    decoder = PacketDecoder()
    for filler in (b"\x55", b"\xff", b"\xff\xff\xfd", b"\xff\xff\xfd\x00\x01\xf0\x03"):
        for _ in range(20):
            decoder.feed(filler * 1000)
            assert len(decoder._buffer) <= MAX_LENGTH + 7


@given(st.lists(packets, max_size=5), st.integers(0, 6))
def test_the_cable_tells_packets_apart(sent, cut):
    wires = [encode(packet) for packet in sent]
    rest = encode(Packet(1, Instruction.PING))[:cut]
    assert split(b"".join(wires) + rest) == (wires, rest)


@given(st.binary(max_size=300))
def test_the_cable_loses_no_byte(noise):
    frames, rest = split(noise)
    assert b"".join(frames) + rest == noise
