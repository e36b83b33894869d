"""Our frames under random and damaged bytes. ROBOT_WM_FUZZ_BYTES sets how many."""

from contextlib import suppress

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fuzz_tools import campaign, damaged, fuzz_bytes, random_bytes, report
from robot_wm.buses.framing import MAX_ENCODED, MAX_PAYLOAD, Decoder, Frame, encode
from robot_wm.buses.serial_protocol import HEALTH, INFO, BoardHealth, Info, State, state_size
from robot_wm.errors import BusError


def frame(rng):
    kind, session, sequence, time = (int(rng.integers(0, end)) for end in (256, 65536, 2**32, 2**32))
    return Frame(kind, session, sequence, time, random_bytes(rng, int(rng.integers(0, MAX_PAYLOAD + 1))))


def noise(rng):
    """Many pieces of all lengths."""
    data = np.frombuffer(random_bytes(rng, 10_000), np.uint8).copy()
    data[rng.integers(0, data.size, 300)] = 0
    return data.tobytes() + b"\xff" * int(rng.integers(0, 1000))


def test_no_frame_is_taken_that_was_not_sent_and_after_noise_the_second_is():
    decoder = Decoder()
    kept = (lambda: len(decoder._partial), MAX_ENCODED)
    campaign("serial", decoder, frame, encode, noise, "crc", 2.0**-32, kept=kept)


def test_a_damaged_session_hands_out_frames_that_were_sent_each_once_in_order_and_counts_the_others():
    rng = np.random.default_rng(0)
    decoder, seen, number = Decoder(), 0, 1
    decoder.follow(7, 0)
    while seen < fuzz_bytes():
        size = int(rng.integers(0, 60))
        batch = [Frame(3, 7, number + i, 1000 * i, random_bytes(rng, size)) for i in range(200)]
        number += len(batch)
        data = damaged(rng, b"".join(map(encode, batch)))
        by_sequence = {item.sequence: item for item in batch}
        for item in decoder.feed(data):
            assert by_sequence.pop(item.sequence) == item
        seen += len(data)
    decoder.feed(encode(Frame(3, 7, number, 0)) * 2)  # whatever the noise has left behind, the second gets through
    report("serial session", **decoder.counts)
    assert decoder.counts["frames"] + decoder.counts["lost"] == number


@given(st.integers(1, 15), st.data())
def test_a_sound_frame_with_any_payload_is_read_or_refused(joints, data):
    sizes = st.sampled_from([INFO.size, state_size(joints), HEALTH.size + 4 * joints]) | st.integers(0, MAX_PAYLOAD)
    size = data.draw(sizes)
    payload = data.draw(st.binary(min_size=size, max_size=size))
    for read in (Info.unpack, lambda p: State.unpack(p, joints), lambda p: BoardHealth.unpack(p, joints)):
        with suppress(BusError):
            read(payload)
