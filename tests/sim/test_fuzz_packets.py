"""The emulated servos' decoders and the plant's wire under random and damaged bytes. ROBOT_WM_FUZZ_BYTES sets how many."""

from contextlib import suppress

import numpy as np

from fuzz_tools import campaign, damaged, fuzz_bytes, random_bytes, report, seeded
from robot_wm.errors import MessageError
from sim import dynamixel_packets as dynamixel
from sim import feetech_packets as feetech
from sim.plant_wire import Kind, Message, pack, unpack


def packet(kind):
    return lambda rng: kind(int(rng.integers(253)), 3, random_bytes(rng, int(rng.integers(0, 60))))


def test_dynamixel_packets():
    def noise(rng):
        return seeded(rng, 4000, lambda rng: bytes([0xFF, 0xFF, 0xFD, 0, 1, int(rng.integers(3, 30)), 0]))

    decoder = dynamixel.PacketDecoder()
    kept = (lambda: len(decoder._buffer), dynamixel.MAX_LENGTH + 7)
    make = packet(dynamixel.Packet)
    campaign("dynamixel instructions", decoder, make, dynamixel.encode, noise, "crc", 2.0**-16, kept=kept)


def test_feetech_packets():
    """A sum of 8 bits lets a packet pass whose damage cancels out."""

    def noise(rng):
        return seeded(rng, 4000, lambda rng: bytes([0xFF, 0xFF, 1, int(rng.integers(2, 30))]))

    decoder = feetech.PacketDecoder()
    kept = (lambda: len(decoder._buffer), feetech.MAX_LENGTH + 4)
    make = packet(feetech.Packet)
    campaign(
        "feetech instructions", decoder, make, feetech.encode, noise, "checksum", 2.0**-8, decoder.forget, kept=kept
    )


def test_messages_of_the_plant():
    """They cross a socket, which keeps bytes and boundaries: no checksum, but nothing may raise or take memory."""
    rng = np.random.default_rng(0)
    seen = read = 0
    while seen < fuzz_bytes():
        message = Message(rng.choice(list(Kind)), 7, 8, rng.normal(size=int(rng.integers(0, 50))))
        data = damaged(rng, pack(message)) if rng.random() < 0.5 else random_bytes(rng, int(rng.integers(0, 300)))
        data = b"\x01" + data[1:]  # most get past the version
        with suppress(MessageError):
            read += unpack(data).values.nbytes <= len(data)
        seen += len(data)
    report("plant messages", bytes=seen, read=read)
    assert read > 0
