"""Images in the background: handing one over never waits, the newest wins, and every one of them has exactly one outcome."""

import os
import threading
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import slider_contract
from robot_wm.errors import BackendError
from robot_wm.image_encoder import ImageEncoder
from robot_wm.image_streams import ImageStreams
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Measurement
from robot_wm.timebase import VirtualClock
from test_late_images import MS, SHAPE, STEP, SeeingModel, image, position

CONTRACT = slider_contract(images=[{"name": "eye", "topic": "eye", "shape": list(SHAPE)}])
NOW = 10**12
SCHEDULES = int(os.environ.get("ROBOT_WM_SCHEDULES", "300")) // 3


class GatedModel(SeeingModel):
    """Encodes only what the test lets it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.begun, self.gate = threading.Semaphore(0), threading.Semaphore(0)

    def encode_image(self, name, image):
        self.begun.release()
        assert self.gate.acquire(timeout=60)
        return super().encode_image(name, image)


def message(value=100, encoding="mono8"):
    height, width, channels = SHAPE
    data = np.full(SHAPE, value, np.uint8).tobytes()
    return SimpleNamespace(encoding=encoding, height=height, width=width, step=width * channels, data=data)


@pytest.fixture
def started():
    """Make an encoder, started; it is stopped after the test."""
    made = []

    def start(model=None, **options):
        made.append(ImageEncoder(CONTRACT.image("eye"), model or SeeingModel(), **options))
        made[-1].start()
        return made[-1]

    yield start
    for encoder in made:
        if isinstance(encoder.model, GatedModel):
            encoder.model.gate.release(100)
        encoder.stop()


def taken(encoder, count):
    """The next `count` answers."""
    found, deadline = [], time.monotonic() + 60
    while len(found) < count:
        measurements, refused = encoder.take()
        found += [*measurements, *refused]
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return found


def test_while_one_is_encoded_the_newest_of_the_others_waits_and_the_others_are_counted(started):
    encoder = started(GatedModel())
    encoder.put(0, message(0), NOW)
    assert encoder.model.begun.acquire(timeout=60)
    for value in (1, 2, 4, 3):  # the last one overtaken on its way
        encoder.put(value * MS, message(value), NOW)
    encoder.model.gate.release(2)
    assert [m.stamp // MS for m in taken(encoder, 2)] == [0, 4]
    assert encoder.model.seen == [("eye", 0), ("eye", 4)]
    assert (encoder.received, encoder.outcomes, encoder.under_way) == (5, Counter(replaced=3), 2)


def test_an_image_comes_back_with_its_pixels_its_stamp_and_its_embedding(started):
    encoder = started()
    encoder.put(7 * MS, message(51), NOW)
    (measurement,) = taken(encoder, 1)
    assert (measurement.name, measurement.stamp, measurement.encoded.bundle_id) == ("eye", 7 * MS, "linear")
    np.testing.assert_array_equal(measurement.values, np.full(SHAPE, 51, np.uint8))
    np.testing.assert_array_equal(
        measurement.encoded.embedding, SeeingModel().encode_image("eye", measurement.values[None])[0]
    )


class Picky(SeeingModel):
    def encode_image(self, name, image):
        raise BackendError("encode_eye.onnx: output 'embedding' is not finite")


@pytest.mark.parametrize(
    ("model", "sent", "stamp", "outcome", "reason"),
    [
        (SeeingModel(), message(encoding="16UC1"), 0, "malformed", "eye: encoding '16UC1' cannot be used"),
        (SeeingModel(), message(), NOW + 20 * MS, "future", "eye: stamp is 0.020 s ahead of the clock"),
        (Picky(), message(), 0, "invalid", "eye: encode_eye.onnx: output 'embedding' is not finite"),
    ],
)
def test_what_cannot_be_used_is_counted_by_name_with_the_reason(started, model, sent, stamp, outcome, reason):
    encoder = started(model)
    encoder.put(stamp, sent, NOW)
    (correction,) = taken(encoder, 1)
    assert (correction.outcome, correction.stamp) == (outcome, stamp)
    assert correction.reason.startswith(reason)
    assert (encoder.outcomes, encoder.under_way) == (Counter([outcome]), 0)


def test_what_is_under_way_when_it_ends_is_counted_as_unfinished(started):
    encoder = started(GatedModel())
    encoder.put(0, message(), NOW)
    assert encoder.model.begun.acquire(timeout=60)
    encoder.put(MS, message(), NOW)
    encoder.put(MS, message(), NOW)
    encoder.model.gate.release()
    encoder.stop()
    encoder.stop()
    assert (encoder.received, encoder.under_way) == (3, 0)
    assert encoder.outcomes == Counter(unfinished=2, duplicate=1)


def test_an_image_begun_before_a_swap_is_encoded_again_by_the_next_model(started):
    encoder = started(GatedModel())
    encoder.put(0, message(9), NOW)
    first, second = encoder.model, SeeingModel("next")
    assert first.begun.acquire(timeout=60)
    encoder.model = second
    first.gate.release()
    (measurement,) = taken(encoder, 1)
    assert measurement.encoded.bundle_id == "next"
    assert second.seen == [("eye", 9)]
    assert encoder.received == 1


def test_an_unforeseen_exception_reaches_the_owner(started):
    encoder = started(SimpleNamespace(bundle_id="b", encode_image=lambda name, image: 1 / 0))
    encoder.put(0, message(), NOW)
    with pytest.raises(ZeroDivisionError):
        taken(encoder, 1)


def test_the_test_aid_computes_for_as_long_as_it_is_told(started):
    calls = []
    model = SimpleNamespace(bundle_id="b", encode_image=lambda name, image: calls.append(image) or image.mean((1, 2)))
    encoder = started(model, busy_s=0.02)
    encoder.put(0, message(), NOW)
    (measurement,) = taken(encoder, 1)
    assert measurement.encoded.embedding.tolist() == [100.0]
    assert len(calls) > 1
    assert encoder.seconds[0] >= 0.02  # of processor time, hence at least as long


@settings(max_examples=SCHEDULES)
@given(st.lists(st.one_of(st.integers(0, 30), st.just("take"), st.just("swap")), max_size=30))
def test_whatever_comes_when_received_is_applied_and_rejected_by_name(items):
    """The filter has seen exactly the images that were applied, each once."""
    clock, models = VirtualClock(NOW), [SeeingModel("a"), SeeingModel("b", gain=0.25)]
    filter_ = LatentFilter(CONTRACT, models[0], start=0)
    streams = ImageStreams(CONTRACT, models[0], clock)
    streams.start()
    applied = {}

    def take():
        for measurement in streams.take()[0]:
            correction = filter_.observe(measurement)
            streams.settle(correction)
            if correction.outcome == "accepted":
                applied[measurement.stamp] = measurement

    for item in items:
        if item == "take":
            take()
        elif item == "swap":
            models.reverse()
            filter_.swap(models[0], prepared(streams, models[0], filter_.images()))
            streams.swap(models[0])
        else:
            streams.put("eye", item * STEP, message(item))
    while streams.encoders["eye"].under_way:
        time.sleep(0.0001)
        take()
    streams.stop()
    encoder = streams.encoders["eye"]
    assert encoder.received == sum(isinstance(item, int) for item in items) == encoder.outcomes.total()
    assert encoder.outcomes["unfinished"] == 0
    assert encoder.outcomes["accepted"] == len(applied)
    assert filter_.outcomes["forgotten"] == 0
    afresh = LatentFilter(CONTRACT, models[0], start=0)
    for measurement in applied.values():
        afresh.observe(Measurement("eye", measurement.stamp, measurement.values))
    for one in (filter_, afresh):
        one.observe(position(40 * STEP))
    np.testing.assert_allclose(filter_.latent().values, afresh.latent().values, rtol=1e-6)


def prepared(streams, model, kept):
    """What `prepare` comes to."""
    deadline = time.monotonic() + 60
    while (encoded := streams.prepare(model, kept)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.0001)
    return encoded


def test_before_a_swap_the_next_model_encodes_the_kept_images_newest_first_and_the_swap_none():
    filter_, clock, successor = LatentFilter(CONTRACT, SeeingModel(), start=0), VirtualClock(NOW), SeeingModel("next")
    streams = ImageStreams(CONTRACT, filter_.model, clock)
    for k in range(3):
        filter_.observe(image(k * STEP, k))
    encoded = prepared(streams, successor, filter_.images())
    assert successor.seen == [("eye", 2), ("eye", 1), ("eye", 0)]
    filter_.swap(successor, encoded)
    assert len(successor.seen) == 3
    assert filter_.outcomes["forgotten"] == 0
    afresh = LatentFilter(CONTRACT, SeeingModel("next"), start=0)
    for k in range(3):
        afresh.observe(image(k * STEP, k))
    np.testing.assert_array_equal(filter_.latent().values, afresh.latent().values)


def test_what_came_meanwhile_is_encoded_in_another_round_until_patience_ends():
    clock, successor = VirtualClock(NOW), SeeingModel("next")
    streams = ImageStreams(CONTRACT, SeeingModel(), clock)
    first, second, third = image(0, 1), image(STEP, 2), image(2 * STEP, 3)
    assert [m.stamp for m in prepared(streams, successor, [first])] == [0]
    assert [m.stamp for m in prepared(streams, successor, [first, second])] == [0, STEP]
    clock.advance(2 * 10**9)
    assert [m.stamp for m in prepared(streams, successor, [second, third])] == [STEP]
    assert successor.seen == [("eye", 1), ("eye", 2)]


def test_kept_images_that_are_not_encoded_in_time_are_forgotten_and_counted_so():
    filter_ = LatentFilter(CONTRACT, SeeingModel(), start=0)
    filter_.observe(position(0))
    filter_.observe(image(0, 50))
    filter_.swap(SeeingModel("next"), [])
    assert (filter_.images(), filter_.outcomes["forgotten"]) == ([], 1)
    blind = LatentFilter(CONTRACT, SeeingModel("next"), start=0)
    blind.observe(position(0))
    np.testing.assert_array_equal(filter_.latent().values, blind.latent().values)
