"""The bus on a real pty, with a board emulated behind it. Bounds on time are wide: they show that a call ends, not when."""

import os
import select
import time
from importlib.metadata import EntryPoint
from itertools import pairwise

import numpy as np
import pytest

from bus_tools import until_read
from conftest import slider_contract
from robot_wm.buses import base
from robot_wm.buses.framed_serial import FramedSerialBus
from robot_wm.buses.framing import Frame, encode
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.buses.serial_protocol import Type
from robot_wm.errors import BusError
from robot_wm.motor_health import health_of
from robot_wm.motor_loop import MotorLoop
from robot_wm.state_machine import State
from sim.board_core import Board
from sim.pty_emulator import PtyEmulator

PATIENT = {"timeout_s": 1.0, "open_timeout_s": 10.0, "longest_watchdog_s": 60.0}  # on a loaded machine
NEVER = 30_000  # [ms] a watchdog that does not trip in a test


@pytest.fixture
def board(tmp_path):
    """A function that starts an emulated board and gives it, its physics and a bus for it."""
    running = []

    def make(contract=None, bus_contract=None, bus=None, **options):
        contract = contract or slider_contract()
        physics = LoopbackBus(contract)
        physics.open()
        options = {"watchdog_ms": NEVER, **options}
        made = Board(physics, contract.action.size, contract.action.mode, **options)
        emulator = PtyEmulator(made, tmp_path / "board")
        context = emulator.running()
        context.__enter__()
        running.append(context)
        client = FramedSerialBus(bus_contract or contract, emulator.path, **{**PATIENT, **(bus or {})})
        clients.append(client)
        return emulator, physics, client

    clients = []
    yield make
    for client in clients:
        client.close()
    for context in running:
        context.__exit__(None, None, None)


def position_contract():
    return slider_contract(action={"names": ["slider"], "mode": "position", "unit": "m", "low": [-9], "high": [9]})


def read_until(bus, condition):
    """Readings until one meets the condition, or 20 s have passed."""
    end = time.monotonic() + 20
    while not condition(state := bus.read()):
        assert time.monotonic() < end
    return state


def test_setpoints_go_out_and_readings_come_back(board):
    emulator, physics, bus = board(position_contract())
    bus.open()
    assert not physics.enabled
    bus.enable()
    assert physics.enabled
    bus.write(np.array([0.25]))
    state = read_until(bus, lambda s: s.position[0] == 0.25)
    assert state.names == ("slider",)
    assert physics.written == pytest.approx([0.25])
    assert bus.fault() is None
    bus.disable()
    assert not physics.enabled
    assert emulator.device.counts["lost"] == 0


def test_it_is_opened_by_its_name_and_options(board, monkeypatch):
    entry = EntryPoint("serial", "robot_wm.buses.framed_serial:FramedSerialBus", base.BUSES)
    monkeypatch.setattr(base, "entry_points", lambda group: [entry])
    emulator, _, _ = board()
    bus = base.open_bus("serial", slider_contract(), port=emulator.path, baud=115200, **PATIENT)
    assert bus.read().names == ("slider",)
    bus.close()


