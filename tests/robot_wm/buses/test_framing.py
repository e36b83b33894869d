"""Frames on a serial line; test_fuzz_framing.py has the long streams."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.buses.framing import (
    MAX_ENCODED,
    MAX_PAYLOAD,
    REASONS,
    VERSION,
    Decoder,
    Frame,
    ahead,
    decode,
    encode,
)

U32 = st.integers(0, 2**32 - 1)
frames = st.builds(
    Frame, st.integers(0, 255), st.integers(0, 65535), U32, U32, st.binary(max_size=MAX_PAYLOAD), st.just(VERSION)
)


def stream(count, session=7, start=1, size=20):
    return [Frame(3, session, start + i, 1000 * i, bytes([i % 256]) * size) for i in range(count)]


def following(session=7, after=0):
    decoder = Decoder()
    decoder.follow(session, after)
    return decoder


@given(frames)
def test_what_is_encoded_is_decoded(frame):
    data = encode(frame)
    assert decode(data[:-1]) == frame
    assert data.count(0) == 1 and data[-1] == 0
    assert len(data) == len(frame.payload) + 18  # one byte of COBS, whatever the payload


def test_the_checksum_is_that_of_zlib():
    body = bytes.fromhex("01 02 3412 01000000 00000000 00")
    assert encode(Frame(2, 0x1234, 1, 0, b"\0"))[:-1] != body
    decoder = Decoder()
    from cobs import cobs

    data = cobs.encode(body + zlib.crc32(body).to_bytes(4, "little")) + b"\0"
    assert decoder.feed(data) == [Frame(2, 0x1234, 1, 0, b"\0")]


def test_a_payload_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="237 bytes does not fit"):
        encode(Frame(1, 1, 1, 0, bytes(MAX_PAYLOAD + 1)))


@given(st.lists(frames, max_size=5), st.lists(st.integers(1, 40), max_size=30))
def test_chunks_may_end_anywhere(sent, cuts):
    data = b"".join(map(encode, sent))
    decoder, got = Decoder(), []
    for cut in cuts:
        chunk, data = data[:cut], data[cut:]
        got += decoder.feed(chunk)
    got += decoder.feed(data)
    assert got == sent


@given(st.binary(max_size=2000), st.binary(max_size=600))
def test_random_bytes_are_no_frames_and_never_raise(first, second):
    decoder = Decoder()
    assert decoder.feed(first) + decoder.feed(second) == []
    assert len(decoder._partial) <= MAX_ENCODED


@given(st.binary(max_size=600))
def test_after_any_noise_the_second_frame_is_taken(noise):
    decoder = following()
    decoder.feed(noise)
    first, second, third = stream(3)
    got = [f for frame in (first, second, third) for f in decoder.feed(encode(frame))]
    assert got[-2:] == [second, third]


def test_memory_is_bounded_by_one_frame():
    decoder = Decoder()
    for _ in range(100):
        decoder.feed(b"\x55" * 10_000)
        assert len(decoder._partial) <= MAX_ENCODED
    assert decoder.feed(b"\0") == []
    assert decoder.counts["length"] == 1


def test_every_reason_is_counted():
    decoder = following()
    good = encode(Frame(2, 7, 5, 0))
    broken = bytearray(encode(Frame(2, 7, 6, 0, b"abcdef")))
    broken[-4] ^= 1 if broken[-4] != 1 else 2
    decoder.feed(good)  # 1..4 never came
    decoder.feed(bytes(broken))
    decoder.feed(b"\x09\x01\0")  # a code that points past the end
    decoder.feed(b"\x02\x01\0")  # too short
    decoder.feed(b"\x01" * 300 + b"\0")  # too long
    decoder.feed(encode(Frame(2, 7, 6, 0, version=2)))
    decoder.feed(encode(Frame(2, 8, 6, 0)))
    decoder.feed(good)
    decoder.feed(encode(Frame(2, 7, 3, 0)))
    expected = {"crc": 1, "framing": 1, "length": 2, "version": 1, "session": 1, "lost": 4, "duplicate": 1, "stale": 1}
    assert {reason: decoder.counts[reason] for reason in REASONS} == expected
    assert decoder.foreign_version() == 0 and decoder.foreign.session == 8


def test_sequence_numbers_go_on_past_the_wrap():
    decoder = following(after=2**32 - 2)
    got = [f.sequence for s in (2**32 - 1, 2**32, 2**32 + 1) for f in decoder.feed(encode(Frame(2, 7, s, 0)))]
    assert got == [2**32 - 1, 0, 1]
    assert decoder.counts["lost"] == 0


@given(U32, st.integers(-(2**31), 2**31 - 1))
def test_distance_on_the_circle_is_signed(start, step):
    assert ahead((start + step) % 2**32, start) == step


@given(st.lists(st.sampled_from(["keep", "drop", "twice", "late"]), max_size=60))
def test_what_was_sent_is_what_came_and_what_was_lost(fates):
    decoder, late, got = following(), [], []
    sent = stream(len(fates) + 1)
    for frame, fate in zip(sent, [*fates, "keep"], strict=True):
        if fate == "late":
            late.append(frame)
        elif fate != "drop":
            got += decoder.feed(encode(frame) * (2 if fate == "twice" else 1))
    for frame in late:
        got += decoder.feed(encode(frame))
    assert decoder.counts["frames"] + decoder.counts["lost"] == len(sent)
    assert decoder.counts["stale"] == len(late)
    assert decoder.counts["duplicate"] == fates.count("twice")
    assert [f.sequence for f in got] == sorted({f.sequence for f in got})
