"""The maker's SDK on a real pty, with servos emulated behind it. Bounds on time are wide: they show that a call ends, not when."""

import contextlib
import threading
import time
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("dynamixel_sdk", reason="needs the extra `serial`")

from bus_tools import until_read
from conftest import slider_contract
from robot_wm.buses.dynamixel import DynamixelBus
from robot_wm.buses.dynamixel_table import BUS_WATCHDOG, HARDWARE_ERROR, OPERATING_MODE, TORQUE_ENABLE
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.buses.servo_link import LateReply
from robot_wm.contract import parse_contract
from robot_wm.errors import BusError
from robot_wm.joint_zero import JointZero
from robot_wm.motor_health import health_of
from robot_wm.motor_loop import MotorLoop
from robot_wm.state_machine import State
from sim.dynamixel_core import DynamixelChain
from sim.dynamixel_packets import Packet, encode, split
from sim.link_faults import FaultRates
from sim.pty_emulator import PtyEmulator

PATIENT = {"timeout_s": 1.0, "open_timeout_s": 20.0, "watchdog_s": 2.54}  # on a loaded machine
TURN = 2 * np.pi


def arm_contract(mode="effort", limit=3.0):
    names = ["shoulder", "wrist"]
    observed = [
        {"name": field, "topic": "joint_states", "field": field, "names": names} for field in ("position", "velocity")
    ]
    action = {"names": names, "mode": mode, "low": [-limit, -limit], "high": [limit, limit]}
    safety = {"joint_stale_s": 20.0}  # on a loaded machine
    return slider_contract(observations=observed, action=action, safety=safety)


@pytest.fixture(autouse=True)
def _loaded_machine(monkeypatch):
    monkeypatch.setattr("robot_wm.buses.servo_bus.ENABLE_PATIENCE", 1_000_000_000)


@pytest.fixture
def servos(tmp_path):
    """A function that starts emulated servos and gives them, their physics and a bus for them."""
    running, clients = [], []

    def make(contract=None, bus=None, rates=None, **options):
        contract = contract or arm_contract()
        physics = LoopbackBus(contract)
        physics.open()
        chain = DynamixelChain(physics, contract.action.size, contract.action.mode, **options)
        emulator = PtyEmulator(chain, tmp_path / f"servos{len(running)}", rates, split=split)
        context = emulator.running()
        context.__enter__()
        running.append(context)
        client = DynamixelBus(contract, emulator.path, **{**PATIENT, **(bus or {})})
        clients.append(client)
        return emulator, physics, client

    yield make
    for client in clients:
        client.close()
    for context in running:
        context.__exit__(None, None, None)


def read_until(bus, condition):
    """Readings until one meets the condition, or 60 s have passed."""
    end = time.monotonic() + 60
    while not condition(state := bus.read()):
        assert time.monotonic() < end
    return state


def test_currents_go_out_and_readings_come_back(servos):
    emulator, physics, bus = servos()
    bus.open()
    assert not physics.enabled
    bus.enable()
    assert physics.enabled
    bus.write(np.array([1.0, -0.5]))
    state = read_until(bus, lambda s: s.effort[0] != 0.0)
    assert state.names == ("shoulder", "wrist")
    assert state.effort == pytest.approx([1.0, -0.5], abs=2.69e-3 / 2)  # half a unit of Goal Current
    assert physics.written == pytest.approx([1.0, -0.5], abs=2.69e-3 / 2)
    assert bus.fault() is None
    bus.disable()
    assert not physics.enabled
    assert emulator.device.counts["crc"] == emulator.device.counts["refused"] == 0


def test_positions_have_zero_and_direction_and_enabling_moves_nothing(servos):
    options = {"zero": {"shoulder": 0.5}, "direction": {"wrist": -1}}
    emulator, physics, bus = servos(arm_contract("position", 2.0), bus=options)
    physics.position[:] = 1.5, -0.25
    bus.open()
    assert [servo.get(OPERATING_MODE) for servo in emulator.device.servos] == [3, 3]
    assert bus.read().position == pytest.approx([1.0, 0.25], abs=TURN / 4096)
    bus.enable()
    bus.read()
    assert physics.written == pytest.approx([1.5, -0.25], abs=TURN / 4096)
    bus.write(np.array([0.75, 1.0]))
    state = read_until(bus, lambda s: s.position[0] < 0.9)
    assert state.position == pytest.approx([0.75, 1.0], abs=TURN / 4096)
    assert physics.written == pytest.approx([1.25, -1.0], abs=TURN / 4096)


