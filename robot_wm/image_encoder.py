"""Images of one stream encoded on a thread of their own: however slow the encoder, whoever hands an image over never waits.

The newest wins: an image that has not been begun when a newer one comes gives way to it. Every image received has exactly one
outcome, so that `received` is the sum of `outcomes` as soon as nothing is under way. All methods belong to one thread, the owner's.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from threading import Event as Flag
from threading import Thread
from typing import Any

import numpy as np

from robot_wm.backend import Model
from robot_wm.contract_images import ImageObservation
from robot_wm.errors import BackendError, MessageError
from robot_wm.images import Pixels, pixels_of
from robot_wm.latent_filter import FUTURE_TOLERANCE_S, Correction
from robot_wm.mailbox import Mailbox
from robot_wm.messages import Encoded, Measurement
from robot_wm.realtime import step_back
from robot_wm.timebase import NS_PER_S

ENDING_S = 2.0  # longest wait for an encoding that is under way when it ends
OUTBOX = 1024  # an owner that takes as often as it puts never has more than two there
BUSY_BATCH = 16  # images at a time for `busy_s`: the interpreter is needed rarely, as by one large encoder


@dataclass(frozen=True)
class _Frame:
    """An image as it came, a sensor_msgs/Image: converting it takes time, too. Or its pixels, to be encoded by another model."""

    stamp: int
    image: Any


class ImageEncoder:
    """What becomes of each image: an outcome of `LatentFilter` (accepted, superseded, duplicate, too_old, future, invalid), or
    `replaced` by a newer one before it was begun, `malformed`, or `unfinished` when this was stopped."""

    def __init__(self, item: ImageObservation, model: Model, busy_s: float = 0.0) -> None:
        """`busy_s`: a test aid; each encoding goes on computing until it has taken so much processor time."""
        self.item = item
        self.model = model
        self.received = 0
        self.outcomes: Counter[str] = Counter()
        self.seconds: deque[float] = deque(maxlen=100)  # that the last encodings took
        self._busy = round(busy_s * NS_PER_S)
        self._inbox: Mailbox[_Frame] = Mailbox()
        self._outbox: Mailbox[Measurement | Correction | Exception] = Mailbox(OUTBOX)
        self._arrived, self._end = Flag(), Flag()
        self._thread: Thread | None = None

    @property
    def under_way(self) -> int:
        """Images received that have no outcome yet."""
        return self.received - self.outcomes.total()

    def start(self) -> None:
        self._end.clear()
        self._thread = Thread(target=self._work, name=f"encode {self.item.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is under way stays without effect."""
        if self._thread is not None:
            self._end.set()
            self._arrived.set()
            self._thread.join(ENDING_S)
            self._thread = None
        self._inbox.drain()
        self._outbox.drain()
        self.outcomes["unfinished"] += self.under_way

    def put(self, stamp: int, image: Any, now: int) -> None:
        """Take in a sensor_msgs/Image captured at `stamp` [ns]."""
        self.received += 1
        if stamp > now + FUTURE_TOLERANCE_S * NS_PER_S:
            reason = f"{self.item.topic}: stamp is {(stamp - now) / NS_PER_S:.3f} s ahead of the clock"
            self._outbox.put(Correction(self.item.name, stamp, "future", reason=reason))
        else:
            self._submit(_Frame(stamp, image))

    def refuse(self, outcome: str) -> None:
        """Count an image that nothing can be done with."""
        self.received += 1
        self.outcomes[outcome] += 1

    def take(self) -> tuple[list[Measurement], list[Correction]]:
        """What has been encoded since the last call, to be told to the filter and its answer to `settle`; and what cannot be used.

        Raises whatever unforeseen exception ended the thread.
        """
        measurements, refused = [], []
        for done in self._outbox.drain():
            if isinstance(done, Exception):
                raise done
            if isinstance(done, Correction):
                self.settle(done)
                refused.append(done)
            elif done.encoded is None or done.encoded.bundle_id != self.model.bundle_id:
                self._submit(_Frame(done.stamp, done.values))  # begun before a swap
            else:
                measurements.append(done)
        return measurements, refused

    def settle(self, correction: Correction) -> None:
        """Hear what became of an image."""
        self.outcomes[correction.outcome] += 1

    def _submit(self, frame: _Frame) -> None:
        waiting = self._inbox.take()  # either we get it back or the thread has begun it, never both
        if waiting is not None:
            self.outcomes["duplicate" if waiting.stamp == frame.stamp else "replaced"] += 1
            frame = max(waiting, frame, key=lambda item: item.stamp)
        self._inbox.put(frame)
        self._arrived.set()

    def _work(self) -> None:
        try:
            step_back(0)
            while not self._end.is_set():
                frame = self._inbox.take()
                if frame is not None:
                    self._outbox.put(self._encode(frame))
                else:
                    self._arrived.wait()
                    self._arrived.clear()
        except Exception as error:  # noqa: BLE001 - the owner raises it
            self._outbox.put(error)

    def _encode(self, frame: _Frame) -> Measurement | Correction:
        name, model = self.item.name, self.model
        begin, computed = time.monotonic_ns(), time.thread_time_ns()
        try:
            ready = isinstance(frame.image, np.ndarray)
            pixels: Pixels = frame.image if ready else pixels_of(frame.image, self.item.shape)
            embedding = model.encode_image(name, pixels[None])[0]
            while time.thread_time_ns() - computed < self._busy:
                model.encode_image(name, np.repeat(pixels[None], BUSY_BATCH, axis=0))
        except MessageError as error:
            return Correction(name, frame.stamp, "malformed", reason=f"{self.item.topic}: {error}")
        except BackendError as error:
            return Correction(name, frame.stamp, "invalid", reason=f"{name}: {error}")
        self.seconds.append((time.monotonic_ns() - begin) / NS_PER_S)
        return Measurement(name, frame.stamp, pixels, Encoded(embedding, model.bundle_id))