def test_stamps_are_captures_in_host_time_and_only_go_forward_also_where_the_boards_clock_wraps(board):
    emulator, _, bus = board(clock_start=-time.monotonic_ns() // 1000 - 1_000_000)  # it wraps in a second
    bus.open()
    stamps, times = [], []
    while not times or times[-1] > 2**31 or len(stamps) < 50:
        asked = time.monotonic_ns()
        stamp = bus.read().stamp
        answered = time.monotonic_ns()
        assert asked - bus.session.clock.uncertainty - 2_000 <= stamp <= answered
        stamps.append(stamp)
        times.append(emulator.device.time(answered))
    assert times[0] > 2**31 > times[-1]
    assert all(later > earlier for earlier, later in pairwise(stamps))


def test_a_board_whose_clock_wrapped_long_ago_or_runs_fast_is_followed(board):
    _, _, bus = board(clock_start=7 * 2**32 + 5, clock_rate=1.0005)
    bus.open()
    for _ in range(50):
        asked = time.monotonic_ns()
        stamp = bus.read().stamp
        assert asked - bus.session.clock.uncertainty - 1_000_000 <= stamp <= time.monotonic_ns()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_setpoint_that_is_not_finite_never_reaches_the_wire(board, value):
    _, physics, bus = board()
    bus.open()
    bus.enable()
    before = bus.figures()["frames_out"]
    with pytest.raises(BusError, match="not finite for slider"):
        bus.write(np.array([value]))
    assert bus.figures()["frames_out"] == before
    assert physics.writes == 0


def test_a_board_of_another_version_is_refused_naming_both(board):
    _, _, bus = board(version=2)
    with pytest.raises(BusError, match="speaks version 2 of the serial protocol, this side version 1"):
        bus.open()


def test_a_board_with_other_joints_or_another_mode_is_refused_naming_both(board):
    two = slider_contract(
        action={"names": ["slider", "lift"], "mode": "effort", "unit": "N", "low": [-1, -1], "high": [1, 1]}
    )
    emulator, _, bus = board(bus_contract=two)
    with pytest.raises(BusError, match="has joints 1, this side 2 for slider, lift"):
        bus.open()
    other = FramedSerialBus(position_contract(), emulator.path, **PATIENT)
    with pytest.raises(BusError, match="control mode effort, this side position"):
        other.open()
    foreign = FramedSerialBus(slider_contract(), emulator.path, hardware_id="left-arm", **PATIENT)
    with pytest.raises(BusError, match="board emulator at .* is not the expected left-arm"):
        foreign.open()
    blind = FramedSerialBus(slider_contract(), emulator.path, **{**PATIENT, "longest_watchdog_s": 0.5})
    with pytest.raises(
        BusError, match="watchdog of 30000 ms; it must lie between two motor periods, 20 ms, and 500 ms"
    ):
        blind.open()


def test_a_port_that_is_not_there_or_says_nothing_or_is_in_use_is_one_sentence(board, tmp_path):
    with pytest.raises(BusError, match="cannot open serial port .*nothing at 1000000 baud"):
        FramedSerialBus(slider_contract(), str(tmp_path / "nothing")).open()
    ours, theirs = os.openpty()
    silent = FramedSerialBus(slider_contract(), os.ttyname(theirs), open_timeout_s=0.2)
    with pytest.raises(BusError, match="no board answers at .* within 0.2 s"):
        silent.open()
    os.close(ours)
    os.close(theirs)
    emulator, _, bus = board()
    bus.open()
    with pytest.raises(BusError, match="is another program using it"):
        FramedSerialBus(slider_contract(), emulator.path, **PATIENT).open()


def test_the_watchdog_cuts_the_power_when_nobody_is_heard(board):
    emulator, physics, bus = board(watchdog_ms=50)
    bus.open()
    bus.enable()
    end = time.monotonic() + 20
    while physics.enabled:
        assert time.monotonic() < end
    bus.read()
    assert "its watchdog has cut the motors' power" in bus.fault()
    bus.write(np.array([1.0]))
    bus.read()
    assert physics.writes == 0
    assert emulator.device.counts["watchdog"] == 1
    bus.disable()
    assert bus.fault() is None


def test_a_command_that_waited_too_long_is_not_obeyed(board):
    emulator, physics, bus = board(watchdog_ms=200)
    bus.open()
    bus.enable()
    emulator.stall(0.5)
    bus.write(np.array([1.0]))
    end = time.monotonic() + 20
    while emulator.device.counts["late"] == 0:
        assert time.monotonic() < end
    assert physics.writes == 0


def test_a_yanked_cable_is_an_error_at_once_and_a_new_connection_is_disarmed(board):
    emulator, physics, bus = board()
    bus.open()
    bus.enable()
    emulator.hang_up()
    began = time.monotonic()
    with pytest.raises(BusError, match="is the cable plugged in"):
        bus.read()
    for call in (bus.read, bus.enable, bus.disable, lambda: bus.write(np.zeros(1))):
        with pytest.raises(BusError, match=emulator.path):
            call()
    assert time.monotonic() - began < 1.0  # no timeout was waited for
    assert "no connection" in bus.fault()
    bus.close()
    with pytest.raises(BusError, match="open the bus"):
        bus.read()
    emulator.plug_in()
    bus.open()
    assert not physics.enabled
    assert bus.read().names == ("slider",)
    assert bus.fault() is None


def test_a_cable_that_is_plugged_in_again_is_found_by_reading_unpowered_and_the_fault_stands_until_disabled(board):
    emulator, _, bus = board()
    bus.open()
    bus.enable()
    emulator.hang_up()
    with pytest.raises(BusError, match="cable"):
        bus.read()
    emulator.plug_in()
    until_read(bus)
    assert "the motors have lost their power" in bus.fault()
    assert not emulator.device.enabled
    bus.disable()
    assert bus.fault() is None


def test_a_board_that_restarted_is_a_fault_and_comes_back_unpowered(board):
    emulator, physics, bus = board()
    bus.open()
    bus.enable()
    bus.read()
    physics.disable()  # as its reset does
    emulator.device = Board(physics, 1, "effort", watchdog_ms=NEVER)
    with pytest.raises(BusError, match="did not answer|has restarted"):
        bus.read()
    assert "the board has restarted" in bus.fault()
    until_read(bus)
    assert "the motors have lost their power" in bus.fault()
    assert not physics.enabled
    bus.disable()
    assert bus.fault() is None


def test_a_board_that_comes_back_as_another_is_refused(board):
    emulator, physics, bus = board()
    bus.open()
    emulator.device = Board(physics, 1, "position", watchdog_ms=NEVER)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            bus.read()
        except BusError as error:
            if "control mode position, this side effort" in str(error):
                break
    assert "another board answers there" in bus.fault()


def test_a_silent_board_is_an_error_within_the_bound(board):
    emulator, _, bus = board(bus={"timeout_s": 0.05})
    bus.open()
    emulator.stall(60.0)
    for call in (bus.read, bus.enable, bus.disable):
        began = time.monotonic()
        with pytest.raises(BusError, match="did not"):
            call()
        assert time.monotonic() - began < 2.0


def test_a_full_output_buffer_does_not_block(board):
    """The other end never reads: writes fail in bounded time, and what could not go out is not sent later."""
    emulator, _, bus = board(bus={"timeout_s": 0.05})
    bus.open()
    bus.enable()
    emulator.stall(60.0)
    began = time.monotonic()
    with pytest.raises(BusError, match="takes no more bytes"):
        for _ in range(100_000):
            bus.write(np.ones(1))
    with pytest.raises(BusError):
        for _ in range(100_000):
            bus.write(np.ones(1))
    assert bus.figures()["output_full"] >= 1
    assert time.monotonic() - began < 30


def test_faults_are_told_per_motor_with_the_temperature(board):
    emulator, physics, bus = board()
    bus.open()
    bus.enable()
    emulator.device.overheat(0)
    read_until(bus, lambda _: bus.fault() is not None)
    assert "slider: over-temperature" in bus.fault()
    assert not physics.enabled
    with pytest.raises(BusError, match="does not obey ENABLE: slider: over-temperature"):
        bus.enable()
    emulator.device.cool()
    bus.disable()
    assert bus.fault() is None
    bus.enable()


def test_an_emergency_stop_at_the_board_is_told(board):
    emulator, _, bus = board()
    bus.open()
    emulator.device.board_faults = 1
    bus.read()
    assert "emergency stop" in bus.fault()


def test_diagnostics_have_both_ends_counters_temperature_and_voltage(board):
    _, _, bus = board()
    bus.open()
    loop = MotorLoop(slider_contract(), bus)
    loop.tick()
    figures = health_of(loop).figures
    assert figures["bus_voltage"] == 24.0
    assert figures["bus_temperature_slider"] == 25.0
    assert figures["bus_board_crc"] == figures["bus_in_crc"] == 0
    assert figures["bus_bytes_out"] > 0 and figures["bus_in_bytes"] > 0
    assert figures["bus_hardware_id"] == "emulator"


def test_the_motor_loop_damps_and_stops_when_the_cable_is_yanked(board):
    emulator, _, bus = board()
    bus.open()
    loop = MotorLoop(slider_contract(), bus)
    loop.tick()
    assert loop.arm().success
    assert loop.tick() is State.HOLD
    emulator.hang_up()
    assert loop.tick() is State.ESTOP
    assert "no connection to" in loop.machine.cause
    assert not loop.reset().success
    emulator.plug_in()
    end = time.monotonic() + 20
    while not loop.reset().success:
        assert time.monotonic() < end
        assert loop.tick() is State.ESTOP  # latched, also while the board is back
    assert loop.tick() is State.DISARMED
    assert not emulator.device.enabled


def test_garbage_on_the_line_is_counted_and_survived():
    """A wire that is not ours answers: noise, then frames of nobody."""
    ours, theirs = os.openpty()
    bus = FramedSerialBus(slider_contract(), os.ttyname(theirs), open_timeout_s=0.3)
    noise = np.random.default_rng(0).integers(0, 256, 3000).astype(np.uint8).tobytes()
    os.write(ours, noise + b"\0" + encode(Frame(Type.INFO, 9, 1, 0, b"short")))
    with pytest.raises(BusError, match="no board answers"):
        bus.open()
    assert select.select([ours], [], [], 0)[0]  # it did say hello
    os.close(ours)
    os.close(theirs)