def test_calibrated_joints_move_as_the_contract_says_across_the_end_of_a_turn(servos):
    """The shoulder's servo counts against the joint and its range crosses 4095 | 0; the wrist's zero is off."""
    zeros = {
        "shoulder": JointZero(-1.0, 3.1, 0.5, -0.9, 1.9, TURN),
        "wrist": JointZero(1.0, TURN - 0.4, 0.0, -1.4, 1.4, TURN),
    }
    contract = arm_contract("position", 1.3)
    options = DynamixelBus.with_zeros(contract, {"extended": True}, zeros)
    _, physics, bus = servos(contract, bus=options)
    physics.position[:] = -TURN / 2 + 0.1, -0.1  # the shoulder's reading of 3.1 lies a turn further
    bus.open()
    expected = [float(zero.position(physics.position[k])) for k, zero in enumerate(zeros.values())]
    assert bus.read().position == pytest.approx(expected, abs=TURN / 4096)
    before = physics.position.copy()
    bus.enable()
    bus.read()
    assert physics.written == pytest.approx(before, abs=TURN / 4096)
    bus.write(np.array(expected) + [0.25, 0.25])
    state = read_until(bus, lambda s: s.position[1] > expected[1] + 0.2)
    assert state.position == pytest.approx(np.array(expected) + 0.25, abs=TURN / 4096)
    assert physics.written == pytest.approx(before + [-0.25, 0.25], abs=TURN / 2048)


def test_a_calibrated_range_that_a_servo_in_position_control_cannot_reach_is_refused(servos):
    contract = arm_contract("position", 1.3)
    crossing = {"shoulder": JointZero(1.0, 3.1, 0.0, -1.4, 1.4, TURN)}
    _, _, bus = servos(contract, bus=DynamixelBus.with_zeros(contract, {}, crossing))
    with pytest.raises(BusError, match=r"Max Position Limit .* or set extended"):
        bus.open()


def test_velocities_are_in_radians_per_second(servos):
    _, physics, bus = servos(arm_contract("velocity", 5.0))
    bus.open()
    bus.enable()
    bus.write(np.array([2.0, -1.0]))
    state = read_until(bus, lambda s: s.velocity[0] != 0.0)
    assert state.velocity == pytest.approx([2.0, -1.0], abs=0.013)  # half of 0.229 rev/min
    assert physics.written == pytest.approx([2.0, -1.0], abs=0.013)


def test_a_joint_that_was_turned_by_hand_is_held_where_it_stands(servos):
    emulator, physics, bus = servos(arm_contract("position", 2.0))
    physics.position[0] = 3 * TURN + 0.5  # Position Control Mode forgets turns when the torque comes on
    bus.open()
    bus.enable()
    bus.read()
    assert physics.written[0] == pytest.approx(3 * TURN + 0.5, abs=TURN / 4096)
    assert bus.read().position[0] == pytest.approx(0.5, abs=TURN / 4096)
    assert emulator.device.counts["refused"] == 0


def test_a_joint_that_is_no_action_is_measured_and_never_powered(servos):
    emulator, physics, _ = servos()
    contract = arm_contract().to_dict()
    contract["action"].update(names=["shoulder"], low=[-3], high=[3], limit_low=[-3], limit_high=[3], unit=[""])
    bus = DynamixelBus(parse_contract(contract), emulator.path, ids={"wrist": 2, "shoulder": 1}, **PATIENT)
    physics.position[:] = 0.25, -0.5
    bus.open()
    bus.enable()
    assert bus.read().position == pytest.approx([0.25, -0.5], abs=TURN / 4096)
    assert [servo.torque for servo in emulator.device.servos] == [True, False]
    assert bus.fault() is None
    bus.close()


def test_servos_without_current_have_no_effort(servos):
    _, _, bus = servos(arm_contract("velocity", 5.0), model=1060)
    bus.open()
    assert bus.read().effort.shape == (0,)
    _, _, bus = servos(model=1060)
    with pytest.raises(BusError, match="XL430-W250 cannot control its current; choose position or velocity"):
        bus.open()


@pytest.mark.parametrize(("firmware", "fast"), [(45, "yes"), (44, "no")])
def test_old_firmware_is_read_plainly(servos, firmware, fast):
    _, _, bus = servos(firmware=firmware)
    bus.open()
    assert bus.read().names == ("shoulder", "wrist")
    assert bus.figures()["fast_sync_read"] == fast


