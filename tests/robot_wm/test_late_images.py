"""Images in the filter: whenever they come, each corrects the latent at its stamp, exactly once, and no replay encodes one."""

import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import slider_contract
from linear_model import LinearModel
from robot_wm.errors import BackendError, MessageError
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Applied, Encoded, Measurement
from robot_wm.perception import Perception
from robot_wm.timebase import VirtualClock

MS = 1_000_000
STEP = 20 * MS
SHAPE = (8, 8, 1)
SCHEDULES = int(os.environ.get("ROBOT_WM_SCHEDULES", "300"))


REACH = 3  # instants that the frame before may be away: one and a half periods


def contract(history=1):
    cameras = [{"name": name, "topic": name, "shape": list(SHAPE)} for name in ("eye", "wrist")]
    cameras[0] |= {"rate_hz": 25, "history": history}
    return slider_contract(images=cameras)


class SeeingModel(LinearModel):
    """An image's embedding is (its mean, 1) times the model's gain, and joining adds up: twice would be seen."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.seen = []

    def encode_image(self, name, image):
        assert image.dtype == np.uint8 and image.shape == (1, *SHAPE)
        self.seen.append((name, int(image[0, 0, 0, 0])))
        return (self.gain * np.array([[image.mean(), 1.0]])).astype(np.float32)

    def pair(self, name, view, before=None, gap=0):
        assert name == "eye"
        return view if before is None else (view + (0.2 + 0.1 * gap) * before).astype(np.float32)

    def join(self, state, images):
        return (state + sum(images.values(), np.zeros((1, 2)))).astype(np.float32)


def new_filter(model=None, history_s=1.0, history=1):
    return LatentFilter(contract(history), model or SeeingModel(), history_s=history_s, start=0)


def position(stamp, value=1.0):
    return Measurement("position", stamp, np.array([value]))


def image(stamp, value=100, name="eye", encoded=None):
    return Measurement(name, stamp, np.full(SHAPE, value, np.uint8), encoded)


def sent(stamp, value):
    return Applied(stamp, np.array([value]), "command")


def by_hand(records, model, history=1):
    """The latent of all records, from scratch: at each instant the nearest of each modality, once, with the frame before."""
    base = new_filter()
    chosen = {}
    for record in (r for r in records if isinstance(r, Measurement)):
        k = base.grid.nearest(record.stamp)
        best = chosen.setdefault(k, {}).get(record.name)
        if best is None or base._closer(record.stamp, best.stamp, k):
            chosen[k][record.name] = record
    for record in (r for r in records if isinstance(r, Applied)):
        base.applied(record)
    latent, names = model.initial_latent[None], contract().modalities
    for k in range(max(chosen) + 1):
        if k:
            action = base.actions.mean(base.grid.stamp(k - 1), base.grid.stamp(k))
            latent = model.prior(latent, np.asarray(action, np.float32)[None])
        there = chosen.get(k, {})
        observation = np.array([[there[n].values[0] if n in there else 0.0 for n in names[:2]]])
        mask = np.array([[float(n in there) for n in names]])
        age = np.array([[base.grid.age(there[n].stamp, k) if n in there else 0.0 for n in names]])
        views = {n: model.encode_image(n, there[n].values[None]) for n in names[2:] if n in there}
        before = [k - gap for gap in range(1, REACH + 1) if "eye" in chosen.get(k - gap, {})]
        if history > 1 and "eye" in views and before:
            earlier = model.encode_image("eye", chosen[before[0]]["eye"].values[None])
            views["eye"] = model.pair("eye", views["eye"], earlier, k - before[0])
        if there:
            latent = model.posterior(latent, model.join(model.encode(observation, mask, age), views), mask)
    return latent[0]


stamps = st.integers(0, 399 * MS)
records = st.lists(
    st.one_of(
        st.builds(sent, stamps, st.floats(-10, 10)),
        st.builds(position, stamps, st.floats(-3, 3)),
        st.builds(image, stamps, st.integers(0, 255), st.sampled_from(["eye", "wrist"])),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda r: (type(r), getattr(r, "name", ""), r.stamp),
)


@settings(max_examples=SCHEDULES)
@given(records, st.randoms(use_true_random=False), st.integers(1, 2))
def test_any_order_of_arrival_gives_the_latent_of_every_measurement_once(items, random, history):
    items = [*items, position(400 * MS)]
    arrivals = [*items, *random.sample(items, len(items) // 2)]  # some of them twice
    random.shuffle(arrivals)
    filter_, model = new_filter(history=history), SeeingModel()
    for record in arrivals:
        if isinstance(record, Applied):
            filter_.applied(record)
        else:
            if record.name in ("eye", "wrist") and random.random() < 0.5:  # encoded in the background
                view = model.encode_image(record.name, record.values[None])[0]
                record = image(record.stamp, record.values[0, 0, 0], record.name, Encoded(view, model.bundle_id))
            filter_.observe(record)
        filter_.latent()  # so that something is there to rewind
    np.testing.assert_allclose(filter_.latent().values, by_hand(items, SeeingModel(), history), rtol=1e-5, atol=1e-5)
    measured = [r for r in arrivals if isinstance(r, Measurement)]
    assert sum(filter_.outcomes.values()) == len(measured)
    assert set(filter_.outcomes) <= {"accepted", "superseded", "duplicate"}


def test_the_frame_before_is_known_even_where_the_history_ends():
    long, short = new_filter(history=2), new_filter(history_s=0.1, history=2)
    for filter_ in (long, short):
        for k in range(0, 40, 2):
            filter_.observe(image(k * STEP, 10 + k))
        for k in range(35, 40):  # replays from the oldest instant that the short one keeps
            filter_.observe(position(k * STEP, float(k)))
    np.testing.assert_allclose(short.latent().values, long.latent().values, rtol=1e-6)


def test_a_late_image_corrects_the_past_and_is_encoded_only_once():
    filter_ = new_filter()
    for k in range(10):
        filter_.observe(position(k * STEP, float(k)))
    before = filter_.latent()
    correction = filter_.observe(image(4 * STEP))
    after = filter_.latent()
    for k in range(10, 20):
        filter_.applied(sent(k * STEP - 5 * MS, 1.0))
        filter_.observe(position(k * STEP))
        filter_.observe(position(2 * STEP + k, 0.5))  # replays through the image's instant
        filter_.latent()
    assert (correction.outcome, correction.late_steps) == ("accepted", 6)
    assert before.stamp == after.stamp
    assert not np.array_equal(before.values, after.values)
    assert filter_.model.seen == [("eye", 100)]


def test_an_embedding_that_came_with_the_image_is_taken_if_this_model_made_it():
    mine, other = (Encoded(np.array([5.0, 2.0]), bundle) for bundle in ("linear", "other"))
    given, foreign, plain = new_filter(), new_filter(), new_filter()
    given.observe(image(0, encoded=mine))
    foreign.observe(image(0, encoded=other))
    plain.observe(image(0))
    assert given.model.seen == []
    np.testing.assert_allclose(given.latent().values, [2.5, 1.0])
    assert foreign.model.seen == plain.model.seen == [("eye", 100)]
    np.testing.assert_array_equal(foreign.latent().values, plain.latent().values)


def test_after_a_swap_every_kept_image_is_encoded_again_once():
    filter_ = new_filter()
    items = [position(0), image(STEP, 10), image(2 * STEP, 20, "wrist"), position(3 * STEP)]
    for item in items:
        filter_.observe(item)
    filter_.latent()
    successor = SeeingModel("next", gain=0.25)
    filter_.swap(successor)
    assert sorted(successor.seen) == [("eye", 10), ("wrist", 20)]
    filter_.observe(image(3 * STEP, 30, encoded=Encoded(np.zeros(2), "linear")))  # was in flight during the swap
    assert successor.seen[-1] == ("eye", 30)
    expected = by_hand([*items, image(3 * STEP, 30)], SeeingModel("next", gain=0.25))
    np.testing.assert_allclose(filter_.latent().values, expected, rtol=1e-6)


def test_the_images_kept_are_those_of_the_history():
    filter_ = new_filter(history_s=0.2)
    for k in range(200):
        filter_.observe(position(k * STEP))
        if k >= 4:
            filter_.observe(image((k - 4) * STEP))
    kept = [m for i in filter_._instants.values() for m in i.measured.values() if m.name == "eye"]
    assert len(kept) <= 10
    assert filter_.observe(image(0)).outcome == "too_old"
    assert len(filter_.model.seen) == 196


def test_the_nearer_of_two_images_counts_and_only_what_counts_is_encoded():
    filter_ = new_filter()
    outcomes = [filter_.observe(image(STEP + offset * MS, v)).outcome for v, offset in enumerate((5, 2, 4, 2))]
    assert outcomes == ["accepted", "accepted", "superseded", "duplicate"]
    assert filter_.model.seen == [("eye", 0), ("eye", 1)]


WRONG = {
    "float64 of shape": Measurement("eye", 0, np.zeros(SHAPE)),
    "shape (8, 9, 1), expected uint8 of shape (8, 8, 1)": Measurement("eye", 0, np.zeros((8, 9, 1), np.uint8)),
}


@pytest.mark.parametrize("reason", WRONG)
def test_an_image_of_another_kind_is_refused_with_both(reason):
    filter_ = new_filter()
    correction = filter_.observe(WRONG[reason])
    assert correction.outcome == "invalid"
    assert reason in correction.reason
    assert filter_.model.seen == []


def test_an_image_the_contract_does_not_have_is_refused():
    with pytest.raises(MessageError, match="no observation 'rear'"):
        new_filter().observe(image(0, name="rear"))


class Picky(SeeingModel):
    def encode_image(self, name, image):
        if image.max() > 200:
            raise BackendError("encode_eye.onnx: output 'embedding' is not finite")
        return super().encode_image(name, image)


def test_an_image_that_the_model_cannot_digest_is_refused_and_changes_nothing():
    filter_ = new_filter(Picky())
    filter_.observe(position(0))
    before = filter_.latent()
    correction = filter_.observe(image(1000 * STEP, 255))
    assert (correction.outcome, correction.reason) == (
        "invalid",
        "eye: encode_eye.onnx: output 'embedding' is not finite",
    )
    assert filter_.latent().stamp == before.stamp
    np.testing.assert_array_equal(filter_.latent().values, before.values)


def test_an_image_that_only_the_next_model_cannot_digest_is_left_out_of_its_replay():
    filter_ = new_filter()
    for item in (position(0), image(STEP, 255), image(STEP, 10, "wrist"), position(2 * STEP)):
        filter_.observe(item)
    filter_.swap(Picky())
    expected = by_hand([position(0), image(STEP, 10, "wrist"), position(2 * STEP)], SeeingModel())
    np.testing.assert_allclose(filter_.latent().values, expected, rtol=1e-6)
    assert filter_.outcomes == Counter(accepted=4, invalid=1)


def test_perception_publishes_a_corrected_latent_for_a_late_image():
    clock = VirtualClock()
    perception = Perception(contract(), SeeingModel(), clock)
    for k in range(6):
        clock.sleep_until(k * STEP)
        _, published, _ = perception.observe([position(k * STEP)])
    clock.sleep_until(5 * STEP + MS)
    (correction,), corrected, info = perception.observe([image(STEP)])
    assert (correction.outcome, correction.late_steps) == ("accepted", 5)
    assert corrected.stamp == published.stamp
    assert not np.array_equal(corrected.values, published.values)
    assert info.delay_s == pytest.approx(0.081)
