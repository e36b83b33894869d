"""Before a model swap: the next model encodes the images that the filter keeps in the background, so that the swap is quick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Thread

import numpy as np

from robot_wm.backend import Model
from robot_wm.errors import BackendError
from robot_wm.messages import Encoded, Measurement
from robot_wm.realtime import step_back
from robot_wm.timebase import NS_PER_S, Clock

Key = tuple[str, int]  # name, stamp


class SwapPreparation:
    """Encodes in rounds, each of what has come since the one before, until nothing is missing or its patience ends."""

    def __init__(self, model: Model, clock: Clock, patience_s: float = 1.0) -> None:
        """After `patience_s` what is missing stays missing: an encoder slower than the camera would never be done."""
        self.model = model
        self._clock = clock
        self._until = clock.now() + round(patience_s * NS_PER_S)
        self._done: dict[Key, Measurement | None] = {}  # None: the model cannot digest it
        self._thread: Thread | None = None
        self._failure: Exception | None = None

    def encoded(self, kept: Sequence[Measurement]) -> list[Measurement] | None:
        """Those of the images `kept` that are encoded by the model, or None: ask again later. Never waits.

        Raises whatever unforeseen exception ended a round.
        """
        if self._thread is not None and self._thread.is_alive():
            return None
        if self._failure is not None:
            raise self._failure
        missing = [image for image in kept if (image.name, image.stamp) not in self._done]
        if missing and self._clock.now() < self._until:
            self._thread = Thread(target=self._work, args=(missing,), name="encode again", daemon=True)
            self._thread.start()
            return None
        found = (self._done.get((image.name, image.stamp)) for image in kept)
        return [image for image in found if image is not None]

    def _work(self, images: list[Measurement]) -> None:
        try:
            step_back()
            for image in reversed(images):  # the newest say most of what is now
                if self._clock.now() >= self._until:
                    return
                self._done[image.name, image.stamp] = self._encode(image)
        except Exception as error:  # noqa: BLE001 - the owner raises it
            self._failure = error

    def _encode(self, image: Measurement) -> Measurement | None:
        try:
            embedding = self.model.encode_image(image.name, np.asarray(image.values, np.uint8)[None])[0]
        except BackendError:
            return None
        return replace(image, encoded=Encoded(embedding, self.model.bundle_id))
