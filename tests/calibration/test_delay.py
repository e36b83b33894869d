"""Actuator delay and friction: a MuJoCo joint whose delay is known, and logs of real motors where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from calibration.delay import Log, identify, to_calibration
from calibration.files import write
from one_joint import STEP, drive
from robot_wm.bags.reader import open_bag
from robot_wm.calibration_file import read, require_fit
from robot_wm.errors import CalibrationError
from robot_wm.timebase import NS_PER_S

REAL = Path(os.environ.get("ROBOT_WM_REAL_BAGS", Path(__file__).resolve().parents[3] / "shared" / "real_bags"))


@pytest.mark.parametrize(
    ("mode", "options", "delay"),
    [
        *(("effort", {}, delay) for delay in (0.0, 0.0074, 0.06)),
        ("effort", {"rate": 100.0, "ticks": 1024}, 0.06),
        ("effort", {"gravity": 0.0, "coulomb": 0.055}, 0.0074),  # sticks at every reversal
        *(("position", {}, delay) for delay in (0.0, 0.0074, 0.06)),
        ("position", {"rate": 50.0}, 0.0),
        *(("velocity", {"gain": 0.2, "amplitude": 2.0}, delay) for delay in (0.0, 0.06)),
    ],
    ids=lambda v: ",".join(f"{k}={x:g}" for k, x in v.items()) if isinstance(v, dict) else None,
)
def test_a_known_delay_is_found_within_a_millisecond(mode, options, delay):
    found = identify([drive(delay, mode, **options)], mode)
    assert found.delay_s == pytest.approx(delay - STEP / 2, abs=1e-3)
    assert found.half_width_s < 2e-3


@pytest.mark.parametrize("delay", [0.003, 0.0236])
def test_without_stiction_the_interval_holds_the_truth(delay):
    found = identify([drive(delay, coulomb=0.0)], "effort")
    assert found.interval_s[0] - 1e-4 < delay - STEP / 2 < found.interval_s[1] + 1e-4
    assert found.half_width_s < 3e-4


def test_friction_and_inertia_are_found_with_it():
    found = identify([drive(0.01, coulomb=0.02, viscous=0.05, inertia=0.01)], "effort")
    assert found.viscous == pytest.approx(0.05, rel=0.03)
    assert found.coulomb == pytest.approx(0.02, rel=0.15)
    assert found.inertia == pytest.approx(0.01 + 0.05 * 0.3**2 / 3, rel=0.05)


def test_friction_that_is_not_there_is_not_reported():
    found = identify([drive(0.01, coulomb=0.0, viscous=0.0)], "effort")
    assert found.viscous is None or found.viscous < 1e-3
    assert found.coulomb is None or found.coulomb < 1e-3


def test_commands_and_states_need_no_common_stamps():
    log = drive(0.0124)
    keep = np.sort(np.random.default_rng(0).choice(len(log.stamps), len(log.stamps) * 3 // 4, replace=False))
    found = identify([Log(log.command_stamps, log.command, log.stamps[keep], log.response[keep])], "effort")
    assert found.delay_s == pytest.approx(0.0124 - STEP / 2, abs=1e-3)


def test_a_gap_in_the_log_is_stepped_over():
    log = drive(0.0124)
    keep = (log.stamps < 6.0) | (log.stamps > 7.5)
    found = identify([Log(log.command_stamps, log.command, log.stamps[keep], log.response[keep])], "effort")
    assert found.delay_s == pytest.approx(0.0124 - STEP / 2, abs=5e-4)


def test_a_joint_that_sticks_most_of_the_time_is_refused():
    with pytest.raises(
        CalibrationError, match=r"elbow: friction takes 0\.0\d* of commands up to 0\.3, .* excite it with 0\."
    ):
        identify([drive(0.0124, coulomb=0.08)], "effort", "elbow")


def test_several_logs_make_the_interval_narrower_than_one():
    logs = [drive(0.0124, seconds=10.0, amplitude=a, ticks=1024) for a in (0.5, 0.4, 0.3, 0.25)]
    together = identify(logs, "effort")
    assert together.delay_s == pytest.approx(0.0124 - STEP / 2, abs=1e-3)
    assert together.half_width_s < identify(logs[-1:], "effort").half_width_s


def reported(delay, period=0.002, seconds=10.0):
    """A motor that reports the command of `delay` ago, as a held number."""
    times = np.arange(0.0, seconds, period)
    signal = np.random.default_rng(2).normal(size=len(times)).cumsum()
    signal -= np.convolve(signal, np.ones(100) / 100, mode="same")
    report = signal[np.maximum(np.floor((times - delay) / period + 1e-9).astype(int), 0)]
    return Log(times, signal, times, 0.9 * report + 0.1)


@pytest.mark.parametrize("delay", [0.002, 0.0071, 0.03])
def test_a_reported_effort_is_known_to_half_a_period_at_best(delay):
    found = identify([reported(delay)], "reported")
    assert found.interval_s[0] <= delay <= found.interval_s[1]
    assert found.half_width_s >= 0.001


TIMES = np.arange(0.0, 20.0, 0.01)
WAVE = np.sin(7 * TIMES)


@pytest.mark.parametrize(
    ("log", "mode", "message"),
    [
        (
            Log(TIMES, WAVE, TIMES, WAVE),
            "torque",
            "mode must be one of effort, velocity, position, reported, got 'torque'",
        ),
        (Log(TIMES, 0 * WAVE, TIMES, WAVE), "effort", "the command never changes; excite the joint: robot-wm record"),
        (Log(TIMES, WAVE, TIMES, 0 * WAVE), "effort", "the response never changes"),
        (Log(TIMES, WAVE, TIMES[::-1], WAVE), "effort", "stamps of the response must increase"),
        (Log(TIMES, WAVE, TIMES, WAVE * np.nan), "effort", "the response needs at least three finite samples"),
        (Log(TIMES[:80], WAVE[:80], TIMES[:80], WAVE[:80]), "effort", "are too few; record 20 s or more"),
        (
            Log(TIMES, WAVE, TIMES, np.random.default_rng(0).normal(size=len(TIMES))),
            "reported",
            r"elbow: the command explains only \d+ % of the motion .* check that the mode is reported",
        ),
    ],
)
def test_a_log_that_cannot_tell_is_refused(log, mode, message):
    with pytest.raises(CalibrationError, match=message):
        identify([log], mode, "elbow")


def test_the_file_arms_only_with_a_narrow_interval(tmp_path):
    found = identify([drive(0.0124)], "effort")
    path = write(tmp_path / "delay.yaml", to_calibration({"elbow": found}, "m-1", "effort"))
    values = require_fit(path, "delay", "m-1").values["elbow"]
    assert values["delay_s"] == pytest.approx(found.delay_s)
    assert read(path).residual == pytest.approx(1e3 * found.half_width_s)


def real_logs(names, joint, part):
    logs = []
    for name in names:
        bag = open_bag(REAL / name)
        state = bag.read_joints("joint_states", part, [joint])
        command = bag.read_joints("joint_commands", "effort", [joint])
        start = int(state.stamps[0])
        seconds = [(series.stamps - start) / NS_PER_S for series in (command, state)]
        logs.append(Log(seconds[0], command.values[:, 0], seconds[1], state.values[:, 0]))
    return logs


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real-hardware bags are not at {REAL}")
@pytest.mark.parametrize(
    ("names", "joint", "low_ms", "high_ms"),
    [
        ([f"double_pendulum/pendubot_sac_0{i}" for i in (3, 5, 7)], "shoulder", 5.0, 9.0),
        ([f"double_pendulum/pendubot_ilqr_0{i}" for i in range(2, 8)], "shoulder", 5.0, 9.0),
        (["simple_pendulum/energy_shaping", "simple_pendulum/sac"], "pendulum", 0.0, 8.0),
    ],
    ids=["pendubot_sac", "pendubot_ilqr", "simple_pendulum"],
)
def test_real_motors_report_their_effort_after_a_few_milliseconds(names, joint, low_ms, high_ms):
    found = identify(real_logs(names, joint, "effort"), "reported", joint)
    assert low_ms < 1e3 * found.interval_s[0] < 1e3 * found.interval_s[1] < high_ms
    assert found.explained > 0.99
