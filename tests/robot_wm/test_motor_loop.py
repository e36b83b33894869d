import threading
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from conftest import slider_contract
from motor_bench import STEP, TICK, Bench
from robot_wm.errors import BusError, ContractError
from robot_wm.estop_input import PRESSED, EstopInput
from robot_wm.excitation import Excitation
from robot_wm.messages import JointState
from robot_wm.motor_loop import WRITE_FAILURES
from robot_wm.realtime import RealtimeOptions
from robot_wm.state_machine import State
from robot_wm.timebase import NS_PER_S

SAFETY = {"plan_stale_s": 0.1, "joint_stale_s": 0.05, "hold_s": 0.5}


def bench(mode="effort", safety=None, excitation=None, **action):
    table = {"names": ["slider"], "mode": mode, "low": [-10], "high": [10], **action}
    return Bench(slider_contract(action=table, safety={**SAFETY, **(safety or {})}), excitation)


def test_disarmed_it_reports_joints_and_sends_nothing():
    motor = bench()
    motor.loop.plans.put(motor.plan())
    assert motor.tick(5) is State.DISARMED
    assert motor.bus.writes == 0
    applied, joints, _ = motor.sent[-1]
    assert (applied.source, applied.driven, applied.values.tolist()) == ("disarmed", False, [0.0])
    assert joints.names == ("slider",)


def test_a_plan_is_played_by_time_and_what_is_published_is_what_was_written():
    motor = bench()
    motor.arm()
    motor.loop.plans.put(motor.plan([1.0, 2.0, 3.0]))
    sent = []
    for _ in range(6):
        assert motor.tick() is State.ARMED
        assert motor.applied.values == pytest.approx(motor.bus.written)
        sent.append(motor.applied.values[0])
    assert sent == [1, 1, 2, 2, 3, 3]
    assert motor.applied.source == "plan:0"
    assert motor.applied.driven


def test_what_the_safety_filter_changes_is_what_is_published():
    motor = bench(rate=[100])
    motor.arm()
    motor.loop.plans.put(motor.plan([50.0, 50.0, 50.0]))
    motor.tick(2)
    assert motor.applied.values == pytest.approx([2.0])
    assert motor.bus.written == pytest.approx([2.0])
    assert motor.loop.health().figures["clips"] == 4  # limit and slew, twice


def test_the_ladder_play_hold_damp_with_its_bounds():
    motor = bench(safety={"hold_effort": [0.5], "damping": [2.0]})
    motor.arm()
    motor.loop.plans.put(motor.plan([1.0, 1.0, 1.0]))
    begun = motor.clock.now() + TICK
    motor.tick(150)
    assert [(t.after, (t.stamp - begun) // TICK) for t in motor.transitions] == [
        (State.HOLD, -2),
        (State.ARMED, 0),
        (State.HOLD, 11),
        (State.DAMPED, 62),
    ]
    held = next(a for a, _, state in motor.sent if state is State.HOLD and a.stamp > begun)
    assert (held.source, held.values.tolist()) == ("hold", [0.5])
    damped, joints, _ = motor.sent[-1]
    assert damped.source == "damp"
    assert damped.values == pytest.approx(-2.0 * joints.velocity)
    motor.loop.plans.put(motor.plan())
    assert motor.tick() is State.DAMPED  # never from damped by itself
    motor.loop.plans.put(motor.plan())
    assert motor.loop.arm().success
    assert motor.tick() is State.ARMED


def test_a_fresh_plan_resumes_from_hold():
    motor = bench()
    motor.arm()
    motor.loop.plans.put(motor.plan())
    assert motor.tick(20) is State.HOLD
    motor.loop.plans.put(motor.plan(index=1))
    assert motor.tick() is State.ARMED
    assert motor.applied.source == "plan:1"


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 1.0], [[1.0, 2.0], [1.0, 2.0]]])
def test_a_bad_plan_is_refused_and_the_robot_holds(bad):
    motor = bench()
    motor.arm()
    motor.loop.plans.put(motor.plan(bad))
    assert motor.tick() is State.HOLD
    assert motor.applied.values == pytest.approx([0.0])
    assert motor.loop.health().figures["plans_refused"] == 1
    assert "its actions" in motor.loop.health().figures["plan_refusal"]


def test_only_plans_of_known_bundles_are_played():
    motor = bench()
    motor.arm()
    motor.loop.plan_player.expect("new")
    motor.loop.plans.put(motor.plan(bundle="old"))
    assert motor.tick() is State.HOLD
    motor.loop.plans.put(motor.plan(bundle="new"))
    assert motor.tick() is State.ARMED


