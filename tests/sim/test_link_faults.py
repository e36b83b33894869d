import numpy as np
import pytest

from robot_wm.buses.framing import Decoder, Frame, encode
from robot_wm.errors import RunError
from sim.link_faults import FaultRates, FaultyLine

FRAMES = [Frame(2, 7, i + 1, 0, bytes([i % 256]) * 9) for i in range(400)]


def carried(seed=0, **rates):
    """What a following decoder gets of FRAMES through a bad line, with the line's and the decoder's counts."""
    line = FaultyLine(FaultRates(**rates), np.random.default_rng(seed))
    decoder = Decoder()
    decoder.follow(7, 0)
    got = [f for frame in FRAMES for f in decoder.feed(line.carry(encode(frame)))]
    line.rates = FaultRates()
    for i in range(3):  # what was delayed comes with these
        decoder.feed(line.carry(encode(Frame(2, 7, len(FRAMES) + 1 + i, 0))))
    return got, line.counts, decoder.counts


def test_a_good_line_changes_nothing():
    assert carried()[0] == FRAMES


def test_each_fault_is_what_it_says_and_is_counted():
    _, did, seen = carried(drop=0.1)
    assert did["drop"] == seen["lost"] > 0
    _, did, seen = carried(duplicate=0.1)
    assert did["duplicate"] == seen["duplicate"] > 0
    assert seen["lost"] == 0
    _, did, seen = carried(delay=0.1)
    assert did["delay"] >= seen["stale"] > 0  # two in a row may arrive in order
    _, did, seen = carried(corrupt=0.1)
    assert 0 < did["corrupt"] <= seen["crc"] + seen["framing"] + seen["length"] + 5
    _, did, seen = carried(truncate=0.1)
    assert seen["lost"] >= did["truncate"] > 0  # the frame behind it is lost, too


def test_the_same_seed_does_the_same():
    assert carried(3, drop=0.2, corrupt=0.1)[1:] == carried(3, drop=0.2, corrupt=0.1)[1:]


def test_bytes_may_come_in_any_pieces():
    line = FaultyLine(FaultRates(), np.random.default_rng(0))
    data = b"".join(map(encode, FRAMES))
    assert b"".join(line.carry(data[i : i + 7]) for i in range(0, len(data), 7)) == data


def test_impossible_rates_are_refused():
    with pytest.raises(RunError, match="at most 1 together"):
        FaultRates(drop=0.7, corrupt=0.7)
