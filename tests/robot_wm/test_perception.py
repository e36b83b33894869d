"""When a corrected latent is published: once per instant, as soon as nothing nearer to it will come."""

import numpy as np
import pytest

from linear_model import LinearModel
from robot_wm.messages import Measurement
from robot_wm.perception import Perception
from robot_wm.timebase import VirtualClock
from trust_world import STEP, SliderModel, usual

MS = 1_000_000


@pytest.fixture
def clock():
    return VirtualClock(1000 * MS)


@pytest.fixture
def perception(contract, clock):
    return Perception(contract, LinearModel(observations=2), clock)


def read(perception, clock, stamp_ms, arrives_ms=None):
    """One joint state: both observations of the contract, in one message."""
    clock.sleep_until(round((stamp_ms if arrives_ms is None else arrives_ms) * MS))
    values = np.array([0.1])
    both = [Measurement(name, round(stamp_ms * MS), values) for name in ("position", "velocity")]
    return perception.observe(both)


def published(perception, clock, stamps_ms):
    """Instants [ms] of the latents that readings at these times lead to."""
    latents = [read(perception, clock, stamp)[1] for stamp in stamps_ms]
    return [latent.stamp // MS for latent in latents if latent is not None]


def test_of_two_readings_per_step_only_the_one_on_the_instant_publishes(perception, clock):
    assert published(perception, clock, range(1020, 1110, 10)) == [1020, 1040, 1060, 1080, 1100]


def test_readings_out_of_phase_publish_the_nearest_of_each_instant(perception, clock):
    stamps = [1023 + 10 * i for i in range(8)]
    assert published(perception, clock, stamps) == [1020, 1040, 1060, 1080]


def test_a_slow_sensor_is_never_waited_for(perception, clock):
    assert published(perception, clock, [1032, 1052, 1072, 1092]) == [1040, 1060, 1080, 1100]


def test_a_late_reading_is_replayed_and_reported(perception, clock):
    read(perception, clock, 1040)
    read(perception, clock, 1080)
    corrections, latent, info = read(perception, clock, 1060, arrives_ms=1090)
    assert [c.late_steps for c in corrections] == [2, 0]
    assert (latent.stamp // MS, info.late_steps, info.delay_s) == (1080, 2, 0.03)


def test_what_is_not_accepted_publishes_nothing(perception, clock):
    read(perception, clock, 1040)
    corrections, latent, info = read(perception, clock, 1040)
    assert {c.outcome for c in corrections} == {"duplicate"}
    assert (latent, info) == (None, None)
    corrections, latent, _ = read(perception, clock, 1900, arrives_ms=1050)
    assert {c.outcome for c in corrections} == {"future"}
    assert latent is None
    assert perception.observe([]) == ([], None, None)


def slid(perception, clock, count, sign=1.0, start=50):
    """Readings of a slider that stands still 1 cm from the middle, one per instant; what the last one said."""
    info = None
    for k in range(start, start + count):
        clock.sleep_until(k * STEP)
        values = (np.array([sign * 0.01]), np.zeros(1))
        both = [
            Measurement(name, k * STEP, value) for name, value in zip(("position", "velocity"), values, strict=True)
        ]
        info = perception.observe(both)[2] or info
    return info


def test_corrections_are_judged_by_what_is_usual_for_the_bundle_or_not_at_all(contract, clock):
    perception = Perception(contract, SliderModel(contract), clock)
    assert slid(perception, clock, 20).trust == ""
    perception.judge_by(usual())
    info = slid(perception, clock, 80, start=70)
    assert (info.trust, sorted(info.statistics)) == (
        "normal",
        ["position", "position blind", "position silent", "velocity", "velocity blind", "velocity silent"],
    )
    for k in range(30):  # a sensor that cannot make up its mind
        info = slid(perception, clock, 1, sign=(-1.0) ** k, start=150 + k)
    assert info.trust != "normal" and info.surprise["position"] >= 1.0
    assert perception.trust.take_changes()[0].cause.startswith("position")
    perception.restart(clock.now())
    assert perception.trust.event(clock.now()).kind == "normal"


def test_another_bundle_is_judged_by_its_own_trust_from_normal_on(contract, clock):
    perception = Perception(contract, SliderModel(contract), clock)
    perception.judge_by(usual())
    monitor = perception.trust
    perception.judge_by(usual(limit=20.0))
    assert perception.trust is monitor and monitor.spec == usual(limit=20.0)
    perception.judge_by(None)
    assert perception.trust is None
