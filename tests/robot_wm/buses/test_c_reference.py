"""The C reference of the board's side: compiled with every warning an error, and driven by the Python bus over a bad cable.

ROBOT_WM_FRAMES sets how many frames cross the cable, ROBOT_WM_FUZZ_BYTES how many mutated bytes the C decoder sees.
"""

import contextlib
import os
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import c_board
from conftest import slider_contract
from robot_wm.buses.framed_serial import FramedSerialBus
from robot_wm.buses.framing import Decoder, Frame, encode
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.buses.serial_protocol import BoardHealth, Info, Type
from robot_wm.errors import BusError
from sim.board_core import Board
from sim.link_faults import FaultRates

FRAMES = int(os.environ.get("ROBOT_WM_FRAMES", "6000"))
FUZZ_BYTES = int(os.environ.get("ROBOT_WM_FUZZ_BYTES", "200000"))
PAGE = Path(__file__).resolve().parents[3] / "docs" / "serial_protocol.md"
LINES = {
    line.split()[0]: bytes.fromhex("".join(line.split()[1:]))
    for line in PAGE.read_text().partition("```text\n")[2].partition("```")[0].splitlines()
}
BAD = FaultRates(corrupt=0.01, drop=0.01, duplicate=0.01, delay=0.01, truncate=0.01)
SETPOINTS_PER_READ = 4


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return c_board.compiled(tmp_path_factory.mktemp("firmware"))


@pytest.fixture
def process(program, tmp_path):
    """A function that starts the program; it is ended after the test."""
    running = []

    def begin(**options):
        running.append(c_board.start(program, **options))
        return running[-1]

    yield begin
    for item in running:
        item.stdin.close()
        item.wait(20)
        item.stdout.close()


def contract():
    names = ["slider", "lift"]
    observation = {"name": "position", "topic": "joint_states", "field": "position", "names": names, "unit": "m"}
    action = {"names": ["slider"], "mode": "position", "unit": "m", "low": [-9], "high": [9]}
    return slider_contract(observations=[observation], action=action)


def patiently(call, *arguments):
    """Call until it succeeds; a lost frame may cost an attempt."""
    for _ in range(100):
        try:
            return call(*arguments)
        except BusError:
            continue
    return call(*arguments)


def executed(log):
    """Sequence numbers and values of the setpoints that reached the motors."""
    lines = [line.split() for line in log.read_text().splitlines() if not line.startswith("power")]
    return [int(s) for s, _ in lines], [struct.unpack(">f", bytes.fromhex(bits))[0] for _, bits in lines]