def test_stamps_lie_in_the_middle_of_the_exchange_and_only_go_forward(servos):
    _, _, bus = servos()
    bus.open()
    stamps = []
    for _ in range(20):
        asked = time.monotonic_ns()
        stamps.append(bus.read().stamp)
        assert asked <= stamps[-1] <= time.monotonic_ns()
    assert all(later > earlier for earlier, later in pairwise(stamps))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_setpoint_that_is_not_finite_never_reaches_the_wire(servos, value):
    _, _, bus = servos()
    bus.open()
    bus.enable()
    before = bus.figures()["bytes_out"]
    with pytest.raises(BusError, match="not finite for shoulder"):
        bus.write(np.array([value, 0.0]))
    assert bus.figures()["bytes_out"] == before


def until_only_readings(bus, monkeypatch):
    """From now on the bus asks for nothing but readings, and no reply is outstanding."""
    monkeypatch.setattr("robot_wm.buses.servo_reader.HEALTH_EVERY", 2**62)
    while until_read(bus) or bus.session.link.outstanding is not None:
        pass


class Delay:
    """Replies of a running emulator are kept back until `release`."""

    def __init__(self, emulator, monkeypatch):
        monkeypatch.setattr("robot_wm.buses.servo_link.SETTLE", 120_000_000_000)  # on a loaded machine
        self.emulator, self.kept, self.answer = emulator, [], emulator.device.receive
        emulator.device.receive = self.keep

    def keep(self, data, now):
        answer = self.answer(data, now)
        if answer:
            self.kept.append(answer)
        return b""

    def wait(self):
        """Until there is a reply to keep."""
        end = time.monotonic() + 60
        while not self.kept:
            assert time.monotonic() < end
            time.sleep(0.001)

    def release(self, bytes_=None):
        """Let the oldest reply go, or only so many bytes of it, and see it arrive."""
        self.wait()
        reply = self.kept.pop(0)
        if bytes_ is not None:
            self.kept.insert(0, reply[bytes_:])
            reply = reply[:bytes_]
        self.emulator._send(reply)

    def end(self):
        self.emulator.device.receive = self.answer


def test_a_late_reading_comes_one_call_later_with_its_own_stamp_and_value(servos, monkeypatch):
    emulator, physics, bus = servos(bus={"timeout_s": 0.02})
    bus.open()
    bus.enable()
    until_only_readings(bus, monkeypatch)
    delay = Delay(emulator, monkeypatch)
    asked = []
    for k in range(5):
        physics.position[:] = 0.1 * k, -0.1 * k
        asked.append(time.monotonic_ns())
        if not k:
            with pytest.raises(BusError, match="did not answer yet"):
                bus.read()
        else:
            state = bus.read()
            assert state.position == pytest.approx([0.1 * (k - 1), -0.1 * (k - 1)], abs=TURN / 4096)
            assert asked[k - 1] < state.stamp < time.monotonic_ns()
        goals = emulator.device.counts["goals"]
        bus.write(np.array([0.01 * k, 0.0]))  # the servos are not kept waiting
        end = time.monotonic() + 60
        while emulator.device.counts["goals"] == goals:
            assert time.monotonic() < end
        delay.release(10)
        delay.release()
    assert bus.figures()["timeouts"] == bus.figures()["corrupt"] == 0


def test_a_reading_in_two_halves_is_joined(servos, monkeypatch):
    emulator, physics, bus = servos(bus={"timeout_s": 0.02})
    bus.open()
    until_only_readings(bus, monkeypatch)
    delay = Delay(emulator, monkeypatch)
    physics.position[:] = 0.75, -0.25
    for bytes_ in (0, 10, 7):
        with pytest.raises(BusError, match="did not answer yet"):
            bus.read()
        delay.release(bytes_)
    delay.release()
    assert bus.read().position == pytest.approx([0.75, -0.25], abs=TURN / 4096)


