"""The maker's SDK on a real pty, with servos emulated behind it. Bounds on time are wide: they show that a call ends, not when."""

import struct
import time

import numpy as np
import pytest

pytest.importorskip("scservo_sdk", reason="needs the extra `serial`")

from bus_tools import until_read
from conftest import slider_contract
from robot_wm.buses.feetech import FeetechBus
from robot_wm.buses.feetech_table import (
    GOAL_POSITION,
    GOAL_PWM,
    LOCK,
    OPERATING_MODE,
    PHASE,
    POSITION_LIMITS,
    RESOLUTION,
    TORQUE_ENABLE,
    TORQUE_LIMIT,
)
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.contract import parse_contract
from robot_wm.errors import BusError
from robot_wm.joint_zero import JointZero
from robot_wm.motor_health import health_of
from robot_wm.motor_loop import MotorLoop
from robot_wm.state_machine import State
from sim.feetech_core import FeetechChain
from sim.feetech_packets import Packet, encode, split
from sim.link_faults import FaultRates
from sim.pty_emulator import PtyEmulator

PATIENT = {"timeout_s": 1.0, "open_timeout_s": 20.0}  # on a loaded machine
TURN = 2 * np.pi
STEP = TURN / 4096


def arm_contract(mode="position", limit=2.0):
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
        chain = FeetechChain(physics, contract.action.size, contract.action.mode, **options)
        emulator = PtyEmulator(chain, tmp_path / f"servos{len(running)}", rates, split=split)
        context = emulator.running()
        context.__enter__()
        running.append(context)
        client = FeetechBus(contract, emulator.path, **{**PATIENT, **(bus or {})})
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


def test_positions_have_zero_and_direction_and_enabling_moves_nothing(servos):
    options = {"zero": {"shoulder": 0.5}, "direction": {"wrist": -1}}
    emulator, physics, bus = servos(bus=options)
    physics.position[:] = 1.5, -0.25
    bus.open()
    assert not physics.enabled
    assert [servo.get(OPERATING_MODE) for servo in emulator.device.servos] == [0, 0]
    assert bus.read().position == pytest.approx([1.0, 0.25], abs=STEP)
    bus.enable()
    assert physics.enabled
    bus.read()
    assert physics.written == pytest.approx([1.5, -0.25], abs=STEP)
    bus.write(np.array([0.75, 1.0]))
    state = read_until(bus, lambda s: s.position[0] < 0.9)
    assert state.names == ("shoulder", "wrist")
    assert state.position == pytest.approx([0.75, 1.0], abs=STEP)
    assert physics.written == pytest.approx([1.25, -1.0], abs=STEP)
    assert bus.fault() is None
    bus.disable()
    assert not physics.enabled
    assert emulator.device.counts["checksum"] == emulator.device.counts["refused"] == 0


@pytest.mark.parametrize("phase", [28, 24])
def test_velocities_are_in_radians_per_second_in_either_unit_of_the_servo(servos, phase):
    emulator, physics, bus = servos(arm_contract("velocity", 5.0))
    for servo in emulator.device.servos:
        servo.save(PHASE, phase)
    unit = STEP if phase == 28 else 50 * STEP
    bus.open()
    bus.enable()
    bus.write(np.array([2.0, -1.0]))
    state = read_until(bus, lambda s: s.velocity[0] != 0.0)
    assert state.velocity == pytest.approx([2.0, -1.0], abs=unit)
    assert physics.written == pytest.approx([2.0, -1.0], abs=unit / 2 + 1e-9)


def test_efforts_are_parts_of_full_pwm_and_readings_come_back(servos):
    _, physics, bus = servos(
        arm_contract("effort", 3.0), bus={"effort_scale": {"shoulder": 3.0, "wrist": 6.0}}, effort_scale={"wrist": 2.0}
    )
    bus.open()
    bus.enable()
    bus.write(np.array([1.5, -0.75]))
    state = read_until(bus, lambda s: s.effort[0] != 0.0)
    assert state.effort == pytest.approx([1.5, -0.75])
    assert physics.written == pytest.approx([0.5, -0.25])


