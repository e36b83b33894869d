"""Requests and replies on a line whose time is made up: however late a reply, it is never taken for that to another request.

Both makers' packets, on their SDKs.
"""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("dynamixel_sdk", reason="needs the extra `serial`")
pytest.importorskip("scservo_sdk", reason="needs the extra `serial`")

from robot_wm.buses import servo_link, servo_port
from robot_wm.buses.dynamixel_port import Protocol2
from robot_wm.buses.feetech_port import FeetechProtocol
from robot_wm.buses.servo_link import SETTLE, LateReply, Reply, Request, ServoLink
from robot_wm.buses.servo_register import Register
from robot_wm.errors import BusError
from sim import dynamixel_packets as dynamixel
from sim import feetech_packets as feetech

MS = 1_000_000  # [ns]
PERIOD, TIMEOUT = 10 * MS, 5 * MS
LOST = 10_000 * MS
PRESENT, STATUS, TORQUE, GOAL = Register(56, 6), Register(40, 1), Register(70, 1), Register(42, 2)
BOTH = Request(PRESENT, (1, 2))
# Speakers: which packets, and fast sync reads or plain ones.
SPEAKERS = [("dynamixel", False), ("dynamixel", True), ("feetech", False)]
speakers = pytest.mark.parametrize(("maker", "fast"), SPEAKERS)
makers = pytest.mark.parametrize("maker", ["dynamixel", "feetech"])


def numbered(number, size):
    """A value that says which request it answers."""
    return number.to_bytes(2, "little").ljust(size, b"\0")[:size]


class Line:
    """A serial port with servos, and its clock; what they say is the number of requests so far.

    `delays` [ns] of the replies to come, 0 when there are no more; `damage` changes the bytes of a reply.
    """

    path, baud, up = "line", 1_000_000, True

    def __init__(self, packets, delays=()):
        self.packets = packets
        self.now, self.delays, self.damage = 0, list(delays), lambda data: data
        self.asked, self.goals, self.coming = [], [], []  # times of requests, of writes; (time, byte)

    def monotonic_ns(self):
        self.now += 1000
        return self.now

    def clear(self):
        self.coming = [(at, byte) for at, byte in self.coming if at > self.now]

    def write(self, data):
        for packet in self.packets.PacketDecoder().feed(data):
            if packet.instruction == self.packets.Instruction.SYNC_WRITE:
                self.goals.append(self.now)
            else:
                self.asked.append(self.now)
                at = self.now + (self.delays.pop(0) if self.delays else 0)
                self.coming += [(at, byte) for byte in self.damage(self.reply(packet))]
        return True

    def reply(self, packet):
        parameters, number = packet.parameters, len(self.asked)
        if self.packets is feetech:
            value = numbered(number, parameters[1])
            return b"".join(feetech.encode(feetech.Packet(id_, 0, value)) for id_ in parameters[2:])
        value, ids = numbered(number, parameters[2]), parameters[4:]
        if packet.instruction == dynamixel.Instruction.FAST_SYNC_READ:
            return dynamixel.fast_status([bytes([0, id_]) + value for id_ in ids], len(ids))
        status = dynamixel.Instruction.STATUS
        return b"".join(dynamixel.encode(dynamixel.Packet(id_, status, b"\0" + value)) for id_ in ids)

    def read(self, deadline, most):
        first = min((at for at, _ in self.coming), default=deadline + 1)
        self.now = max(self.now + 1000, min(first, deadline))
        come = [byte for at, byte in self.coming if at <= self.now][:most]
        self.coming = [(at, byte) for at, byte in self.coming if at > self.now]
        return bytes(come)


