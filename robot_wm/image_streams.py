"""Every image stream of a contract: encoders in the background, what each image came to, and what a model swap needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robot_wm.backend import Model
from robot_wm.contract import Contract
from robot_wm.image_encoder import ImageEncoder
from robot_wm.image_swap import SwapPreparation
from robot_wm.latent_filter import Correction
from robot_wm.messages import Measurement
from robot_wm.timebase import Clock


class ImageStreams:
    """One `ImageEncoder` for each image of the contract, by name; without images nothing ever happens here."""

    def __init__(self, contract: Contract, model: Model, clock: Clock, busy_s: float = 0.0) -> None:
        """`busy_s` as in `ImageEncoder`."""
        self.encoders = {item.name: ImageEncoder(item, model, busy_s) for item in contract.images}
        self._clock = clock
        self._swap: SwapPreparation | None = None

    def start(self) -> None:
        for encoder in self.encoders.values():
            encoder.start()

    def stop(self) -> None:
        """End every thread; harmless when none runs."""
        for encoder in self.encoders.values():
            encoder.stop()

    def put(self, name: str, stamp: int, image: Any) -> None:
        """Take in a sensor_msgs/Image captured at `stamp` [ns]. Never waits."""
        self.encoders[name].put(stamp, image, self._clock.now())

    def refuse(self, name: str, outcome: str) -> None:
        """Count an image that nothing can be done with."""
        self.encoders[name].refuse(outcome)

    def take(self) -> tuple[list[Measurement], list[Correction]]:
        """What all encoders have for the filter, oldest first, and what cannot be used; see `ImageEncoder.take`."""
        found = [encoder.take() for encoder in self.encoders.values()]
        measurements = [m for taken, _ in found for m in taken]
        return sorted(measurements, key=lambda m: m.stamp), [c for _, refused in found for c in refused]

    def settle(self, correction: Correction) -> None:
        """Hear the filter's answer to a measurement; one of something else than an image is none of our business."""
        if correction.name in self.encoders:
            self.encoders[correction.name].settle(correction)

    def prepare(self, model: Model, kept: Sequence[Measurement]) -> list[Measurement] | None:
        """The images `kept` by the filter as encoded by the next `model`; None while that is going on, ask again then."""
        if not kept:
            return []
        if self._swap is None or self._swap.model is not model:
            self._swap = SwapPreparation(model, self._clock)
        return self._swap.encoded(kept)

    def swap(self, model: Model) -> None:
        """Encode with `model` from now on; what another one has begun is encoded again."""
        self._swap = None
        for encoder in self.encoders.values():
            encoder.model = model

    def figures(self) -> dict[str, object]:
        """For diagnostics, and through them for the figures of a run."""
        values: dict[str, object] = {}
        for name, encoder in self.encoders.items():
            key = f"image {name}"
            values[f"{key} received"] = encoder.received
            values[f"{key} applied"] = encoder.outcomes["accepted"]
            values |= {f"{key} rejected {why}": n for why, n in encoder.outcomes.items() if why != "accepted" and n}
            values[f"{key} under way"] = encoder.under_way
            if encoder.seconds:
                values[f"{key} encode ms p50"] = 1e3 * float(np.median(list(encoder.seconds)))
        return values