@pytest.mark.parametrize(("phase", "read"), [(28, 3 * TURN + 0.5), (12, 0.5)])
def test_positions_count_on_over_many_turns_where_the_servo_is_set_so(servos, phase, read):
    emulator, physics, bus = servos(arm_contract("velocity", 4.0))
    for servo in emulator.device.servos:
        servo.save(PHASE, phase)
    physics.position[:] = 3 * TURN + 0.5, -3 * TURN - 0.5
    bus.open()
    assert bus.read().position == pytest.approx([read, -read], abs=STEP)


def test_a_joint_in_position_control_is_held_in_the_turn_where_it_stands(servos):
    _, physics, bus = servos()
    physics.position[0] = 3 * TURN + 0.5
    bus.open()
    bus.enable()
    bus.read()
    assert physics.written[0] == pytest.approx(3 * TURN + 0.5, abs=STEP)


def test_calibrated_joints_move_as_the_contract_says(servos):
    zeros = {"shoulder": JointZero(-1.0, 0.3, 0.5, -0.9, 1.9, TURN), "wrist": JointZero(1.0, 0.4, 0.0, -1.4, 1.4, TURN)}
    contract = arm_contract(limit=1.3)
    _, physics, bus = servos(contract, bus=FeetechBus.with_zeros(contract, {}, zeros))
    physics.position[:] = 0.1, -0.1
    bus.open()
    expected = [float(zero.position(physics.position[k])) for k, zero in enumerate(zeros.values())]
    assert bus.read().position == pytest.approx(expected, abs=STEP)
    bus.enable()
    bus.write(np.array(expected) + [0.25, 0.25])
    state = read_until(bus, lambda s: s.position[1] > expected[1] + 0.2)
    assert state.position == pytest.approx(np.array(expected) + 0.25, abs=2 * STEP)


def test_a_wrap_in_position_control_is_refused():
    with pytest.raises(BusError, match=r"position_wrap names wrist, which leave no turn in position control$"):
        FeetechBus(arm_contract(), "/dev/null", position_wrap={"wrist": [0.0, TURN]})


def test_a_goal_goes_out_only_while_the_torque_is_on_because_it_would_switch_it_on(servos):
    emulator, physics, bus = servos()
    bus.open()
    goals = emulator.device.counts["goals"]
    with pytest.raises(BusError, match="the torque is off, nothing was sent"):
        bus.write(np.zeros(2))
    bus.enable()
    bus.write(np.zeros(2))
    bus.disable()
    with pytest.raises(BusError, match="the torque is off"):
        bus.write(np.zeros(2))
    bus.read()
    assert emulator.device.counts["goals"] == goals + 2  # one per servo
    assert not physics.enabled


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_setpoint_that_is_not_finite_never_reaches_the_wire(servos, value):
    _, _, bus = servos()
    bus.open()
    bus.enable()
    before = bus.figures()["bytes_out"]
    with pytest.raises(BusError, match="not finite for shoulder"):
        bus.write(np.array([value, 0.0]))
    assert bus.figures()["bytes_out"] == before


def test_a_joint_that_is_no_action_is_measured_and_never_powered(servos):
    emulator, physics, _ = servos()
    contract = arm_contract().to_dict()
    contract["action"].update(names=["shoulder"], low=[-2], high=[2], limit_low=[-2], limit_high=[2], unit=[""])
    bus = FeetechBus(parse_contract(contract), emulator.path, ids={"wrist": 2, "shoulder": 1}, **PATIENT)
    physics.position[:] = 0.25, -0.5
    bus.open()
    bus.enable()
    assert bus.read().position == pytest.approx([0.25, -0.5], abs=STEP)
    assert [servo.torque for servo in emulator.device.servos] == [True, False]
    assert bus.fault() is None
    bus.close()


def test_a_pwm_or_speed_that_was_left_in_a_servo_is_gone_before_its_torque_is_on(servos):
    emulator, physics, bus = servos(arm_contract("effort", 1.0))
    for servo in emulator.device.servos:
        servo.put(GOAL_PWM, 1000)  # with the power it is full PWM (memory table, 44)
    bus.open()
    bus.enable()
    assert physics.enabled and physics.written == pytest.approx([0.0, 0.0])