def link_on(patch, maker, delays=()):
    """A link on a `Line`, and the line; late replies are collected in `link.collected`."""
    protocol, packets = {"dynamixel": (Protocol2, dynamixel), "feetech": (FeetechProtocol, feetech)}[maker]
    line = Line(packets, delays)
    for module in (servo_link, servo_port):
        patch.setattr(module, "time", SimpleNamespace(monotonic_ns=line.monotonic_ns))
    link = ServoLink("line", line.baud, protocol())
    link.serial = link._port.serial = line
    link.collected = []
    link.late = link.collected.append
    return link, line


@pytest.fixture
def made(monkeypatch):
    return partial(link_on, monkeypatch)


def number_of(reply: Reply) -> int:
    """Which request the values say that they answer."""
    (number,) = {int.from_bytes(value[:2], "little") for value in reply.values}
    return number


def exchange(link, line, request=BOTH):
    """One call with its bound; its replies, those of earlier calls first."""
    link.collected.clear()
    link.bound(line.now + TIMEOUT)
    try:
        link.settle()
        link.ask(request() if callable(request) else request)
        return [*link.collected, link.reply()]
    except BusError:
        return list(link.collected)


delays = st.one_of(st.integers(0, 2 * PERIOD), st.integers(0, SETTLE - MS), st.just(LOST))
requests = st.builds(Request, st.sampled_from([PRESENT, STATUS, TORQUE]), st.just((1, 2)), st.booleans())


@makers
@given(steps=st.lists(st.tuples(delays, requests, st.integers(0, PERIOD)), min_size=1, max_size=30))
def test_a_reply_is_never_taken_for_that_to_another_request(maker, steps):
    with pytest.MonkeyPatch.context() as patch:
        link, line = link_on(patch, maker, [delay for delay, _, _ in steps])
        asked = {}
        for _, request, pause in steps:
            request = replace(request, fast=request.fast and maker == "dynamixel")
            replies = exchange(link, line, request)
            if len(line.asked) > len(asked):
                asked[len(line.asked)] = request, line.asked[-1]
            for reply in replies:
                request_of, sent = asked[number_of(reply)]
                assert reply.request == request_of
                assert abs(reply.sent - sent) < MS
                assert reply.sent <= reply.stamp <= reply.received <= line.now
            line.now += pause


@makers
def test_replies_that_are_always_late_come_one_call_later(made, maker):
    link, line = made(maker, [7 * MS] * 20)
    numbers = []
    for k in range(10):
        line.now = k * PERIOD
        numbers.append([number_of(reply) for reply in exchange(link, line)])
    assert numbers == [[], *([k] for k in range(1, 10))]
    assert link.counts["late"] == 10 and link.counts["timeouts"] == 0


@makers
def test_a_late_reply_has_the_stamp_of_its_own_exchange(made, maker):
    link, line = made(maker, [8 * MS])
    assert exchange(link, line) == []
    line.now = PERIOD
    late, fresh = exchange(link, line)
    assert (late.sent, late.stamp) == (pytest.approx(0, abs=MS / 10), pytest.approx(5 * MS, abs=MS / 10))
    assert late.received <= fresh.sent < fresh.stamp


@speakers
@given(first=st.integers(51, 240), next_=st.integers(0, 40))
def test_a_reading_that_was_given_up_is_known_by_its_length(maker, fast, first, next_):
    with pytest.MonkeyPatch.context() as patch:
        link, line = link_on(patch, maker, [first * MS, next_ * MS])
        asked = []
        for k in range(30):
            line.now = k * PERIOD
            for reply in exchange(link, line, lambda: Request(PRESENT, (1, 2), fast, link.given_up % 4)):
                asked.append(number_of(reply))
                assert abs(reply.sent - line.asked[asked[-1] - 1]) < MS
        assert asked[0] == 2 and asked == sorted(asked)


