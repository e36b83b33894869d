"""The emulated board's rules on a virtual clock; the C reference is held to the same ones in test_c_reference.py."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.buses.framing import Decoder, Frame, encode
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.buses.serial_protocol import BoardHealth, Flags, Info, State, Type
from robot_wm.contract import parse_contract
from robot_wm.timebase import VirtualClock
from sim.board_core import Board

MS = 1_000_000
CONTRACT = parse_contract(
    {
        "name": "slider",
        "model_hz": 50,
        "motor_hz": 100,
        "observations": [
            {"name": "position", "topic": "joint_states", "field": "position", "names": ["slider"], "unit": "m"}
        ],
        "action": {"names": ["slider"], "mode": "velocity", "unit": "m/s", "low": [-1], "high": [1]},
    }
)


class Host:
    """Says one frame after the other, with right sequence numbers and times unless told otherwise."""

    def __init__(self, session=7, **options):
        self.clock = VirtualClock(1_000 * MS)
        self.physics = LoopbackBus(CONTRACT, self.clock)
        self.board = Board(self.physics, 1, "velocity", **options)
        self.session, self.sequence = session, 0
        self.decoder = Decoder()

    def frame(self, kind, payload=b"", **changes):
        self.sequence += 1
        now = self.board.time(self.clock.now())
        return Frame(
            **{"type": kind, "session": self.session, "sequence": self.sequence, "time": now, "payload": payload}
            | changes
        )

    def say(self, kind, payload=b"", **changes):
        return self.send(self.frame(kind, payload, **changes))

    def send(self, frame):
        return self.decoder.feed(self.board.receive(encode(frame), self.clock.now()))

    def set(self, value):
        return self.say(Type.SETPOINT, struct.pack("<f", value))

    def poll(self, duration_ms):
        """Read every 40 ms; the last state."""
        for _ in range(duration_ms // 40):
            state = state_of(self.say(Type.READ, b"\0"))
            self.wait(40 * MS)
        return state

    def wait(self, duration):
        for _ in range(duration // MS):
            self.clock.advance(MS)
            self.board.tick(self.clock.now())


@pytest.fixture
def host():
    host = Host()
    host.say(Type.HELLO)
    host.say(Type.ENABLE)
    return host


def state_of(answers):
    return State.unpack(answers[0].payload, 1)


def test_a_session_begins_unpowered_and_is_powered_when_asked():
    host = Host()
    (info,) = host.say(Type.HELLO)
    assert Info.unpack(info.payload).request == 1 and info.session == 7
    assert not host.board.enabled
    assert state_of(host.say(Type.ENABLE)).flags == Flags.ENABLED
    host.set(0.5)
    assert host.physics.written == pytest.approx([0.5])
    assert state_of(host.say(Type.READ, b"\0")).executed == 3
    assert state_of(host.say(Type.DISABLE)).flags == 0
    host.set(0.7)
    assert host.physics.written == pytest.approx([0.5])
    assert host.board.counts["refused"] == 1


def test_readings_keep_the_watchdog_quiet_and_silence_trips_it(host):
    for _ in range(10):
        host.wait(90 * MS)
        assert state_of(host.say(Type.READ, b"\0")).flags == Flags.ENABLED
    host.wait(101 * MS)
    assert not host.physics.enabled
    assert state_of(host.say(Type.READ, b"\0")).flags == Flags.WATCHDOG
    assert state_of(host.say(Type.ENABLE)).flags == Flags.ENABLED


def test_refused_setpoints_do_not_keep_it_quiet(host):
    for _ in range(3):
        host.wait(40 * MS)
        host.set(float("nan"))
    assert not host.board.enabled
    assert host.board.counts["refused"] == 3


def test_what_is_old_or_from_the_future_is_late_but_power_is_always_cut(host):
    now = host.board.time(host.clock.now())
    for wrong in (now - 101_000, now + 101_000):
        assert host.say(Type.READ, b"\0", time=wrong % 2**32) == []
    assert host.board.counts["late"] == 2
    assert host.board.enabled
    host.say(Type.DISABLE, time=(now - 10_000_000) % 2**32)
    assert not host.board.enabled


def test_age_is_right_where_the_clock_wraps():
    host = Host(clock_start=2**32 - 1_000_000 - 50_000)  # 50 ms before the wrap
    host.say(Type.HELLO)
    host.say(Type.ENABLE)
    before = host.frame(Type.READ, b"\0")
    host.wait(80 * MS)
    assert before.time > 2**32 - 60_000
    assert host.board.time(host.clock.now()) < 60_000
    assert len(host.send(before)) == 1
    assert host.board.counts["late"] == 0


def test_a_new_session_cuts_the_power_and_the_old_one_is_not_obeyed(host):
    host.session = 8
    host.say(Type.HELLO)
    assert not host.physics.enabled
    host.session = 7
    assert host.say(Type.ENABLE) == []
    assert not host.board.enabled
    assert host.board.counts["session"] == 1


def test_the_same_hello_twice_is_a_duplicate_not_a_new_beginning(host):
    hello = Frame(Type.HELLO, 7, 1, 0)
    assert host.send(hello) == []
    assert host.board.enabled


def test_a_board_without_a_session_says_that_it_has_restarted():
    (info,) = Host().say(Type.READ, b"\0")
    assert info.type == Type.INFO and info.session == 0


def test_a_hello_of_another_version_is_answered_with_ours():
    host = Host()
    (info,) = host.say(Type.HELLO, version=9)
    assert (info.type, info.version, info.session) == (Type.INFO, 1, 0)
    assert host.board.counts["version"] == 1


def test_heat_cuts_the_power_and_stands_until_it_is_cool(host):
    host.board.overheat(0)
    host.wait(2 * MS)
    assert not host.physics.enabled
    state, health = host.say(Type.READ, b"\1")
    assert State.unpack(state.payload, 1).faults == (1,)
    assert BoardHealth.unpack(health.payload, 1).temperature[0] > 90
    assert state_of(host.say(Type.ENABLE)).flags == 0
    host.board.cool()
    assert state_of(host.say(Type.ENABLE)).flags == Flags.ENABLED


def test_while_physics_is_late_the_last_reading_stands_and_silence_is_an_internal_error(host):
    before = host.poll(40)
    host.physics.read_error = "gone"
    late = host.poll(960)
    assert (late.captured, late.board_faults) == (before.captured, 0)
    assert host.board.enabled
    assert host.poll(80).board_faults == 16
    assert not host.board.enabled
    host.physics.read_error = ""
    assert host.poll(40).board_faults == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Type)), st.binary(max_size=6), st.integers(-3, 5), st.integers(0, 150)),
        max_size=40,
    )
)
def test_whatever_a_host_says_only_later_numbers_are_obeyed_and_power_needs_to_be_heard(said):
    host = Host()
    host.say(Type.HELLO)
    newest, last_heard = 1, host.clock.now()
    for kind, payload, jump, pause in said:
        host.wait(pause * MS)
        before = host.board.counts["executed"]
        host.sequence = newest + jump - 1
        answers = host.say(kind, payload)
        obeyed = bool(answers) or host.board.counts["executed"] > before
        assert not obeyed or jump > 0
        newest = max(newest, newest + jump)
        last_heard = host.clock.now() if obeyed else last_heard
        assert not (host.board.enabled and host.clock.now() - last_heard > 101 * MS)