def test_late_health_is_taken_for_what_it_is(servos, monkeypatch):
    emulator, _, bus = servos(bus={"timeout_s": 0.02})
    bus.open()
    monkeypatch.setattr("robot_wm.buses.servo_reader.HEALTH_EVERY", 0)
    delay = Delay(emulator, monkeypatch)
    seen, end = set(), time.monotonic() + 60
    while len(seen) < 4:
        assert time.monotonic() < end
        with contextlib.suppress(LateReply):
            assert bus.read().position == pytest.approx([0.0, 0.0], abs=TURN / 4096)
        delay.release()
        assert bus.fault() is None
        seen |= bus.session.health.asked.keys() & set(bus.session.health.rotation)
    assert bus.session.health.measured(1) == {"voltage": 12.0, "temperature": 35.0}


def test_the_torque_goes_off_at_once_though_a_reply_is_outstanding_and_a_late_answer_confirms_it(servos, monkeypatch):
    emulator, physics, bus = servos(bus={"timeout_s": 0.03})
    bus.open()
    bus.enable()
    until_only_readings(bus, monkeypatch)
    delay = Delay(emulator, monkeypatch)
    with pytest.raises(BusError, match="did not answer yet"):
        bus.read()
    with pytest.raises(BusError, match="did not answer yet"):
        bus.disable()
    end = time.monotonic() + 60
    while physics.enabled:
        assert time.monotonic() < end
    delay.release()  # the reading
    with pytest.raises(BusError, match="did not answer yet"):
        bus.disable()
    delay.release()  # Torque Enable
    bus.disable()
    assert bus.fault() is None


def test_a_reply_that_is_late_does_not_keep_the_torque_from_coming_on(servos, monkeypatch):
    emulator, physics, bus = servos(bus={"timeout_s": 0.02})
    bus.open()
    until_only_readings(bus, monkeypatch)
    delay = Delay(emulator, monkeypatch)
    with pytest.raises(BusError, match="did not answer yet"):
        bus.read()
    delay.wait()
    delay.end()
    delay.release()
    monkeypatch.setattr("robot_wm.buses.servo_bus.ENABLE_PATIENCE", 20_000_000_000)  # on a loaded machine
    bus.enable()
    assert physics.enabled and bus.fault() is None


def test_servos_are_met_though_every_reply_comes_after_its_call(servos, monkeypatch):
    emulator, _, bus = servos(bus={"timeout_s": 0.01, "open_timeout_s": 60.0})
    delay = Delay(emulator, monkeypatch)
    stop = threading.Event()

    def release_late():
        while not stop.wait(0.02):
            if delay.kept:
                delay.release()

    thread = threading.Thread(target=release_late)
    thread.start()
    try:
        bus.open()
    finally:
        stop.set()
        thread.join()
        delay.end()
    assert [servo.model.name for servo in bus.session.servos] == ["XM430-W350", "XM430-W350"]


def test_a_missing_id_is_told_with_those_that_answer(servos):
    _, _, bus = servos(bus={"ids": {"shoulder": 1, "wrist": 7}, "open_timeout_s": 0.0, "timeout_s": 0.3})
    with pytest.raises(
        BusError, match=r"servo 7 at .* did not answer; at 1000000 baud answer ids: 1, 2; wanted: 1 .sh"
    ):
        bus.open()
    assert "no connection" in bus.fault()


def test_a_wrong_model_or_an_unknown_one_or_old_firmware_is_refused(servos):
    _, _, bus = servos(bus={"models": {"wrist": "XL330-M288"}})
    with pytest.raises(BusError, match=r"servo 2 \(wrist\) .* is a XM430-W350, not the expected XL330-M288"):
        bus.open()
    _, _, bus = servos(model=350)
    with pytest.raises(BusError, match="model number 350, which is no Dynamixel X-series model"):
        bus.open()
    _, _, bus = servos(firmware=37)
    with pytest.raises(BusError, match="firmware 37; its Bus Watchdog needs 38: update it"):
        bus.open()


def test_limits_beyond_the_servos_are_refused_because_it_would_ignore_such_goals(servos):
    _, _, bus = servos(arm_contract(limit=10.0))
    with pytest.raises(BusError, match=r"limits are -3717\.\.3717 .* Current Limit \(38\) allow -1193\.\.1193"):
        bus.open()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ids": {"shoulder": 1}}, "ids: no servo for wrist"),
        ({"ids": {"shoulder": 1, "wrist": 1}}, "different numbers from 0 to 252, not 1"),
        ({"ids": {"shoulder": 1, "wrist": 253}}, "not 253"),
        ({"zero": {"elbow": 1.0}}, "zero names elbow; the joints are shoulder, wrist"),
        ({"direction": {"wrist": 2}}, "direction must be 1 or -1"),
        ({"watchdog_s": 0.01}, "watchdog_s is 0.01; it must lie between two motor periods, 0.02 s, and 2.54 s"),
        ({"watchdog_s": 3.0}, "watchdog_s is 3"),
    ],
)
def test_wrong_options_are_one_sentence(options, said):
    with pytest.raises(BusError, match=said):
        DynamixelBus(arm_contract(), "/dev/null", **options)