def test_an_operators_command_goes_before_the_plan_and_runs_out():
    motor = bench()
    motor.arm()
    motor.loop.commands.put(motor.command(4.0))
    for i in range(13):
        motor.loop.plans.put(motor.plan(index=i))
        motor.tick()
        assert motor.applied.source == ("command" if i < 11 else f"plan:{i}")


def test_excitation_drives_a_robot_without_a_model_and_begins_again_at_each_arming():
    excitation = Excitation(slider_contract(), amplitude=0.5, ramp_s=0.2)
    motor = bench(excitation=excitation)
    runs = []
    for _ in range(2):
        motor.arm()
        motor.sent.clear()
        motor.tick(100)
        runs.append([a.values[0] for a, _, _ in motor.sent])
        assert motor.applied.source == "excite"
        motor.loop.disarm()
        assert motor.tick() is State.DISARMED
    assert runs[0] == runs[1]
    assert np.std(runs[0]) > 0.3
    assert np.abs(runs[0]).max() <= 5.0


def test_reads_that_fail_damp_after_the_bound_and_stop_when_it_lasts():
    motor = bench()
    motor.arm()
    motor.bus.read_error = "cable"
    states = []
    for i in range(70):
        motor.loop.plans.put(motor.plan(index=i))
        states.append(motor.tick())
    assert states.index(State.DAMPED) == 5
    assert states.index(State.ESTOP) == 5 + 51  # damped for longer than hold_s
    assert motor.sent[-1][1] is None
    assert not motor.bus.enabled
    assert "cable" in motor.loop.machine.cause
    assert not motor.loop.reset().success
    motor.bus.read_error = ""
    motor.tick()
    assert motor.loop.reset().success
    assert motor.tick() is State.DISARMED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("elbow",)}, "lacks slider; it has elbow"),
        ({"position": np.array([np.nan])}, "position is not finite for slider"),
        ({"stamp": 0}, "stamp goes back"),
        ({"stamp": 10**15}, "ahead of the clock"),
    ],
)
def test_joint_states_that_cannot_be_used_count_as_failed_reads(change, message):
    motor = bench()
    motor.arm()
    good = motor.bus.read
    motor.bus.read = lambda: replace(good(), **change)
    assert motor.tick(7) is State.DAMPED
    assert message in motor.loop.machine.cause


def test_writes_that_fail_in_a_row_are_an_e_stop_and_nothing_is_claimed_as_sent():
    motor = bench()
    motor.arm()
    motor.bus.write_error = "cable"
    motor.loop.plans.put(motor.plan())
    for _ in range(WRITE_FAILURES):
        assert motor.tick() is State.ARMED
        assert motor.applied is None
    assert motor.tick() is State.ESTOP
    assert "5 writes in a row failed: cable" in motor.loop.machine.cause
    assert not motor.bus.enabled
    assert (motor.applied.source, motor.applied.driven) == ("estop", False)


def test_single_failed_writes_do_not_add_up():
    motor = bench()
    motor.arm()
    for i in range(40):
        motor.bus.write_error = "noise" if i % 2 else ""
        motor.loop.plans.put(motor.plan(index=i))
        assert motor.tick() is State.ARMED
    assert motor.loop.write_failures == 20


def test_a_fault_of_the_hardware_is_an_e_stop_until_it_is_gone_and_reset():
    motor = bench()
    motor.arm()
    motor.bus.fault_text = "motor 2 is too hot"
    assert motor.tick() is State.ESTOP
    motor.loop.plans.put(motor.plan())
    assert motor.tick() is State.ESTOP
    assert not motor.loop.reset().success
    motor.bus.fault_text = ""
    motor.tick()
    assert motor.loop.reset().success
    assert motor.loop.health().level == 0


def test_motors_that_cannot_be_powered_are_an_e_stop():
    motor = bench()
    motor.tick()
    motor.bus.write_error = "no supply voltage"
    motor.loop.arm()
    assert motor.tick() is State.ESTOP
    assert "cannot power the motors: no supply voltage" in motor.loop.machine.cause


def test_power_that_cannot_be_cut_keeps_being_cut_and_blocks_the_reset():
    motor = bench()
    motor.arm()
    calls = []

    def stuck():
        calls.append(1)
        raise BusError("relay stuck")

    release, motor.bus.disable = motor.bus.disable, stuck
    motor.loop.estop("button")
    motor.tick(10)
    assert len(calls) == 10
    assert "relay stuck" in motor.loop.reset().message
    motor.bus.disable = release
    motor.tick(2)
    assert motor.loop.reset().success