def test_the_mode_is_not_saved_and_set_again_after_a_restart(servos):
    emulator, _, bus = servos(arm_contract("velocity", 4.0))
    for servo in emulator.device.servos:
        servo.put(TORQUE_ENABLE, 1)  # somebody left it on
    bus.open()
    servo = emulator.device.servos[0]
    assert (servo.get(OPERATING_MODE), servo.get(LOCK), servo.torque) == (1, 1, False)
    bus.enable()
    emulator.device.power_cycle(0)
    assert servo.get(OPERATING_MODE) == 0
    read_until(bus, lambda _: "shoulder: has lost its torque" in (bus.fault() or ""))
    with pytest.raises(BusError, match="the torque is off"):
        bus.write(np.zeros(2))
    bus.disable()
    assert bus.fault() is None
    bus.enable()
    assert servo.get(OPERATING_MODE) == 1 and servo.torque


def test_a_servo_that_does_not_take_its_mode_stays_off(servos):
    emulator, physics, bus = servos(arm_contract("velocity", 4.0), bus={"timeout_s": 0.2})
    bus.open()
    servo = emulator.device.servos[1]
    write = servo.write
    servo.write = lambda address, data: address == OPERATING_MODE.address or write(address, data)
    emulator.device.power_cycle(1)
    with pytest.raises(BusError, match="wrist did not take 1 in register 33"):
        bus.enable()
    assert not physics.enabled


def test_a_missing_id_is_told_with_those_that_answer(servos):
    _, _, bus = servos(bus={"ids": {"shoulder": 1, "wrist": 7}, "open_timeout_s": 0.0, "timeout_s": 0.3})
    with pytest.raises(
        BusError, match=r"servo 7 at .* did not answer; at 1000000 baud answer ids: 1, 2; wanted: 1 .sh"
    ):
        bus.open()
    assert "no connection" in bus.fault()


@pytest.mark.parametrize(
    ("register", "value", "said"),
    [
        (RESOLUTION, 3, r"servo 2 \(wrist\) .* Angular Resolution \(30\) other than 1"),
        (POSITION_LIMITS, 0, r"Min and Max Position Limits \(9, 11\) 0, 0; this bus needs them within one turn"),
        (POSITION_LIMITS, 1000 | 3000 << 16, r"limits are 744\.\.3352 .* Position Limit \(9, 11\) allow 1000\.\.3000"),
    ],
)
def test_a_servo_whose_settings_do_not_fit_is_refused(servos, register, value, said):
    emulator, _, bus = servos()
    emulator.device.servos[1].save(register, value)
    with pytest.raises(BusError, match=said):
        bus.open()


def test_a_wrong_model_or_byte_order_is_refused(servos):
    _, _, bus = servos(bus={"models": {"wrist": "STS3250"}})
    with pytest.raises(BusError, match=r"servo 2 \(wrist\) .* is a STS3215, not the expected STS3250"):
        bus.open()
    emulator, _, bus = servos()
    emulator.device.servos[0].table[2] = 1
    with pytest.raises(BusError, match="stores high bytes first, as SCS servos do"):
        bus.open()


def test_an_effort_or_speed_beyond_what_a_servo_gives_is_refused(servos):
    emulator, _, bus = servos(arm_contract("effort", 1.0))
    emulator.device.servos[0].put(TORQUE_LIMIT, 500)
    with pytest.raises(BusError, match=r"limits are -1000\.\.1000 .* Torque Limit \(48\) allow -500\.\.500"):
        bus.open()
    _, _, bus = servos(arm_contract("velocity", 6.0))
    with pytest.raises(BusError, match=r"limits are -3911\.\.3911 .* speed limit \(84\) allow -3400\.\.3400"):
        bus.open()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ids": {"shoulder": 1}}, "ids: no servo for wrist"),
        ({"ids": {"shoulder": 1, "wrist": 1}}, "different numbers from 0 to 252, not 1"),
        ({"zero": {"elbow": 1.0}}, "zero names elbow; the joints are shoulder, wrist"),
        ({"direction": {"wrist": 2}}, "direction must be 1 or -1"),
    ],
)
def test_wrong_options_are_one_sentence(options, said):
    with pytest.raises(BusError, match=said):
        FeetechBus(arm_contract(), "/dev/null", **options)


