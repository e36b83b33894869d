"""How a late observation corrects the latent in lockstep: as on the robot and, to compare with, in two ways of other stacks.

Two of the three are wrong by design. They stand here and not in the filter, so that nothing on a robot can be told to use them.
"""

from __future__ import annotations

from dataclasses import replace

from robot_wm.backend import Float32, Model
from robot_wm.contract import Contract
from robot_wm.errors import RunError
from robot_wm.latent_filter import Correction, LatentFilter
from robot_wm.messages import Latent, Measurement


class Exact:
    """What the robot does: each observation corrects the latent at its own stamp, and what was applied since then is replayed."""

    kind: type[LatentFilter] = LatentFilter

    def __init__(self, contract: Contract, model: Model) -> None:
        self.filter = self.kind(contract, model)

    def reset(self, start: int) -> None:
        """An episode begins at `start` [ns]."""
        self.filter.reset(start)

    def observe(self, measurement: Measurement, now: int) -> Correction:
        """Take what has arrived at `now` [ns]."""
        return self.filter.observe(measurement, now)

    def latent(self, now: int) -> Latent:
        """What to plan from at the grid instant `now` [ns]. The planner predicts it from its stamp to the plan's start."""
        return self.filter.latent()


class _LastCounts(LatentFilter):
    """Of several measurements with one stamp the last counts."""

    def _closer(self, stamp: int, other: int, k: int) -> bool:
        return stamp == other or super()._closer(stamp, other, k)


class Naive(Exact):
    """Each observation is taken for a current one, as by a program that acts on the newest message: its stamp is its arrival's.

    Of several that arrive in one control step the last counts, as in any subscriber, even where they overtook one another.
    """

    kind = _LastCounts

    def observe(self, measurement: Measurement, now: int) -> Correction:
        return self.filter.observe(replace(measurement, stamp=now), now)


class Hold(Exact):
    """The latent is corrected at the newest image's stamp and held until the next one comes: not predicted from there to now.

    What robots do that hold the newest picture beside current joint states: of what was measured after that stamp only the
    newest counts, and corrects the held latent as if no time had passed since. Up to that stamp the latent is exact. In a task
    without images every observation counts as one, so what was known at the newest stamp that has arrived is held. Until the
    first image it is the episode's start. Only perception goes unpredicted: a plan that starts later than now (actuation and
    planning delay) is still made for its start.
    """

    def __init__(self, contract: Contract, model: Model) -> None:
        super().__init__(contract, model)
        self._names = {item.name for item in contract.images or contract.observations}

    def reset(self, start: int) -> None:
        super().reset(start)
        self._k = self.filter.grid.nearest(start)  # instant of the newest image
        self._held: Float32 = self.filter.model.initial_latent

    def observe(self, measurement: Measurement, now: int) -> Correction:
        correction = super().observe(measurement, now)
        if correction.outcome == "accepted" and measurement.name in self._names:
            self._k = max(self._k, self.filter.grid.nearest(measurement.stamp))
        return correction

    def latent(self, now: int) -> Latent:
        newest, grid = self.filter.latent(), self.filter.grid
        seen = self.filter.estimate(self._k)
        if seen is not None:  # else it is older than the history and stays as it was
            self._held = seen.posterior
        k = grid.nearest(newest.stamp)
        values = self._held if k == self._k else self.filter.corrected(k, self._held)
        return Latent(grid.stamp(grid.ceil(now)), values, newest.bundle_id)


CORRECTIONS: dict[str, type[Exact]] = {"exact": Exact, "naive": Naive, "hold": Hold}


def correction_named(name: str) -> type[Exact]:
    """One of `CORRECTIONS`. Raises RunError that lists them."""
    if name not in CORRECTIONS:
        raise RunError(f"no way of correcting {name!r}; there are {', '.join(CORRECTIONS)}")
    return CORRECTIONS[name]
