"""What each plan and each correction says of itself on `plan_info` and `correction_info`: everything replay and reports need.

Both travel as one diagnostic_msgs/DiagnosticArray per plan or correction: header.stamp is the plan's start or the latent's
stamp, and each field is one key with its value as JSON, so numbers survive exactly and standard tools can show them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from robot_wm.errors import MessageError


@dataclass(frozen=True)
class PlanInfo:
    """Statistics of one plan, and the inputs that reproduce it (with the recorded latent and the bundle)."""

    index: int
    bundle_id: str
    source: str  # mppi, cem, sampling; or the fallbacks shifted, policy
    refinements: int
    samples: int  # of each refinement
    value: float
    spread: float
    disagreement: float  # of the value heads over the elites
    seconds: float  # time used [s]
    latent_age_s: float  # start of the plan minus stamp of the latent it was planned from
    latent_steps: int  # the same in model steps: how far the latent was rolled forward
    slack_s: float  # from the moment it was ready until its first command had to be sent; negative: it came late
    previous: tuple[tuple[float, ...], ...] | None  # (2, A) in the two steps before the start, older first, SI
    actions: tuple[tuple[float, ...], ...]  # (latent_steps, A), normalised: what the latent was rolled through
    seed: int
    reset: bool  # planned without the previous plan's mean
    trust: str = "normal"  # rung that posterior_node's trust stood on
    searched: int = -1  # model steps that were searched, the policy prior's behind them; -1: all of them
    doubt: float = 0.0  # added to the contract's disagreement cost


@dataclass(frozen=True)
class CorrectionInfo:
    """What one correction of the latent did."""

    bundle_id: str
    innovation: float  # root mean square change of the predicted latent
    late_steps: int  # instants replayed because of late arrivals
    delay_s: float  # from the stamp of the newest measurement to its correction
    seconds: float  # time used [s]
    outcomes: dict[str, int]  # measurements so far, by what became of them
    trust: str = ""  # rung; empty: the bundle has no trust.yaml
    surprise: dict[str, float] = field(default_factory=dict)  # by source, 1 is an alarm
    statistics: dict[str, float] = field(default_factory=dict)  # newest by source, 1 on average in health


Info = TypeVar("Info", PlanInfo, CorrectionInfo)


def to_pairs(info: PlanInfo | CorrectionInfo) -> list[tuple[str, str]]:
    """One (key, JSON value) per field."""
    return [(f.name, json.dumps(getattr(info, f.name))) for f in fields(info)]


def from_pairs(kind: type[Info], pairs: Iterable[tuple[str, str]]) -> Info:
    """The inverse of `to_pairs`; what has a default may be missing. Raises MessageError naming a missing or unreadable key."""
    given = dict(pairs)
    values: dict[str, Any] = {}
    for f in fields(kind):
        try:
            values[f.name] = _tuples(json.loads(given[f.name]))
        except KeyError as error:
            if f.default is not MISSING or f.default_factory is not MISSING:
                continue
            raise MessageError(f"{kind.__name__}: no key {f.name!r}; there are {', '.join(given) or 'none'}") from error
        except ValueError as error:
            raise MessageError(f"{kind.__name__}: {f.name}: {given[f.name]!r} is not JSON") from error
    return kind(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
