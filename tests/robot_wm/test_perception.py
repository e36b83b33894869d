"""When a corrected latent is published: once per instant, as soon as nothing nearer to it will come."""

import numpy as np
import pytest

from linear_model import LinearModel
from robot_wm.messages import Measurement
from robot_wm.perception import Perception
from robot_wm.timebase import VirtualClock

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
