import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.errors import RunError
from robot_wm.excitation import KINDS, Excitation

ACTION = {"names": ["a", "b"], "mode": "effort", "low": [-10, -2], "high": [10, 2], "limit_high": [5, 2]}
TIMES = np.arange(0.0, 30.0, 0.01)


def signal(kind="multisine", times=TIMES, start=None, **options):
    excitation = Excitation(slider_contract(action=ACTION), kind, **options)
    excitation.restart(start)
    return np.array([excitation.action(t) for t in times])


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.floats(0.01, 1.0),
    st.integers(0, 2**31),
    st.sampled_from([None, (4.0, -1.5), (5.0, 0.0)]),
)
def test_it_stays_within_the_tightened_limits(kind, amplitude, seed, start):
    values = signal(kind, TIMES[::7], amplitude=amplitude, seed=seed, start=start)
    assert (values >= np.array([-10, -2]) - 1e-9).all()
    assert (values <= np.array([5, 2]) + 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_one_signal_and_it_moves_every_action(kind):
    first = signal(kind, seed=7, amplitude=0.8)
    assert (first == signal(kind, seed=7, amplitude=0.8)).all()
    assert (first.std(axis=0) > 0.1 * 0.8 * np.array([5, 2])).all()
    assert abs(np.corrcoef(first.T)[0, 1]) < 0.4  # the actions can be told apart


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_at_rest_and_returns_there_and_then_is_over(kind):
    excitation = Excitation(slider_contract(action=ACTION), kind, ramp_s=1.0, duration_s=5.0)
    assert excitation.action(0.0) == pytest.approx([0, 0], abs=1e-9)
    assert excitation.action(4.999) == pytest.approx([0, 0], abs=1e-4)
    assert excitation.action(5.0) is None


@pytest.mark.parametrize("start", [(3.0, 1.0), (5.0, -2.0)], ids=["inside", "at the limits"])
def test_it_begins_where_the_robot_is_and_leaves_smoothly(start):
    values = signal(amplitude=0.5, start=start)
    assert values[0] == pytest.approx(start)
    assert np.abs(np.diff(values[:20], axis=0)).max() < 0.05
    assert values.std(axis=0).min() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_restart_repeats_it(kind):
    excitation = Excitation(slider_contract(action=ACTION), kind, seed=3)
    first = [excitation.action(t) for t in TIMES[:300]]
    excitation.restart()
    assert np.array_equal(first, [excitation.action(t) for t in TIMES[:300]])


def test_a_multisine_keeps_to_its_band():
    values = signal(ramp_s=0.0, band=(0.5, 3.0))[:, 0]
    spectrum = np.abs(np.fft.rfft(values * np.hanning(len(values)))) ** 2
    frequency = np.fft.rfftfreq(len(values), 0.01)
    inside = (frequency > 0.4) & (frequency < 3.1)
    assert spectrum[inside].sum() > 0.99 * spectrum.sum()


def test_a_range_that_ends_at_zero_is_used_around_its_middle():
    action = {"names": ["thrust"], "mode": "effort", "low": [0], "high": [4]}
    excitation = Excitation(slider_contract(action=action), ramp_s=0.0, amplitude=1.0)
    values = np.array([excitation.action(t)[0] for t in TIMES])
    assert values.min() >= 0
    assert values.mean() == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "square"}, "unknown excitation 'square'; choose multisine, chirp, ou"),
        ({"amplitude": 1.5}, "amplitude must be above 0 and at most 1"),
        ({"band": (3.0, 1.0)}, "band must rise"),
        ({"band": (1.0, 80.0)}, "above half of motor_hz, 50 Hz"),
        ({"duration_s": 3.0, "ramp_s": 2.0}, "no room for two ramps"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(options, message):
    with pytest.raises(RunError, match=message):
        Excitation(slider_contract(), **options)
