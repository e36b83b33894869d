"""Rewind, correct, replay: the latent is a function of stamped records, never of the order they arrived in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import slider_contract
from linear_model import LinearModel
from robot_wm.errors import BackendError, MessageError
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Applied, Measurement

MS = 1_000_000
STEP = 20 * MS


def new_filter(history_s=1.0):
    return LatentFilter(slider_contract(), LinearModel(), history_s=history_s, start=0)


def position(stamp, value=1.0):
    return Measurement("position", stamp, np.array([value]))


def feed(filter_, records):
    for record in records:
        if isinstance(record, Applied):
            filter_.applied(record)
        else:
            filter_.observe(record)
    return filter_.latent()


records = st.lists(
    st.one_of(
        st.builds(lambda t, v: Applied(t, np.array([v]), "command"), st.integers(0, 400 * MS), st.floats(-10, 10)),
        st.builds(
            lambda n, t, v: Measurement(n, t, np.array([v])),
            st.sampled_from(["position", "velocity"]),
            st.integers(0, 400 * MS),
            st.floats(-3, 3),
        ),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda r: (type(r), getattr(r, "name", ""), r.stamp),
)


@settings(max_examples=300)
@given(records, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_latent(items, random):
    anchor = position(400 * MS)
    shuffled = list(items)
    random.shuffle(shuffled)
    straight = feed(new_filter(), [*sorted(items, key=lambda r: r.stamp), anchor])
    mixed = new_filter()
    for record in shuffled:  # evaluate in between, so that something is there to rewind
        feed(mixed, [record])
    late = feed(mixed, [anchor])
    assert late.stamp == straight.stamp
    np.testing.assert_array_equal(late.values, straight.values)


def test_without_measurements_the_prior_runs_on_through_what_was_applied():
    filter_ = new_filter()
    filter_.observe(position(0))
    filter_.applied(Applied(0, np.array([10.0]), "command"))
    start = filter_.latent().values
    expected = filter_.model.prior(start[None], np.array([[1.0]]))[0]
    predicted = filter_.predict(STEP)
    assert predicted.stamp == STEP
    np.testing.assert_allclose(predicted.values, expected)


def test_an_instant_corrects_another_prior_with_what_was_measured_and_stays_itself():
    filter_ = new_filter()
    before = feed(filter_, [position(0), position(STEP, 3.0)])
    np.testing.assert_allclose(filter_.corrected(1, np.array([1.0, 5.0], np.float32)), [2.0, 2.5])
    np.testing.assert_array_equal(filter_.latent().values, before.values)


def test_a_late_command_is_replayed():
    on_time, late = new_filter(), new_filter()
    command = Applied(5 * MS, np.array([7.0]), "command")
    expected = feed(on_time, [position(0), command, position(STEP), position(2 * STEP)])
    feed(late, [position(0), position(STEP), position(2 * STEP)])
    got = feed(late, [command])
    np.testing.assert_array_equal(got.values, expected.values)


def test_of_two_measurements_at_one_instant_the_nearer_counts_and_of_two_as_near_the_later():
    filter_ = new_filter()
    assert filter_.observe(position(STEP - 5 * MS)).outcome == "accepted"
    assert filter_.observe(position(STEP + 5 * MS)).outcome == "accepted"
    assert filter_.observe(position(STEP - 5 * MS)).outcome == "superseded"
    assert filter_.observe(position(STEP + 5 * MS)).outcome == "duplicate"
    assert filter_.observe(position(STEP)).outcome == "accepted"


def test_every_measurement_is_accounted_for_by_name_of_outcome():
    filter_ = new_filter(history_s=0.2)
    for k in range(30):
        filter_.observe(position(k * STEP), now=k * STEP)
    old = filter_.observe(position(0), now=30 * STEP)
    future = filter_.observe(position(100 * STEP), now=30 * STEP)
    invalid = filter_.observe(position(30 * STEP, np.nan), now=30 * STEP)
    assert (old.outcome, future.outcome, invalid.outcome) == ("too_old", "future", "invalid")
    assert "position" in old.reason and "ahead of the clock" in future.reason and "not finite" in invalid.reason
    assert dict(filter_.outcomes) == {"accepted": 30, "too_old": 1, "future": 1, "invalid": 1}


def test_an_observation_the_contract_does_not_have_is_refused():
    with pytest.raises(MessageError, match="elbow"):
        new_filter().observe(Measurement("elbow", 0, np.zeros(1)))


def test_the_history_is_bounded_and_the_latent_is_not_changed_by_forgetting():
    short, long = new_filter(history_s=0.1), new_filter(history_s=100.0)
    for k in range(500):
        for filter_ in (short, long):
            filter_.applied(Applied(k * STEP, np.array([np.sin(k)]), "command"))
            filter_.observe(position(k * STEP, np.cos(k)))
    np.testing.assert_allclose(short.latent().values, long.latent().values, rtol=1e-5)
    assert len(short._instants) <= 6


def test_after_a_gap_longer_than_the_history_the_filter_starts_again():
    filter_ = new_filter(history_s=0.2)
    feed(filter_, [position(0), position(STEP)])
    got = feed(filter_, [position(1000 * STEP)])
    fresh = LatentFilter(slider_contract(), LinearModel(), start=1000 * STEP)
    np.testing.assert_array_equal(got.values, feed(fresh, [position(1000 * STEP)]).values)


def test_a_new_model_encodes_the_kept_observations_again():
    filter_ = new_filter()
    feed(filter_, [position(k * STEP, float(k)) for k in range(5)])
    successor = LinearModel("next", gain=0.25)
    filter_.swap(successor)
    fresh = LatentFilter(slider_contract(), LinearModel("next", gain=0.25), start=0)
    expected = feed(fresh, [position(k * STEP, float(k)) for k in range(5)])
    got = filter_.latent()
    assert got.bundle_id == "next"
    np.testing.assert_array_equal(got.values, expected.values)


def test_a_reading_too_large_for_single_precision_is_refused():
    filter_ = new_filter()
    correction = filter_.observe(position(0, 1e300))
    assert (correction.outcome, correction.reason) == ("invalid", "position: not finite in single precision")


def test_measurements_that_the_model_cannot_digest_are_dropped_and_the_filter_goes_on():
    class Picky(LinearModel):
        def encode(self, observation, mask, age):
            if observation.max() > 100:
                raise BackendError("encode.onnx: output 'embedding' is not finite")
            return super().encode(observation, mask, age)

    filter_ = LatentFilter(slider_contract(), Picky(), start=0)
    feed(filter_, [position(0)])
    filter_.observe(position(STEP, 1e6))
    with pytest.raises(BackendError, match="not finite"):
        filter_.latent()
    assert filter_.outcomes["invalid"] == 1
    expected = feed(new_filter(), [position(0), position(2 * STEP, 0.5)])
    got = feed(filter_, [position(2 * STEP, 0.5)])
    np.testing.assert_allclose(got.values, expected.values, atol=1e-6)
