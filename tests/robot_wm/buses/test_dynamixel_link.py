"""Requests and replies on a line whose time is made up: however late a reply, it is never taken for that to another request."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("dynamixel_sdk", reason="needs the extra `serial`")

from robot_wm.buses import dynamixel_link, dynamixel_port
from robot_wm.buses.dynamixel_link import SETTLE, LateReply, Reply, Request, ServoLink
from robot_wm.buses.dynamixel_table import GOAL_POSITION, HARDWARE_ERROR, PRESENT, PRESENT_LAYOUT, TORQUE_ENABLE
from robot_wm.errors import BusError
from sim.dynamixel_packets import Instruction, Packet, PacketDecoder, encode, fast_status

MS = 1_000_000  # [ns]
PERIOD, TIMEOUT = 10 * MS, 5 * MS
LOST = 10_000 * MS
BOTH = Request(PRESENT, (1, 2))


class Line:
    """A serial port with servos, and its clock. Their position is the number of requests so far.

    `delays` [ns] of the replies to come, 0 when there are no more; `damage` changes the bytes of a reply.
    """

    path, baud, up = "line", 1_000_000, True

    def __init__(self, delays=()):
        self.now, self.delays, self.damage = 0, list(delays), lambda data: data
        self.asked, self.goals, self.coming = [], [], []  # times of requests, of writes; (time, byte)

    def monotonic_ns(self):
        self.now += 1000
        return self.now

    def clear(self):
        self.coming = [(at, byte) for at, byte in self.coming if at > self.now]

    def write(self, data):
        for packet in PacketDecoder().feed(data):
            if packet.instruction == Instruction.SYNC_WRITE:
                self.goals.append(self.now)
            else:
                self.answer(packet)
        return True

    def answer(self, packet):
        self.asked.append(self.now)
        size, ids = packet.parameters[2], packet.parameters[4:]
        number = np.zeros(1, PRESENT_LAYOUT)
        number["position"] = len(self.asked)
        value = (
            number.tobytes() + bytes(size - PRESENT.size)
            if size >= PRESENT.size
            else bytes([len(self.asked) % 256] * size)
        )
        if packet.instruction == Instruction.FAST_SYNC_READ:
            reply = fast_status([bytes([0, id_]) + value for id_ in ids], len(ids))
        else:
            reply = b"".join(encode(Packet(id_, Instruction.STATUS, b"\0" + value)) for id_ in ids)
        at = self.now + (self.delays.pop(0) if self.delays else 0)
        self.coming += [(at, byte) for byte in self.damage(reply)]

    def read(self, deadline, most):
        first = min((at for at, _ in self.coming), default=deadline + 1)
        self.now = max(self.now + 1000, min(first, deadline))
        come = [byte for at, byte in self.coming if at <= self.now][:most]
        self.coming = [(at, byte) for at, byte in self.coming if at > self.now]
        return bytes(come)


def link_on(patch, delays=()):
    """A link on a `Line`, and the line; late replies are collected in `link.collected`."""
    line = Line(delays)
    for module in (dynamixel_link, dynamixel_port):
        patch.setattr(module, "time", SimpleNamespace(monotonic_ns=line.monotonic_ns))
    link = ServoLink("line", line.baud)
    link.serial = link._port.serial = line
    link.collected = []
    link.late = link.collected.append
    return link, line


@pytest.fixture
def made(monkeypatch):
    return partial(link_on, monkeypatch)


def number_of(reply: Reply) -> int:
    """Which request the values say that they answer."""
    values = {
        int(np.frombuffer(v, PRESENT_LAYOUT)["position"][0]) if reply.request.register is PRESENT else v[0]
        for v in reply.values
    }
    (number,) = values
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
requests = st.builds(Request, st.sampled_from([PRESENT, HARDWARE_ERROR, TORQUE_ENABLE]), st.just((1, 2)), st.booleans())


@given(steps=st.lists(st.tuples(delays, requests, st.integers(0, PERIOD)), min_size=1, max_size=30))
def test_a_reply_is_never_taken_for_that_to_another_request(steps):
    with pytest.MonkeyPatch.context() as patch:
        link, line = link_on(patch, [delay for delay, _, _ in steps])
        asked = {}
        for _, request, pause in steps:
            replies = exchange(link, line, request)
            if len(line.asked) > len(asked):
                asked[len(line.asked)] = request, line.asked[-1]
            for reply in replies:
                request_of, sent = asked[number_of(reply)]
                assert reply.request == request_of
                assert abs(reply.sent - sent) < MS
                assert reply.sent <= reply.stamp <= reply.received <= line.now
            line.now += pause


def test_replies_that_are_always_late_come_one_call_later(made):
    link, line = made([7 * MS] * 20)
    numbers = []
    for k in range(10):
        line.now = k * PERIOD
        numbers.append([number_of(reply) for reply in exchange(link, line)])
    assert numbers == [[], *([k] for k in range(1, 10))]
    assert link.counts["late"] == 10 and link.counts["timeouts"] == 0


def test_a_late_reply_has_the_stamp_of_its_own_exchange(made):
    link, line = made([8 * MS])
    assert exchange(link, line) == []
    line.now = PERIOD
    late, fresh = exchange(link, line)
    assert (late.sent, late.stamp) == (pytest.approx(0, abs=MS / 10), pytest.approx(5 * MS, abs=MS / 10))
    assert late.received <= fresh.sent < fresh.stamp


@pytest.mark.parametrize("fast", [False, True])
@given(first=st.integers(51, 240), next_=st.integers(0, 40))
def test_a_reading_that_was_given_up_is_known_by_its_length(fast, first, next_):
    with pytest.MonkeyPatch.context() as patch:
        link, line = link_on(patch, [first * MS, next_ * MS])
        asked = []
        for k in range(30):
            line.now = k * PERIOD
            for reply in exchange(link, line, lambda: Request(PRESENT, (1, 2), fast, link.given_up % 4)):
                asked.append(number_of(reply))
                assert abs(reply.sent - line.asked[asked[-1] - 1]) < MS
        assert asked[0] == 2 and asked == sorted(asked)


@pytest.mark.parametrize("fast", [False, True])
def test_a_reply_torn_in_two_is_joined(made, fast):
    size = Request(PRESENT, (1, 2), fast).size
    for cut in range(1, size):
        link, line = made([0, LOST])
        link.ask(Request(PRESENT, (1, 2), fast))
        line.coming = [(0 if k < cut else 8 * MS, byte) for k, (_, byte) in enumerate(line.coming)]
        link.bound(TIMEOUT)
        with pytest.raises(LateReply, match="did not answer yet"):
            link.reply()
        line.now = PERIOD
        assert [number_of(reply) for reply in exchange(link, line)] == [1]
        assert link.counts["corrupt"] == 0


@pytest.mark.parametrize("fast", [False, True])
def test_after_a_lost_reply_the_line_is_left_alone_until_it_is_settled(made, fast):
    link, line = made([LOST])
    replies = []
    for k in range(8):
        line.now = k * PERIOD
        replies += exchange(link, line, Request(PRESENT, (1, 2), fast))
    assert line.asked[1] - line.asked[0] == pytest.approx(SETTLE, abs=MS)
    assert [number_of(reply) for reply in replies] == [2, 3, 4]
    assert link.counts["timeouts"] == 1
    assert link.fast_failed == 0  # the replies since


def test_a_torn_reply_is_lost_when_the_rest_does_not_come(made):
    link, line = made()
    line.damage = lambda data: data[:-3]
    for k in range(6):
        line.now = k * PERIOD
        assert exchange(link, line) == []
    assert link.counts["corrupt"] == 1
    line.damage = lambda data: data
    line.now = 2 * SETTLE + PERIOD
    assert [number_of(reply) for reply in exchange(link, line)] == [len(line.asked)]


def test_a_whole_reply_that_is_corrupt_is_asked_for_again_at_once(made):
    link, line = made()
    line.damage = lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
    link.bound(TIMEOUT)
    with pytest.raises(BusError, match="servo 2 at line: the answer was torn or corrupt"):
        link.sync_read(PRESENT, (1, 2))
    line.damage = lambda data: data
    assert [number_of(reply) for reply in exchange(link, line)] == [2]


def test_a_goal_goes_out_as_soon_as_a_late_reply_cannot_be_on_the_line(made):
    link, line = made([30 * MS])
    link.bound(TIMEOUT)
    link.ask(BOTH)
    link.sync_write(GOAL_POSITION, {1: bytes(4)})
    assert line.goals[0] - line.asked[0] == pytest.approx(BOTH.line_ns(line.baud), abs=MS / 10)
    link.sync_write(GOAL_POSITION, {1: bytes(4)})
    assert line.goals[1] - line.goals[0] < MS / 10
    line.now = 4 * PERIOD
    assert [number_of(reply) for reply in exchange(link, line)] == [1, 2]


def test_a_goal_waits_for_a_reply_that_is_on_the_line(made):
    link, line = made([1 * MS])
    link.bound(TIMEOUT)
    link.ask(BOTH)
    link.sync_write(GOAL_POSITION, {1: bytes(4)})
    assert line.goals[0] - line.asked[0] == pytest.approx(MS, abs=MS / 10)
    assert number_of(link.reply()) == 1


def test_what_must_go_out_at_once_waits_for_nothing(made):
    link, line = made([LOST])
    link.bound(TIMEOUT)
    link.ask(BOTH)
    link.sync_write(TORQUE_ENABLE, {1: b"\0"}, at_once=True)
    assert line.goals[0] - line.asked[0] < MS / 10


def test_a_line_is_held_longer_by_more_servos_and_at_a_lower_rate():
    six = Request(PRESENT, tuple(range(6)))
    assert six.line_ns(57_600) > six.line_ns(1_000_000) > BOTH.line_ns(1_000_000)
    assert six.line_ns(57_600) == pytest.approx(2e6 + 6 * 508e3 + (20 + 126) * 10 / 57_600 * 1e9, rel=1e-6)