def test_a_joint_without_a_motor_beyond_its_bound_damps():
    contract = slider_contract(
        observations=[{"name": "p", "topic": "joint_states", "field": "position", "names": ["slider", "hinge"]}],
        safety={**SAFETY, "velocity": {"hinge": 3.0}},
    )
    motor = Bench(contract)
    motor.arm()
    motor.bus.velocity[1] = 5.0
    motor.loop.plans.put(motor.plan())
    assert motor.tick() is State.DAMPED
    assert "hinge moves at" in motor.loop.machine.cause


def test_position_mode_arms_and_holds_where_it_is():
    motor = bench("position")
    motor.bus.position[:] = 0.7
    motor.arm()
    assert motor.applied.values == pytest.approx([0.7])
    motor.loop.plans.put(motor.plan([0.8, 0.9, 1.0]))
    motor.tick(20)
    assert motor.loop.machine.state is State.HOLD
    assert motor.applied.values == pytest.approx([1.0])
    motor.tick(60)
    assert motor.loop.machine.state is State.DAMPED
    assert motor.applied.values == pytest.approx([1.0])


def test_position_mode_does_not_arm_without_measured_positions():
    motor = bench("position")
    motor.bus.read = lambda: JointState(motor.clock.now(), ("slider",), np.zeros(0), np.zeros(1), np.zeros(0))
    motor.tick()
    answer = motor.loop.arm()
    assert not answer.success
    assert "position is not measured" in answer.message


def test_velocity_mode_holds_still():
    motor = bench("velocity")
    motor.arm()
    motor.loop.plans.put(motor.plan())
    assert motor.tick(20) is State.HOLD
    assert motor.applied.values == pytest.approx([0.0])


def test_a_table_of_the_wrong_length_is_refused_at_the_start():
    with pytest.raises(ContractError, match="safety.damping has 3 entries for 1 actions"):
        bench(safety={"damping": [1.0, 2.0, 3.0]})