@pytest.mark.timeout(300 + FRAMES // 200)
def test_over_a_bad_cable_no_command_is_executed_twice_out_of_order_or_corrupted_and_every_loss_is_counted(
    process, tmp_path
):
    log = tmp_path / "executed"
    board = process(clock_start=2**32 - 1_000_000, log=log)  # its clock wraps after a second
    cable = c_board.Cable(board, seed=5)
    bus = FramedSerialBus(contract(), cable.path, timeout_s=0.01, open_timeout_s=20.0, longest_watchdog_s=60.0)
    sent, rng = {}, np.random.default_rng(6)
    bus.open()
    patiently(bus.enable)
    session = bus.session.link.session
    cable.set(BAD)
    while cable.to_board.counts["frames"] + cable.from_board.counts["frames"] < FRAMES:
        for value in rng.normal(size=SETPOINTS_PER_READ).astype(np.float32):
            with contextlib.suppress(BusError):  # no room: on a machine that is away for long
                sent[bus.sequence + 1] = float(value)
                bus.write(np.array([value], np.float64))
        with contextlib.suppress(BusError):
            bus.read()
    cable.set(FaultRates())
    for _ in range(6):  # what was torn or delayed is over
        patiently(bus.read)
    patiently(bus.disable)
    health = patiently(bus.read_health)
    figures, down, up = bus.figures(), dict(cable.to_board.counts), dict(cable.from_board.counts)
    bus.close()
    cable.close()
    board.stdin.close()
    board.wait(20)

    assert bus.session.link.session == session, "the board was silent for so long that the bus began another session"
    sequences, values = executed(log)
    assert sequences == sorted(set(sequences))
    assert values == [sent[sequence] for sequence in sequences]

    counts = health.counters
    assert counts["frames"] + counts["lost"] == health.request  # every sequence number, whatever became of it
    assert counts["executed"] == len(sequences)
    assert len(sent) - len(sequences) <= counts["lost"]
    assert min(down[kind] for kind in ("corrupt", "drop", "duplicate", "delay", "truncate")) > 0
    assert counts["lost"] >= down["drop"] + down["delay"]
    assert counts["stale"] <= down["delay"] and counts["duplicate"] <= down["duplicate"]
    assert 0 < counts["crc"] + counts["framing"] + counts["length"] <= 2 * (down["corrupt"] + down["truncate"])
    assert counts["late"] == counts["refused"] == counts["session"] == counts["version"] == 0
    assert figures["in_frames"] + figures["in_lost"] == up["frames"]


def mutated(rng, frames):
    """The frames' bytes with some changed, inserted and removed."""
    data = np.frombuffer(b"".join(map(encode, frames)), np.uint8).copy()
    hit = rng.integers(0, data.size, data.size // 100)
    data[hit] ^= rng.integers(1, 256, hit.size).astype(np.uint8)
    data = np.delete(data, rng.integers(0, data.size, 4))
    return np.insert(data, rng.integers(0, data.size, 4), rng.integers(0, 256, 4).astype(np.uint8)).tobytes()


def requests(rng, start, count):
    """Frames of a host, good and bad: setpoints of any shape and number, unknown types, foreign sessions and versions, jumps."""
    frames, sequence = [], start
    for _ in range(count):
        sequence += int(rng.choice([1, 1, 1, 1, 1, 1, 2, 0, -1, 40]))
        kind = int(rng.choice([Type.SETPOINT] * 8 + [Type.READ, Type.ENABLE, Type.DISABLE, 0x44]))
        payload = {Type.SETPOINT: struct.pack("<f", rng.choice([1.5, np.nan, np.inf, -3.25])), Type.READ: b"\0"}.get(
            kind, b""
        )
        if rng.random() < 0.1:
            payload = rng.integers(0, 256, int(rng.integers(0, 237))).astype(np.uint8).tobytes()
        session, version = int(rng.choice([7] * 30 + [8])), int(rng.choice([1] * 30 + [2]))
        frames.append(Frame(kind, session, sequence % 2**32, int(rng.choice([0] * 30 + [2**31])), payload, version))
    return frames, sequence


def health_of(answers):
    """The last HEALTH among a board's answers, joints apart."""
    frames = [f for f in Decoder().feed(answers) if f.type == Type.HEALTH]
    return BoardHealth.unpack(frames[-1].payload, 1).counters


@pytest.mark.timeout(300 + FUZZ_BYTES // 10_000)
def test_on_mutated_bytes_the_c_decoder_and_the_python_board_agree_to_the_last_counter(process, tmp_path):
    rng = np.random.default_rng(8)
    data = encode(Frame(Type.HELLO, 7, 1, 0)) + encode(Frame(Type.ENABLE, 7, 2, 0))
    sequence = 3
    while len(data) < FUZZ_BYTES:
        frames, sequence = requests(rng, sequence, 200)
        data += mutated(rng, frames)
        data += rng.integers(0, 256, 300).astype(np.uint8).tobytes()
    data += b"\0" + encode(Frame(Type.READ, 7, sequence + 1000, 0, b"\1"))

    log = tmp_path / "executed"
    board = process(joints=1, motors=1, mode=2, watchdog_ms=65_535, log=log)
    answers = answered(board, data)
    physics = Recorder(slider_contract())
    theirs = Board(physics, 1, "effort", watchdog_ms=65_535)
    ours = theirs.receive(data, 0)

    assert health_of(answers) == health_of(ours)
    assert executed(log)[1] == physics.values
    assert min(theirs.counts[reason] for reason in theirs.counts if reason != "watchdog") > 0
    kinds = [frame.type for frame in Decoder().feed(answers)]
    assert kinds == [frame.type for frame in Decoder().feed(ours)]


class Recorder(LoopbackBus):
    """Remembers what was written."""

    def __init__(self, contract):
        super().__init__(contract)
        self.values = []

    def write(self, values):
        super().write(values)
        self.values.append(float(values[0]))


def answered(process, data):
    """Everything the program says to `data`; its input is closed."""

    def feed():
        process.stdin.write(data)
        process.stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    answers = b""
    while chunk := process.stdout.read(65536):
        answers += chunk
    feeder.join()
    process.wait(20)
    return answers


def test_the_example_of_the_protocols_page_works_on_the_reference(process, tmp_path):
    log = tmp_path / "executed"
    board = process(joints=2, motors=1, mode=2, watchdog_ms=60_000, clock_start=1_000_000, log=log)
    asked = [LINES[name] for name in ("HELLO", "ENABLE", "SETPOINT", "READ", "DISABLE")]
    answers = Decoder().feed(answered(board, b"".join(asked)))
    assert [frame.type for frame in answers] == [Type.INFO, Type.STATE, Type.STATE, Type.STATE]
    assert log.read_text().splitlines() == ["power 0", "power 0", "power 1", "3 3fc00000", "power 0"]


def test_every_type_of_answer_is_as_the_protocol_says(process):
    board = process(joints=2, motors=1, mode=0, clock_start=1000)
    hello, read = Frame(Type.HELLO, 7, 1, 0), Frame(Type.READ, 7, 2, 1000, b"\1")
    info, state, health = Decoder().feed(answered(board, encode(hello) + encode(read)))
    assert [info.type, state.type, health.type] == [Type.INFO, Type.STATE, Type.HEALTH]
    said = Info.unpack(info.payload)
    assert (said.request, said.joints, said.motors, said.mode, said.watchdog_ms) == (1, 2, 1, 0, 60_000)
    assert said.hardware_id == "c-reference"
    assert BoardHealth.unpack(health.payload, 2).voltage == 24.0


def test_the_watchdog_of_the_reference_cuts_the_power(process, tmp_path):
    log = tmp_path / "executed"
    board = process(mode=0, watchdog_ms=100, log=log)
    cable = c_board.Cable(board, seed=0)
    bus = FramedSerialBus(contract(), cable.path, timeout_s=1.0, open_timeout_s=20.0)
    bus.open()
    bus.enable()
    tripped = False
    while not tripped:  # every reading is a heartbeat: the board must not hear one for 100 ms
        time.sleep(0.2)
        bus.read()
        tripped = bus.fault() is not None
    assert "its watchdog has cut the motors' power" in bus.fault()
    bus.close()
    cable.close()
    board.stdin.close()
    board.wait(20)
    assert log.read_text().splitlines() == ["power 0", "power 0", "power 1", "power 0", "power 0"]
