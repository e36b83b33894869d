"""Replies of servos through the makers' libraries, under random and damaged bytes. ROBOT_WM_FUZZ_BYTES sets how many."""

import numpy as np
import pytest

pytest.importorskip("dynamixel_sdk", reason="needs the extra `serial`")
pytest.importorskip("scservo_sdk", reason="needs the extra `serial`")

from fuzz_tools import damaged, fuzz_bytes, most, random_bytes, report, seeded
from robot_wm.buses.dynamixel_port import Protocol2
from robot_wm.buses.feetech_port import FeetechProtocol
from robot_wm.buses.servo_link import Request, UnreadReply
from robot_wm.buses.servo_port import BoundedPort
from robot_wm.buses.servo_register import Register
from sim import dynamixel_packets as dynamixel
from sim import feetech_packets as feetech

IDS, SIZE = (1, 2, 3), 10


class Wire:
    """A serial port on which everything has come already."""

    path, baud = "wire", 1_000_000

    def __init__(self):
        self.incoming = b""

    def clear(self):
        self.incoming = b""

    def read(self, deadline, most):
        data, self.incoming = self.incoming[:most], self.incoming[most:]
        return data


def plain(values):
    return b"".join(
        dynamixel.encode(dynamixel.Packet(id_, dynamixel.Instruction.STATUS, b"\0" + v))
        for id_, v in zip(IDS, values, strict=True)
    )


def fast(values):
    return dynamixel.fast_status([bytes([0, id_]) + v for id_, v in zip(IDS, values, strict=True)], len(IDS))


def sums(values):
    return b"".join(feetech.encode(feetech.Packet(id_, 0, v)) for id_, v in zip(IDS, values, strict=True))


def status_head(rng):
    return bytes([0xFF, 0xFF, 0xFD, 0, int(rng.integers(1, 4)), SIZE + 4, int(rng.choice([0, 0, 0xFF])), 0x55])


def answer_head(rng):
    return bytes([0xFF, 0xFF, int(rng.integers(1, 4)), SIZE + 2])


# maker, protocol, fast, bytes of a reply, beginnings of one, header, odds of its check
REPLIES = [
    ("dynamixel status", Protocol2, False, plain, status_head, b"\xff\xff\xfd", 2.0**-16),
    ("dynamixel fast status", Protocol2, True, fast, status_head, b"\xff\xff\xfd", 2.0**-16),
    ("feetech status", FeetechProtocol, False, sums, answer_head, b"\xff\xff", 2.0**-8),
]


@pytest.mark.timeout(600 + fuzz_bytes() // 2000)
@pytest.mark.parametrize(("name", "protocol", "is_fast", "encode", "head", "header", "odds"), REPLIES)
def test_what_is_no_reply_is_refused_and_the_next_reply_is_taken(name, protocol, is_fast, encode, head, header, odds):
    rng = np.random.default_rng(0)
    protocol, port = protocol(), BoundedPort(Wire())
    request = Request(Register(126, SIZE), IDS, is_fast)

    def exchange(incoming):
        port.drop()
        port.serial.incoming = incoming
        port.fill(len(incoming), 0)
        port.rewind()
        try:
            return protocol.take(port, request)
        except UnreadReply:
            return None

    seen = refused = false = candidates = 0
    while seen < fuzz_bytes(20_000):
        values = [random_bytes(rng, SIZE) for _ in IDS]
        sound = [b"\0" + value for value in values]
        data = damaged(rng, encode(values)) if rng.random() < 0.5 else seeded(rng, 200, head)
        got = exchange(data)
        refused += got is None
        false += got is not None and got != sound
        candidates += data.count(header)
        assert exchange(encode(values)) == sound
        seen += len(data)
    report(name, bytes=seen, refused=refused, candidates=candidates, false=false)
    assert refused > 0
    assert false <= most(candidates, odds)