@speakers
def test_a_reply_torn_in_two_is_joined(made, maker, fast):
    link, _ = made(maker)
    size = link._protocol.reply_size(Request(PRESENT, (1, 2), fast))
    for cut in range(1, size):
        link, line = made(maker, [0, LOST])
        link.ask(Request(PRESENT, (1, 2), fast))
        line.coming = [(0 if k < cut else 8 * MS, byte) for k, (_, byte) in enumerate(line.coming)]
        link.bound(TIMEOUT)
        with pytest.raises(LateReply, match="did not answer yet"):
            link.reply()
        line.now = PERIOD
        assert [number_of(reply) for reply in exchange(link, line)] == [1]
        assert link.counts["corrupt"] == 0


@speakers
def test_after_a_lost_reply_the_line_is_left_alone_until_it_is_settled(made, maker, fast):
    link, line = made(maker, [LOST])
    replies = []
    for k in range(8):
        line.now = k * PERIOD
        replies += exchange(link, line, Request(PRESENT, (1, 2), fast))
    assert line.asked[1] - line.asked[0] == pytest.approx(SETTLE, abs=MS)
    assert [number_of(reply) for reply in replies] == [2, 3, 4]
    assert link.counts["timeouts"] == 1
    assert link.fast_failed == 0  # the replies since


@makers
def test_a_torn_reply_is_lost_when_the_rest_does_not_come(made, maker):
    link, line = made(maker)
    line.damage = lambda data: data[:-3]
    for k in range(6):
        line.now = k * PERIOD
        assert exchange(link, line) == []
    assert link.counts["corrupt"] == 1
    line.damage = lambda data: data
    line.now = 2 * SETTLE + PERIOD
    assert [number_of(reply) for reply in exchange(link, line)] == [len(line.asked)]


@makers
def test_a_whole_reply_that_is_corrupt_is_asked_for_again_at_once(made, maker):
    link, line = made(maker)
    line.damage = lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    link.bound(TIMEOUT)
    with pytest.raises(BusError, match="servo 2 at line: the answer was torn or corrupt"):
        link.sync_read(PRESENT, (1, 2))
    line.damage = lambda data: data
    assert [number_of(reply) for reply in exchange(link, line)] == [2]


@makers
def test_a_goal_goes_out_as_soon_as_a_late_reply_cannot_be_on_the_line(made, maker):
    link, line = made(maker, [30 * MS])
    link.bound(TIMEOUT)
    link.ask(BOTH)
    link.sync_write(GOAL, {1: bytes(2)})
    assert line.goals[0] - line.asked[0] == pytest.approx(link.line_ns(BOTH), abs=MS / 10)
    link.sync_write(GOAL, {1: bytes(2)})
    assert line.goals[1] - line.goals[0] < MS / 10
    line.now = 4 * PERIOD
    assert [number_of(reply) for reply in exchange(link, line)] == [1, 2]


@makers
def test_a_goal_waits_for_a_reply_that_is_on_the_line(made, maker):
    link, line = made(maker, [1 * MS])
    link.bound(TIMEOUT)
    link.ask(BOTH)
    link.sync_write(GOAL, {1: bytes(2)})
    assert line.goals[0] - line.asked[0] == pytest.approx(MS, abs=MS / 10)
    assert number_of(link.reply()) == 1


@makers
def test_what_must_go_out_at_once_waits_for_nothing(made, maker):
    link, line = made(maker, [LOST])
    link.bound(TIMEOUT)
    link.ask(BOTH)
    link.sync_write(TORQUE, {1: b"\0"}, at_once=True)
    assert line.goals[0] - line.asked[0] < MS / 10


@pytest.mark.parametrize(("maker", "bytes_"), [("dynamixel", 20 + 6 * 17), ("feetech", 14 + 6 * 12)])
def test_a_line_is_held_longer_by_more_servos_and_at_a_lower_rate(made, maker, bytes_):
    link, line = made(maker)
    six = Request(PRESENT, tuple(range(6)))
    fast = link.line_ns(six)
    line.baud = 57_600
    assert link.line_ns(six) > fast > 0
    assert link.line_ns(six) == pytest.approx(2e6 + 6 * 508e3 + bytes_ * 10 / 57_600 * 1e9, rel=1e-6)