def test_the_bus_watchdog_stops_the_servos_and_only_enable_clears_it(servos):
    emulator, physics, bus = servos(bus={"watchdog_s": 0.1})
    bus.open()
    bus.enable()
    bus.write(np.array([1.0, 1.0]))
    end = time.monotonic() + 60
    while emulator.device.counts["watchdog"] < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    read_until(bus, lambda _: bus.fault() is not None)
    assert "shoulder: its bus watchdog has stopped it" in bus.fault()
    assert physics.written == pytest.approx([0.0, 0.0])
    bus.write(np.array([1.0, 1.0]))  # refused by the servos
    bus.read()
    assert physics.written == pytest.approx([0.0, 0.0])
    bus.disable()
    assert bus.fault() is None
    assert all(servo.tripped for servo in emulator.device.servos)
    bus.enable()
    assert not any(servo.tripped for servo in emulator.device.servos)


def test_an_overheated_servo_is_told_with_its_temperature_and_cannot_be_enabled(servos):
    emulator, _, bus = servos()
    bus.open()
    bus.enable()
    emulator.device.overheat(1)
    read_until(bus, lambda _: "overheating at 95 °C" in (bus.fault() or ""))
    assert "wrist: overheating" in bus.fault() and "shoulder" not in bus.fault()
    bus.disable()
    with pytest.raises(BusError, match="wrist: overheating; power-cycle them"):
        bus.enable()
    emulator.device.servos[1].cool()
    bus.read()
    assert "overheating" in bus.fault()  # as in the servo, the error stays
    emulator.device.power_cycle(1)
    read_until(bus, lambda _: bus.fault() is None)
    bus.enable()


def test_a_servo_that_restarted_has_lost_its_torque(servos):
    emulator, _, bus = servos()
    bus.open()
    bus.enable()
    emulator.device.power_cycle(0)
    read_until(bus, lambda _: "shoulder: has lost its torque" in (bus.fault() or ""))
    bus.disable()
    assert bus.fault() is None
    bus.enable()
    assert all(servo.get(BUS_WATCHDOG) == 127 for servo in emulator.device.servos)


def test_the_operating_mode_is_changed_with_the_torque_off_though_somebody_left_it_on(servos):
    emulator, _, bus = servos()
    for servo in emulator.device.servos:
        servo.put(TORQUE_ENABLE, 1)
    bus.open()
    assert [servo.get(OPERATING_MODE) for servo in emulator.device.servos] == [0, 0]
    assert not any(servo.torque for servo in emulator.device.servos)


def test_a_servo_that_falls_silent_is_named_and_the_connection_ends(servos):
    emulator, _, bus = servos(bus={"timeout_s": 0.2})
    bus.open()
    bus.enable()
    emulator.device.absent.add(2)
    said, end = set(), time.monotonic() + 60
    while "did not answer for" not in (bus.fault() or ""):
        assert time.monotonic() < end
        with pytest.raises(BusError) as caught:
            bus.read()
        said.add(str(caught.value))
    assert any("servo 2 at" in text for text in said)  # fast sync read alone could not tell who it was
    emulator.device.absent.clear()
    until_read(bus)
    assert "has lost its torque" in bus.fault()
    bus.disable()
    assert bus.fault() is None


def test_lost_replies_are_errors_within_the_bound(servos):
    emulator, _, bus = servos(bus={"timeout_s": 0.05})
    bus.open()
    emulator.from_device.rates = FaultRates(drop=1.0)
    for call in (bus.read, bus.enable, bus.disable):
        began = time.monotonic()
        with pytest.raises(BusError, match="did not answer"):
            call()
        assert time.monotonic() - began < 5.0
    assert bus.figures()["timeouts"] > 0


