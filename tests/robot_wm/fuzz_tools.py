"""Random and damaged bytes, and what a campaign prints (pytest -rP shows it).

ROBOT_WM_FUZZ_BYTES sets how many bytes each decoder sees; by default so few that the suite does not notice.
"""

import json
import os

import numpy as np
from scipy.stats import poisson

from robot_wm.errors import RobotWmError

BY_DEFAULT = 50_000


def fuzz_bytes(by_default=BY_DEFAULT):
    """How many bytes a decoder shall see."""
    return int(os.environ.get("ROBOT_WM_FUZZ_BYTES", by_default))


def random_bytes(rng, size):
    return rng.integers(0, 256, size, np.uint8).tobytes()


def damaged(rng, data, every=60):
    """One byte in `every` changed, five inserted, five removed."""
    data = np.frombuffer(data, np.uint8).copy()
    hit = rng.integers(0, data.size, 1 + data.size // every)
    data[hit] ^= rng.integers(1, 256, hit.size).astype(np.uint8)
    data = np.delete(data, rng.integers(0, data.size, 5))
    return np.insert(data, rng.integers(0, data.size, 5), rng.integers(0, 256, 5).astype(np.uint8)).tobytes()


def seeded(rng, size, heads):
    """Random bytes with the beginnings of frames among them, one in forty bytes; `heads(rng)` makes one."""
    data = bytearray(random_bytes(rng, size))
    for at in rng.integers(0, size - 20, size // 40):
        head = heads(rng)
        data[at : at + len(head)] = head
    return bytes(data)


def most(candidates, odds):
    """The largest count of accepted false frames that chance explains, but for once in 10^9 campaigns."""
    return int(poisson.isf(1e-9, max(candidates * odds, 1e-12)))


def campaign(name, decoder, frame, encode, noise, check, odds, silence=lambda: None, kept=None):
    """Feed a decoder damaged frames and noise, and two good frames after each; assert that the second is always taken and that
    no more false frames are than the odds allow.

    Args:
        frame: `frame(rng)` makes one to send; `encode` its bytes; `noise(rng)` bytes without frames.
        check: the count of frames that fail their check.
        odds: that a frame which was not sent passes it.
        silence: called before the good frames.
        kept: `(bytes kept, their bound)`.
    """
    rng = np.random.default_rng(0)
    size, seen, sound, false = fuzz_bytes(), 0, 0, 0
    while seen < size:
        sent = [frame(rng) for _ in range(100)]
        data = damaged(rng, b"".join(map(encode, sent))) + noise(rng)
        got = decoder.feed(data)
        silence()
        first, second = frame(rng), frame(rng)
        got += decoder.feed(encode(first) + encode(second))
        assert got[-1] == second
        wrong = [item for item in got if item not in {*sent, first, second}]
        false, sound, seen = false + len(wrong), sound + len(got) - len(wrong), seen + len(data)
        assert kept is None or kept[0]() <= kept[1]
    candidates = false + decoder.counts[check]
    report(name, bytes=seen, sound=sound, candidates=candidates, false=false, expected=round(candidates * odds, 3))
    assert sound > 0 and decoder.counts[check] > 0
    assert false <= most(candidates, odds)


def refusal(call, *arguments):
    """What a call is refused with; None when it is not. Any other error ends the test."""
    try:
        call(*arguments)
    except RobotWmError as error:
        return str(error)
    return None


def report(name, **figures):
    print(json.dumps({"decoder": name, **figures}))