def test_an_overheated_servo_is_told_with_its_temperature_and_cannot_be_enabled_until_it_is_cool(servos):
    emulator, _, bus = servos()
    bus.open()
    bus.enable()
    emulator.device.overheat(1)
    read_until(bus, lambda _: "wrist: overheating at 85 °C, 7.4 V" in (bus.fault() or ""))
    assert "shoulder" not in bus.fault()
    bus.disable()
    with pytest.raises(BusError, match="wrist: overheating; wait until that is over"):
        bus.enable()
    bus.read()
    assert not emulator.device.enabled
    emulator.device.servos[1].cool()
    read_until(bus, lambda _: bus.fault() is None)
    bus.enable()


def test_a_joint_outside_its_servos_limits_is_not_powered(servos):
    emulator, physics, bus = servos(arm_contract(limit=1.0))
    for servo in emulator.device.servos:
        servo.save(POSITION_LIMITS, 1000 | 3000 << 16)
    physics.position[0] = 2.0
    bus.open()
    with pytest.raises(BusError, match=r"shoulder stands at 3352, outside its servo's 1000\.\.3000; move it by hand"):
        bus.enable()
    assert not physics.enabled


def test_a_position_is_held_without_a_ramp_or_a_limit_of_speed(servos):
    for phase, speed in ((12, 0), (4, 3400)):  # a goal speed of 0 is no limit, or a stop
        emulator, _, bus = servos()
        for servo in emulator.device.servos:
            servo.save(PHASE, phase)
        bus.open()
        bus.enable()
        motion = emulator.device.servos[0].read(41, 7)
        assert struct.unpack("<BHHH", motion) == (0, 2048, 0, speed)


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
    assert any("servo 2 at" in text for text in said)
    emulator.device.absent.clear()
    until_read(bus)
    assert "has lost its torque" in bus.fault()
    with pytest.raises(BusError, match="the torque is off"):
        bus.write(np.zeros(2))
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
        assert np.isfinite(state.position).all()
    assert emulator.from_device.counts[fault] + emulator.to_device.counts[fault] > 0
    emulator.to_device.rates = emulator.from_device.rates = FaultRates()
    until_read(bus)


def test_a_line_that_babbles_does_not_hold_a_call(servos):
    """Sound packets of others come without end: the SDK alone would wait for its own for ever."""
    emulator, _, bus = servos(bus={"timeout_s": 0.1})
    bus.open()
    emulator.device.receive = lambda data, now: encode(Packet(9, 0, bytes(6))) * 100
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
    assert physics.enabled  # these servos have no watchdog
    emulator.plug_in()
    until_read(bus)
    assert not physics.enabled
    bus.disable()
    assert bus.fault() is None


def test_closing_switches_the_torque_off(servos):
    _, physics, bus = servos()
    bus.open()
    bus.enable()
    bus.close()
    assert not physics.enabled


def test_diagnostics_have_counters_models_and_what_the_servos_measure(servos):
    emulator, _, bus = servos(arm_contract("velocity", 4.0))
    emulator.device.servos[1].measure_supply(current=100)
    bus.open()
    loop = MotorLoop(arm_contract("velocity", 4.0), bus)
    end = time.monotonic() + 60
    while "bus_voltage_wrist" not in health_of(loop).figures:
        assert time.monotonic() < end
        loop.tick()
    figures = health_of(loop).figures
    assert figures["bus_voltage_wrist"] == pytest.approx(7.4) and figures["bus_temperature_shoulder"] == 35.0
    assert figures["bus_current_wrist"] == pytest.approx(0.65)
    assert figures["bus_model_wrist"] == "STS3215, firmware 3.10"
    assert "no watchdog: they keep their last speed" in figures["bus_warning"]
    assert figures["bus_bytes_out"] > 0 and figures["bus_bytes_in"] > 0 and figures["bus_timeouts"] == 0


def test_the_motor_loop_stops_when_a_servo_overheats_and_leaves_all_without_torque(servos):
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
    loop.tick()
    assert [servo.get(TORQUE_ENABLE) for servo in emulator.device.servos] == [0, 0]
    assert emulator.device.servos[1].get(GOAL_POSITION) == 2048