@pytest.mark.parametrize("fault", ["corrupt", "truncate", "duplicate", "delay", "drop"])
def test_a_bad_cable_is_counted_and_survived(servos, fault):
    emulator, _, bus = servos(bus={"timeout_s": 0.1})
    bus.open()
    rates = FaultRates(**{fault: 0.3})
    emulator.to_device.rates = emulator.from_device.rates = rates
    for _ in range(30):
        try:
            state = bus.read()
        except BusError:
            continue
        assert np.isfinite(state.position).all() and np.abs(state.position).max() < TURN
    assert emulator.from_device.counts[fault] + emulator.to_device.counts[fault] > 0
    emulator.to_device.rates = emulator.from_device.rates = FaultRates()
    until_read(bus)


def test_a_line_that_babbles_does_not_hold_a_call(servos):
    """Sound packets of others come without end: the SDK alone would wait for its own for ever."""
    emulator, _, bus = servos(bus={"timeout_s": 0.1})
    bus.open()
    emulator.device.receive = lambda data, now: encode(Packet(9, 0x55, bytes(11))) * 100
    began = time.monotonic()
    with pytest.raises(BusError):
        bus.read()
    assert time.monotonic() - began < 5.0


def test_a_full_output_buffer_does_not_block(servos):
    emulator, _, bus = servos()
    bus.open()
    bus.enable()
    emulator.stall(120.0)
    with pytest.raises(BusError, match="takes no more bytes"):
        for _ in range(100_000):
            bus.write(np.zeros(2))
    assert bus.figures()["output_full"] >= 1


def test_a_yanked_cable_is_an_error_at_once_and_found_again_unpowered(servos):
    emulator, physics, bus = servos()
    bus.open()
    bus.enable()
    emulator.hang_up()
    began = time.monotonic()
    with pytest.raises(BusError, match="is the cable plugged in"):
        bus.read()
    for call in (bus.read, bus.enable, bus.disable, lambda: bus.write(np.zeros(2))):
        with pytest.raises(BusError, match=emulator.path):
            call()
    assert time.monotonic() - began < 1.0  # no timeout was waited for
    assert "no connection" in bus.fault()
    emulator.plug_in()
    until_read(bus)
    assert "has lost its torque" in bus.fault()
    assert not physics.enabled
    bus.disable()
    assert bus.fault() is None


def test_a_port_that_is_not_there_or_in_use_is_one_sentence(servos, tmp_path):
    with pytest.raises(BusError, match="cannot open serial port .*nothing at 1000000 baud"):
        DynamixelBus(arm_contract(), str(tmp_path / "nothing")).open()
    emulator, _, bus = servos()
    bus.open()
    with pytest.raises(BusError, match="is another program using it"):
        DynamixelBus(arm_contract(), emulator.path, **PATIENT).open()


def test_diagnostics_have_counters_models_temperature_and_voltage(servos):
    _, _, bus = servos()
    bus.open()
    loop = MotorLoop(arm_contract(), bus)
    end = time.monotonic() + 60
    while "bus_voltage_wrist" not in health_of(loop).figures:
        assert time.monotonic() < end
        loop.tick()
    figures = health_of(loop).figures
    assert figures["bus_voltage_wrist"] == 12.0 and figures["bus_temperature_shoulder"] == 35.0
    assert figures["bus_model_wrist"] == "XM430-W350, firmware 45"
    assert figures["bus_bytes_out"] > 0 and figures["bus_bytes_in"] > 0 and figures["bus_timeouts"] == 0


def test_a_slow_usb_adapter_is_warned_of(servos, monkeypatch):
    monkeypatch.setattr("robot_wm.buses.servo_session.latency_timer_ms", lambda path: 16)
    emulator, _, bus = servos(bus={"timeout_s": 0.2, "open_timeout_s": 0.0})
    bus.open()
    assert bus.figures()["latency_timer_ms"] == 16
    assert "latency timer is 16 ms" in bus.figures()["warning"]
    bus.close()
    emulator.device.absent.update({1, 2})
    with pytest.raises(BusError, match="answer ids: none; .*latency timer is 16 ms"):
        bus.open()


def test_the_motor_loop_stops_when_a_servo_overheats(servos):
    emulator, _, bus = servos()
    bus.open()
    loop = MotorLoop(arm_contract(), bus)
    loop.tick()
    assert loop.arm().success
    assert loop.tick() is State.HOLD
    emulator.device.overheat(0)
    end = time.monotonic() + 60
    while loop.tick() is not State.ESTOP:
        assert time.monotonic() < end
    assert not any(servo.torque for servo in emulator.device.servos)
    assert emulator.device.servos[0].get(HARDWARE_ERROR)
