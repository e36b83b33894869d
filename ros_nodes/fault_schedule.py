"""Which faults a campaign does, and when: drawn from a seed, so that a campaign can be repeated."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robot_wm.errors import RunError
from ros_nodes.fault_kinds import KINDS, Bounds, Kind

MOMENT_S = (0.2, 0.7)  # from control being back to the fault


@dataclass(frozen=True)
class Planned:
    """One fault: `after_s` control is there, of a variant, for so long."""

    index: int
    kind: str
    variant: str
    after_s: float
    lasts_s: float


def kinds_for(bus: str, patterns: Sequence[str]) -> list[Kind]:
    """The kinds that befall `bus` and match one of the patterns (as file names do; none: all).

    Raises:
        RunError: a pattern matches nothing here.
    """
    here = [kind for kind in KINDS.values() if bus in kind.buses]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(kind.name, pattern) for kind in here):
            raise RunError(
                f"--kinds: nothing on --bus {bus} matches {pattern!r}; there are {', '.join(k.name for k in here)}"
            )
    return [k for k in here if not patterns or any(fnmatch.fnmatchcase(k.name, pattern) for pattern in patterns)]


def schedule(faults: int, seed: int, kinds: Sequence[Kind], bounds: Bounds, slack_s: float) -> list[Planned]:
    """So many faults: each round has every kind once, in random order, so that none is left out.

    Each lasts longer than its bound and `slack_s`, else it could not be told whether the robot was safe in time.
    """
    rng = np.random.default_rng(seed)
    planned: list[Planned] = []
    while len(planned) < faults:
        for k in rng.permutation(len(kinds)):
            kind = kinds[k]
            variant = str(rng.choice(kind.variants))
            after = float(rng.uniform(*MOMENT_S))
            lasts = kind.bound(bounds) + slack_s + float(rng.uniform(*kind.beyond_s))
            planned.append(Planned(len(planned), kind.name, variant, round(after, 3), round(lasts, 3)))
    return planned[:faults]
