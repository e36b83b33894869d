"""Feetech's packets as the emulated servos speak them, against its manual and library (long streams: test_fuzz_packets)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.feetech_packets import BROADCAST, MAX_LENGTH, Instruction, Packet, PacketDecoder, encode, split

# Bytes of which headers are made come often.
parameters = st.lists(st.sampled_from([0xFF, 0xFF, 0, 1]) | st.integers(0, 255), max_size=60).map(bytes)
packets = st.builds(Packet, st.integers(0, 253) | st.just(BROADCAST), st.integers(0, 255), parameters)

# Feetech, "Communication Protocol User Manual", section 1.3: Ping, Read, Write, Sync Write and their answers.
EXAMPLES = [
    (Packet(1, Instruction.PING), "ffff 01 02 01 fb"),
    (Packet(1, 0), "ffff 01 02 00 fc"),
    (Packet(1, Instruction.READ, bytes.fromhex("38 02")), "ffff 01 04 02 38 02 be"),
    (Packet(1, 0, bytes.fromhex("18 05")), "ffff 01 04 00 18 05 dd"),
    (Packet(BROADCAST, Instruction.WRITE, bytes.fromhex("05 01")), "ffff fe 04 03 05 01 f4"),
    (Packet(BROADCAST, Instruction.SYNC_READ, bytes.fromhex("38 08 01 02")), "ffff fe 06 82 38 08 01 02 36"),
]


@pytest.mark.parametrize(("packet", "wire"), EXAMPLES)
def test_packets_are_those_of_the_manual(packet, wire):
    assert encode(packet) == bytes.fromhex(wire)
    assert PacketDecoder().feed(bytes.fromhex(wire)) == [packet]


@given(packets)
def test_what_is_encoded_is_decoded(packet):
    assert PacketDecoder().feed(encode(packet)) == [packet]


@given(st.lists(packets, max_size=5), st.lists(st.integers(1, 40), max_size=30))
def test_chunks_may_end_anywhere(sent, cuts):
    data = b"".join(map(encode, sent))
    decoder, got = PacketDecoder(), []
    for cut in cuts:
        chunk, data = data[:cut], data[cut:]
        got += decoder.feed(chunk)
    assert got + decoder.feed(data) == sent


@given(st.binary(max_size=600), packets)
def test_after_any_noise_and_a_silence_a_packet_is_taken(noise, packet):
    decoder = PacketDecoder()
    decoder.feed(noise)
    decoder.forget()
    assert decoder.feed(encode(packet)) == [packet]


def test_a_packet_behind_a_torn_one_is_found_by_its_own_checksum():
    torn, sound = encode(Packet(1, 3, bytes(8)))[:7], Packet(2, Instruction.PING)
    decoder = PacketDecoder()
    assert decoder.feed(torn + encode(sound) * 3)[-1:] == [sound]
    assert decoder.counts["checksum"] == 1


def test_memory_is_bounded_by_one_packet():
    decoder = PacketDecoder()
    for filler in (b"\x55", b"\xff", b"\xff\xff\x01", b"\xff\xff\x01\xf0"):
        for _ in range(20):
            decoder.feed(filler * 1000)
            assert len(decoder._buffer) <= MAX_LENGTH + 4


@given(st.lists(packets, max_size=5), st.integers(0, 5))
def test_the_cable_tells_packets_apart(sent, cut):
    wires = [encode(packet) for packet in sent]
    rest = encode(Packet(1, Instruction.PING))[:cut]
    assert split(b"".join(wires) + rest) == (wires, rest)


@given(st.binary(max_size=300))
def test_the_cable_loses_no_byte(noise):
    frames, rest = split(noise)
    assert b"".join(frames) + rest == noise
