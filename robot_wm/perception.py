"""The latent filter with a sense of when its answer is worth publishing: once per instant, as soon as nothing nearer will come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from robot_wm.backend import Model
from robot_wm.contract import Contract
from robot_wm.info import CorrectionInfo
from robot_wm.latent_filter import Correction, LatentFilter
from robot_wm.messages import Applied, Latent, Measurement
from robot_wm.timebase import NS_PER_S, Clock, MonotonicClock
from robot_wm.trust_file import TrustSpec
from robot_wm.trust_monitor import TrustMonitor


def warm_up(model: Model) -> None:
    """Run every graph of perception a few times: the first runs are slow."""
    contract = model.bundle.contract
    observation = np.zeros((1, contract.observation_size), np.float32)
    mask = np.ones((1, len(contract.modalities)), np.float32)
    latent = model.initial_latent[None]
    for _ in range(3):
        views = {i.name: model.encode_image(i.name, np.zeros((1, *i.shape), np.uint8)) for i in contract.images}
        paired = {name: model.pair(name, view) for name, view in views.items()}
        embedding = model.join(model.encode(observation, mask, 0 * mask), paired)
        model.prior(model.posterior(latent, embedding, mask), np.zeros((1, contract.action.size), np.float32))


class Perception:
    """Feeds one model's filter and decides which corrections are published; not thread-safe by design."""

    def __init__(self, contract: Contract, model: Model, clock: Clock | None = None, history_s: float = 1.0) -> None:
        self.clock = clock or MonotonicClock()
        self.filter = LatentFilter(contract, model, history_s, self.clock.now())
        self._stamps: dict[str, int] = {}
        self._late_steps = 0
        self.trust: TrustMonitor | None = None

    def judge_by(self, spec: TrustSpec | None) -> None:
        """Judge the corrections of the present model from now on; None: do not."""
        if spec is not None and self.trust is not None:
            self.trust.swap(spec, self.clock.now())
        else:
            self.trust = None if spec is None else TrustMonitor(spec, self.clock.now())

    def restart(self, stamp: int) -> None:
        """A new episode begins at `stamp` [ns]."""
        self.filter.reset(stamp)
        self._late_steps = 0
        if self.trust is not None:
            self.trust.restart(stamp)

    def applied(self, applied: Applied) -> None:
        self.filter.applied(applied)
        if self.trust is not None:
            self.trust.applied(applied)

    def swap(self, model: Model, encoded: Iterable[Measurement] | None = None) -> None:
        """Continue with another bundle from the kept raw observations, images as in `LatentFilter.swap`."""
        self.filter.swap(model, encoded)

    def observe(
        self, measurements: Sequence[Measurement]
    ) -> tuple[list[Correction], Latent | None, CorrectionInfo | None]:
        """Record the measurements of one message; answer with a latent when it should be published.

        A reading that is followed by one nearer to the same instant, judged by the topic's last interval, only waits for it.
        """
        begin = self.clock.now()
        corrections = [self.filter.observe(m, begin) for m in measurements]
        self._late_steps += sum(c.late_steps for c in corrections)
        if self.trust is not None:
            self.trust.heard(self.filter, corrections)
        accepted = any(c.outcome == "accepted" for c in corrections)
        if not measurements or not accepted or self._nearer_to_come(measurements[0]):
            return corrections, None, None
        latent = self.filter.latent()
        said = {} if self.trust is None else self.trust.judge(self.filter, begin).said()
        end = self.clock.now()
        info = CorrectionInfo(
            bundle_id=latent.bundle_id,
            innovation=self.filter.innovation(),
            late_steps=self._late_steps,
            delay_s=(begin - measurements[0].stamp) / NS_PER_S,
            seconds=(end - begin) / NS_PER_S,
            outcomes=dict(self.filter.outcomes),
            **said,
        )
        self._late_steps = 0
        return corrections, latent, info

    def _nearer_to_come(self, measurement: Measurement) -> bool:
        stamp, before = measurement.stamp, self._stamps.get(measurement.name)
        self._stamps[measurement.name] = stamp
        if before is None or stamp <= before:
            return False
        at = self.filter.grid.stamp(self.filter.grid.nearest(stamp))
        return abs(2 * stamp - before - at) <= abs(stamp - at)
