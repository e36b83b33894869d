"""The motor loop with each real bus on a pty, faults asked for while it runs, and the monitor as the judge.

No test judges how long anything took: bounds are the fault campaign's, on a machine that has nothing else to do.
"""

import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="needs the extra `sim`")
pytest.importorskip("serial", reason="needs the extra `serial`")

from robot_wm.buses.base import bus_kind
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.contract import load_contract
from robot_wm.errors import RunError
from robot_wm.messages import Command
from robot_wm.motor_loop import MotorLoop
from robot_wm.state_machine import State
from sim import dynamixel_packets, feetech_packets
from sim.board_core import Board
from sim.bus_monitor import BusMonitor
from sim.bus_tap import Tap
from sim.cartpole import CONTRACT
from sim.dynamixel_core import DynamixelChain
from sim.feetech_core import FeetechChain
from sim.link_control import LinkControl
from sim.link_faults import at_zeros
from sim.pty_emulator import PtyEmulator

SCALE = {"slider": 4.0}
PATIENT = {"open_timeout_s": 20.0, "timeout_s": 0.05}
BUSES = {
    "serial": (lambda p, c: Board(p, c.action.size, "effort", 1500), at_zeros, {"longest_watchdog_s": 2.0}),
    "dynamixel": (
        lambda p, c: DynamixelChain(p, c.action.size, "effort", SCALE), dynamixel_packets.split,
        {"effort_scale": SCALE, "watchdog_s": 1.5},
    ),
    "feetech": (
        lambda p, c: FeetechChain(p, c.action.size, "effort", {"slider": 10.0}), feetech_packets.split,
        {"effort_scale": {"slider": 10.0}},
    ),
}  # fmt: skip
WATCHED = ("serial", "dynamixel")


@pytest.fixture
def contract():
    """Tighter than the hardware, patient with a loaded machine."""
    found = load_contract(CONTRACT)
    action = replace(found.action, limit_low=(-8.0,), limit_high=(8.0,), rate=(400.0,))
    observations = tuple(replace(o, rate_hz=1.0) for o in found.observations)
    safety = replace(found.safety, joint_stale_s=1.0, plan_stale_s=2.0, hold_s=30.0, damping=())
    return replace(found, action=action, observations=observations, safety=safety)


