"""Stamped dataclasses that travel between the parts; ROS messages are translated to these at the edge.

All stamps are integer nanoseconds in the receiver's monotonic time unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class JointState:
    """One reading of the joints, in the order of `names`; a field that was not measured is empty (shape (0,))."""

    stamp: int
    names: tuple[str, ...]
    position: FloatArray
    velocity: FloatArray
    effort: FloatArray


@dataclass(frozen=True)
class Encoded:
    """What an image became in the background: its `embedding` (E_i,) by the bundle `bundle_id`."""

    embedding: FloatArray
    bundle_id: str


@dataclass(frozen=True)
class Measurement:
    """One observation of the contract, validated: `values` (size,) in SI units, in the contract's order; of an image its pixels
    (height, width, channels) uint8, and its embedding where it is encoded already."""

    name: str
    stamp: int
    values: FloatArray | NDArray[np.uint8]
    encoded: Encoded | None = None


@dataclass(frozen=True)
class Applied:
    """The command that was really sent at `stamp` and holds until the next one, in SI units and the contract's action order.

    `source` says who asked for it: `plan:<plan index>`, `hold`, `damp`, `estop`, `command`, `excite` or `disarmed`.
    `driven` is false while the motors are not powered: then `values` is what the actuators effectively got (zero effort).
    """

    stamp: int
    values: FloatArray
    source: str
    driven: bool = True


@dataclass(frozen=True)
class Command:
    """What an operator or an external driver asks for: `values` (action,) in SI units and the contract's action order."""

    stamp: int
    values: FloatArray


@dataclass(frozen=True)
class Latent:
    """The posterior at a grid instant: `values` (latent,) by the bundle `bundle_id`."""

    stamp: int
    values: FloatArray
    bundle_id: str


@dataclass(frozen=True)
class PlanStats:
    """What one plan cost and was worth."""

    source: str = "mppi"  # who made it: mppi, cem, sampling; or the fallbacks shifted, policy
    refinements: int = 0
    samples: int = 0  # of each refinement, without the policy's proposals
    value: float = 0.0  # expected return of the chosen sequence, model units
    spread: float = 0.0  # mean standard deviation of the final proposal, normalised action units
    disagreement: float = 0.0  # standard deviation of the value heads over the elites, model units
    seconds: float = 0.0  # time used
    latent_age_s: float = 0.0  # start of the plan minus stamp of the latent it was planned from


@dataclass(frozen=True)
class Plan:
    """A zero-order hold per model step: `actions` (horizon, action) in SI units, row i from `start + i * step` [ns] on."""

    index: int
    start: int
    step: int
    actions: FloatArray
    bundle_id: str
    stats: PlanStats = field(default_factory=PlanStats)

    @property
    def end(self) -> int:
        """When the last row ends [ns]."""
        return self.start + self.step * len(self.actions)

    def action_at(self, stamp: int) -> FloatArray | None:
        """Return the row that holds at `stamp`, or None before the start and after the end."""
        if not self.start <= stamp < self.end:
            return None
        row: FloatArray = self.actions[(stamp - self.start) // self.step]
        return row


@dataclass(frozen=True)
class Event:
    """An operator or task mark: `kind` is start, end, success, failure or mark."""

    stamp: int
    kind: str
    note: str = ""