def test_a_stalled_machine_is_seen_as_late_and_missed_ticks_and_goes_to_hold():
    motor = bench()
    motor.arm()
    stop, sleeps = threading.Event(), []
    motor.loop.plans.put(motor.plan())

    def sleep_until(stamp):
        """Punctual, but the fifth time the machine sleeps through 300 ms."""
        sleeps.append(stamp)
        late = 300_000_000 if len(sleeps) == 5 else 0
        motor.clock._now = max(motor.clock._now, stamp + late)
        if len(sleeps) == 20:
            stop.set()

    motor.clock.sleep_until = sleep_until
    motor.loop.run(stop)
    stats = motor.loop.stats
    assert stats.ticks_missed == 29
    assert stats.lateness.largest == 300_000_000
    assert "deadlines missed" in motor.loop.health().message
    assert sleeps[-1] % (STEP // 2) == 0  # deadlines never drift from the grid
    assert State.HOLD in [t.after for t in motor.transitions[1:]]
    assert not motor.bus.enabled  # however the loop ends, the power is cut


def test_the_estop_input_refuses_arming_stops_at_once_and_holds_the_reset_until_it_is_clear():
    motor = bench(safety={"hold_s": 60.0})
    given = motor.loop.estop_input = EstopInput(0.15)
    motor.tick()
    refused = motor.loop.arm()
    assert not refused.success
    assert "the e-stop input has said nothing yet" in refused.message
    given.say(True, motor.clock.now())
    motor.arm()
    given.say(False, motor.clock.now())
    assert motor.tick() is State.ESTOP
    assert not motor.bus.enabled
    assert motor.loop.machine.cause == PRESSED
    assert not motor.loop.reset().success
    given.say(True, motor.clock.now())
    motor.tick()
    assert motor.tick() is State.ESTOP  # it latches
    assert motor.loop.reset().success
    motor.arm()
    assert motor.tick(20) is State.ESTOP
    assert "silent for 0.1" in motor.loop.machine.cause


def test_how_long_the_bus_takes_to_read_and_to_write_is_counted():
    motor = bench()
    motor.arm()
    read, write = motor.bus.read, motor.bus.write

    def slow_read():
        motor.clock._now += 2_000_000
        return read()

    def slow_write(values):
        motor.clock._now += 3_000_000
        write(values)

    motor.bus.read, motor.bus.write = slow_read, slow_write
    motor.tick()
    figures = motor.loop.health().figures
    assert (figures["read_ms_max"], figures["write_ms_max"]) == (2.0, 3.0)


@pytest.mark.parametrize(("last", "after"), [(60, State.ARMED), (140, State.DAMPED)])
def test_a_loop_that_cannot_keep_its_pace_holds_and_goes_on_when_it_can_or_damps(last, after):
    motor = bench()
    motor.arm()
    stop, sleeps, states = threading.Event(), [], []
    slow = 25_000_000  # a tick that takes two and a half periods

    def sleep_until(stamp):
        sleeps.append(stamp)
        states.append(motor.loop.machine.state)
        motor.loop.plans.put(motor.plan([1.0] * 20))
        motor.clock._now = max(motor.clock._now, stamp)
        if len(sleeps) == 200:
            stop.set()

    read = motor.bus.read
    motor.clock.sleep_until = sleep_until
    motor.bus.read = lambda: (motor.clock.advance(slow if 20 < len(sleeps) < last else 0), read())[1]
    motor.loop.run(stop)
    reached = [state for i, state in enumerate(states) if i == 0 or states[i - 1] is not state]
    assert reached == [State.HOLD, State.ARMED, State.HOLD, after]  # first until the plan comes
    held = next(t for t in motor.transitions if t.after is State.HOLD and "deadlines" in t.cause)
    assert held.cause.endswith("of 100 deadlines missed within a second")


def test_run_reports_what_real_time_it_got():
    motor, stop = bench(), threading.Event()
    stop.set()
    motor.loop.run(stop, RealtimeOptions(priority=0, lock_memory=False, freeze_gc=False))
    assert motor.loop.health().figures["realtime"] == "not real-time"


def test_a_listener_that_fails_cuts_the_power():
    motor, stop = bench(), threading.Event()
    motor.arm()

    def fail(*_):
        raise RuntimeError("middleware is gone")

    motor.loop._publish = fail
    with pytest.raises(RuntimeError):
        motor.loop.run(stop)
    assert not motor.bus.enabled


def test_a_loop_that_is_started_again_begins_disarmed():
    motor, stop = bench(), threading.Event()
    motor.arm()
    stop.set()
    motor.loop.run(stop)
    assert motor.transitions[-1].cause == "the motor loop has ended"
    motor.loop.plans.put(motor.plan())
    assert motor.tick() is State.DISARMED
    assert not motor.bus.enabled


def test_memory_does_not_grow():
    motor = bench()
    motor.arm()
    motor.loop._publish = None

    def run(count):
        for i in range(count):
            motor.loop.plans.put(motor.plan(index=i))
            motor.tick()

    run(500)
    tracemalloc.start()
    run(100)
    before = tracemalloc.get_traced_memory()[0]
    run(2000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000


def test_a_minute_of_virtual_time_takes_every_tick():
    motor = bench()
    motor.arm()
    motor.tick(6000)
    assert motor.loop.stats.ticks == 6002
    assert motor.clock.now() == NS_PER_S + 6002 * TICK


def test_excitation_of_positions_begins_where_the_joint_is():
    contract = slider_contract(
        action={"names": ["slider"], "mode": "position", "low": [-10], "high": [10]}, safety=SAFETY
    )
    motor = Bench(contract, Excitation(contract, amplitude=0.5, seed=1))
    motor.bus.position[:] = 6.0
    motor.arm()
    motor.tick()
    assert motor.applied.source == "excite"
    assert motor.applied.values == pytest.approx([6.0], abs=0.01)


@pytest.mark.parametrize(("position", "arms"), [(1.49, True), (1.51, True), (1.75, False), (-1.75, False)])
def test_a_position_controlled_joint_outside_its_limits_is_not_armed_into_a_jump(position, arms):
    motor = bench("position", limit_low=[-1.5], limit_high=[1.5])
    motor.bus.position[:] = position
    motor.tick()
    answer = motor.loop.arm()
    assert answer.success is arms
    if not arms:
        assert answer.message.startswith(f"cannot arm: joints: slider is at {position:.3f}, outside -1.5..1.5; move")


def test_a_bus_that_fails_in_its_own_way_still_leaves_the_loop_disarmed():
    motor = bench()
    motor.arm()

    def vendor(*_):
        raise OSError("vendor library")

    motor.bus.write = motor.bus.disable = vendor
    motor.loop.plans.put(motor.plan())
    with pytest.raises(OSError, match="vendor library"):
        motor.loop.run(threading.Event())
    assert motor.loop.machine.state is State.DISARMED
