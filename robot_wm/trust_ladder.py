"""What falling trust is answered with: a ladder that is climbed at once and left rung by rung, after a while of quiet.

    normal → cautious → policy → hold

Time and levels come in as arguments, so it is tested without waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from robot_wm.errors import MessageError
from robot_wm.timebase import NS_PER_S


class Rung(IntEnum):
    """What the planner does."""

    NORMAL = 0  # plan as the bundle says
    CAUTIOUS = 1  # penalise disagreement, search over fewer steps
    POLICY = 2  # play the policy prior alone
    HOLD = 3  # make no plans: the motor process holds by itself

    @property
    def label(self) -> str:
        return self.name.lower()


def rung_named(label: str) -> Rung:
    """The inverse of `Rung.label`. Raises MessageError for anything else."""
    for rung in Rung:
        if rung.label == label:
            return rung
    raise MessageError(f"no rung {label!r} of trust; there are {', '.join(rung.label for rung in Rung)}")


def arming_status(rung: Rung) -> dict[str, str]:
    """What a node that plans or perceives says of arming in its diagnostics: with care a robot may start."""
    return {"arming": "ready, with care"} if rung is Rung.CAUTIOUS else {}


@dataclass(frozen=True)
class Standing:
    """Where trust in the model stands."""

    rung: Rung = Rung.NORMAL
    cause: str = ""  # why no higher, empty when normal


@dataclass(frozen=True)
class Steps:
    """When a rung is entered and left. Levels are in alarms: 1 is the first."""

    up: tuple[float, float, float] = (1.0, 2.0, 4.0)  # level that leads to cautious, policy, hold
    release: float = 0.5  # a rung is left below this part of the level that led to it ...
    dwell_s: float = 1.0  # ... when it has stayed there so long


@dataclass(frozen=True)
class Answers:
    """What the planner does on the rung `cautious`."""

    doubt: float = 1.0  # added to the contract's `costs.disagreement`
    horizon: float = 0.5  # part of the horizon that is searched; behind it the plan is the policy prior's
    watch_only: bool = False  # plan as if the rung were normal

    def searched(self, rung: Rung, horizon: int) -> int:
        """Model steps of a plan of `horizon` that are searched on a rung, at least one while any is."""
        if rung is Rung.NORMAL:
            return horizon
        return max(1, int(self.horizon * horizon)) if rung is Rung.CAUTIOUS else 0


@dataclass(frozen=True)
class Change:
    """One change of rung with its cause."""

    stamp: int
    before: Rung
    after: Rung
    cause: str


class Ladder:
    """Starts normal. `update` with every correction, and whenever time has passed without one."""

    def __init__(self, steps: Steps | None = None, listener: Callable[[Change], None] | None = None) -> None:
        self.steps = steps or Steps()
        self.rung = Rung.NORMAL
        self.cause = ""
        self._listener = listener
        self._quiet_since: int | None = None  # the level has been low enough to go down since [ns]

    def update(self, now: int, level: float, cause: str) -> Rung:
        """Judge the level at `now` [ns]; `cause` says what raised it, and becomes the rung's if it leads up."""
        wanted = Rung(sum(level >= bound for bound in self.steps.up))
        if wanted > self.rung:
            self._go(now, wanted, cause)
        elif self.rung is not Rung.NORMAL:
            self._settle(now, level)
        return self.rung

    @property
    def standing(self) -> Standing:
        return Standing(self.rung, self.cause if self.rung is not Rung.NORMAL else "")

    def reset(self, now: int, cause: str) -> None:
        """Begin again at normal: another episode or another model."""
        self._quiet_since = None
        if self.rung is not Rung.NORMAL:
            self._go(now, Rung.NORMAL, cause)
        self.cause = ""

    def _settle(self, now: int, level: float) -> None:
        if level >= self.steps.release * self.steps.up[self.rung - 1]:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= self.steps.dwell_s * NS_PER_S:
            self._go(now, Rung(self.rung - 1), f"quiet for {self.steps.dwell_s:g} s")

    def _go(self, now: int, after: Rung, cause: str) -> None:
        change = Change(now, self.rung, after, cause)
        self.rung, self.cause, self._quiet_since = after, cause, None
        if self._listener is not None:
            self._listener(change)