class Rig:
    """One bus, one loop, one line."""

    def __init__(self, name, contract, folder):
        make, split, options = BUSES[name]
        self.physics = LoopbackBus(contract)
        self.physics.open()
        self.emulator = PtyEmulator(make(self.physics, contract), folder / "line", split=split, tap=Tap(folder / "tap"))
        self.control = LinkControl(self.emulator, "")
        options = {**PATIENT, **options, "port": self.emulator.path}
        self.monitor = BusMonitor(name, contract, options, folder / "tap")
        self.bus = bus_kind(name)(contract, **options)
        self.loop = MotorLoop(contract, self.bus)
        self._rng = np.random.default_rng(0)

    def drive(self, until, seconds=60.0):
        """Tick with wild commands until a condition holds."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"{self.loop.machine.state}: {self.loop.machine.cause}"
            now = self.loop.clock.now()
            self.loop.commands.put(Command(now, self._rng.choice([-9.0, -6.0, 6.0, 9.0], 1)))
            self.loop.tick()
            time.sleep(0.002)
            self.monitor.poll()

    def ticks(self, count):
        end = self.loop.stats.ticks + count
        self.drive(lambda: self.loop.stats.ticks >= end)

    def is_(self, state):
        return lambda: self.loop.machine.state is state

    def arm(self):
        """What an operator does: reset where it is stopped, arm, again while that is refused."""

        def armed():
            state = self.loop.machine.state
            if state is State.ESTOP:
                self.loop.reset()
            elif state in (State.DISARMED, State.DAMPED):
                self.loop.arm()
            return state is State.ARMED

        self.drive(armed)
        self.ticks(5)

    def obey(self, text):
        """Ask for a fault; returns when [ns]."""
        now = time.monotonic_ns()
        self.control.obey(text)
        return now

    def safe_since(self, start, off):
        self.monitor.poll()
        return self.monitor.became_safe(start, time.monotonic_ns(), off) is not None


@pytest.fixture
def rig(contract, tmp_path):
    rigs, contexts = [], []

    def start(name):
        made = Rig(name, contract, tmp_path)
        context = made.emulator.running()
        context.__enter__()
        contexts.append(context)
        made.bus.open()
        rigs.append(made)
        return made

    yield start
    for made in rigs:
        made.bus.close()
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.mark.parametrize("name", BUSES)
def test_wild_commands_leave_the_filter_within_limits_and_rate(rig, name):
    line = rig(name)
    line.arm()
    line.ticks(100)
    assert line.monitor.goals > 50
    assert line.monitor.violations == []
    start = time.monotonic_ns()
    line.ticks(5)
    assert not line.safe_since(start, off=False)


@pytest.mark.parametrize("name", BUSES)
@pytest.mark.parametrize("fault", ["corrupt", "drop", "duplicate", "delay", "truncate"])
def test_a_noisy_line_never_makes_the_host_say_what_the_contract_forbids(rig, name, fault):
    line = rig(name)
    line.arm()
    line.obey(f"{fault}=0.2")
    line.ticks(60)
    assert line.emulator.to_device.counts[fault] > 0
    assert line.monitor.violations == []
    assert [text for _, text in line.monitor.inflicted] == [f"{fault}=0.2"]


@pytest.mark.parametrize("name", BUSES)
def test_without_readings_the_motors_are_told_to_rest_and_an_operator_brings_it_back(rig, name):
    line = rig(name)
    line.arm()
    start = line.obey("answers.drop=1")
    line.drive(lambda: line.loop.machine.state in (State.DAMPED, State.ESTOP))
    line.drive(lambda: line.safe_since(start, off=False))
    line.obey("")
    line.arm()
    assert line.monitor.violations == []


@pytest.mark.parametrize("name", WATCHED)
@pytest.mark.parametrize("fault", ["hangup@0", "drop=1", "stall@0=4"])
def test_a_line_that_is_cut_leaves_the_motors_without_power(rig, name, fault):
    line = rig(name)
    line.arm()
    start = line.obey(fault)
    line.drive(lambda: line.safe_since(start, off=True))
    line.drive(lambda: line.loop.machine.state in (State.DAMPED, State.ESTOP))
    line.obey("plugin@0")
    line.drive(line.is_(State.ESTOP))
    line.arm()
    assert line.monitor.violations == []


@pytest.mark.parametrize("name", BUSES)
def test_a_hot_motor_is_without_power_and_comes_back_cool(rig, name):
    line = rig(name)
    line.arm()
    start = line.obey("overheat@0=0")
    line.drive(line.is_(State.ESTOP))
    assert "over" in line.loop.machine.cause
    assert line.safe_since(start, off=True)
    line.obey("cool@0=0")
    line.arm()
    assert line.monitor.violations == []


def test_readings_that_are_no_numbers_are_no_readings(rig):
    line = rig("serial")
    line.arm()
    start = line.obey("nan@0=3")
    line.drive(line.is_(State.DAMPED))
    assert "no joint state for" in line.loop.machine.cause
    line.drive(lambda: line.safe_since(start, off=False))
    line.arm()
    assert line.monitor.violations == []


@pytest.mark.parametrize("seconds", [-30, -0.2, 0.2, 30])
def test_a_board_whose_clock_jumps_comes_back(rig, seconds):
    line = rig("serial")
    line.arm()
    line.obey(f"clock@0={seconds}")
    if abs(seconds) > 1.5:  # longer than its watchdog: it takes every frame for an old one
        line.drive(line.is_(State.ESTOP))
    else:
        line.ticks(100)
    line.arm()
    assert line.monitor.violations == []


def test_servos_tell_no_time_and_whole_numbers(rig):
    line = rig("feetech")
    with pytest.raises(RunError, match="befalls boards of our serial protocol alone"):
        line.obey("clock@0=1")
