"""Trust at run time: every correction's evidence → accumulated surprise → the ladder's rung, with its cause.

Surprise is not all: a modality that stays away, and a camera that repeats a frame while the scene moves, count as well. The level
is the largest of all; 1 is the first alarm. While a robot rests, before it is armed or on hold, only silence counts: what is usual
was fitted in motion, a camera may well send the same picture again and again, and whoever arms a robot wants to see it ready.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from robot_wm.latent_filter import Correction, LatentFilter
from robot_wm.messages import Applied, Event
from robot_wm.timebase import NS_PER_S
from robot_wm.trust import IMAGE_WINDOW, WINDOW, Surprise, normalised_square, usual_error
from robot_wm.trust_evidence import Evidence, evidence
from robot_wm.trust_file import Modality, TrustSpec
from robot_wm.trust_ladder import Change, Ladder, Rung, Standing
from robot_wm.trust_repeats import Repeats

SETTLE_S = 1.0  # after a reset the latent is still finding the state
RESTING = ("hold", "damp", "estop", "disarmed")  # who asks for nothing to move (messages.Applied)


@dataclass(frozen=True)
class Verdict:
    """What the newest corrections say."""

    standing: Standing
    level: float  # the largest of `levels`
    levels: Mapping[str, float]  # by source: `velocity`, `velocity blind`, `camera silent`, ...; 1 is an alarm
    statistics: Mapping[str, float]  # of the newest corrections, 1 on average in health; silence: at most 1
    outliers: tuple[str, ...] = ()  # sources that show more than one healthy correction in 500 does

    def said(self) -> dict[str, Any]:
        """The fields of CorrectionInfo."""
        return {"trust": self.standing.rung.label, "surprise": dict(self.levels), "statistics": dict(self.statistics)}


@dataclass
class Figures:
    """What became of trust over a run."""

    seconds: dict[str, float] = field(default_factory=lambda: {rung.label: 0.0 for rung in Rung})  # by rung
    alarms_at: list[tuple[int, str]] = field(default_factory=list)  # when normal was left [ns], and by what
    normal_at: list[int] = field(default_factory=list)  # when it was returned to [ns]

    @property
    def alarms(self) -> int:
        return len(self.alarms_at)

    def summary(self) -> dict[str, object]:
        """Share of the time on each rung, alarms and what raised them."""
        total = sum(self.seconds.values())
        share = {name: seconds / total if total else 0.0 for name, seconds in self.seconds.items()}
        return {"share": share, "alarms": self.alarms, "sources": dict(Counter(source for _, source in self.alarms_at))}


class TrustMonitor:
    """Judges one model's corrections: `heard` for each measurement, `judge` when a latent is published."""

    def __init__(self, spec: TrustSpec, start: int = 0) -> None:
        """`start` [ns]: of the episode."""
        self.figures = Figures()
        self.changes: list[Change] = []  # since they were last taken
        self.ladder = Ladder(spec.steps, self.changes.append)
        self._resting = False
        self._use(spec)
        self._forget(start)

    @property
    def rung(self) -> Rung:
        return self.ladder.rung

    def restart(self, now: int) -> None:
        """A new episode at `now` [ns]: nothing known before it still counts."""
        self.ladder.reset(now, "a new episode")
        self._forget(now)

    def swap(self, spec: TrustSpec, now: int) -> None:
        """Another model, of which nothing is known yet."""
        self.ladder.reset(now, "a new model")
        self._use(spec)
        self._forget(now)

    def heard(self, filter_: LatentFilter, corrections: Iterable[Correction]) -> None:
        """Remember what has to be judged."""
        for correction in corrections:
            if correction.outcome == "accepted":
                name, stamp = correction.name, correction.stamp
                self._pending.setdefault(filter_.grid.nearest(stamp), set()).add(name)
                self._newest[name] = max(stamp, self._newest.get(name, stamp))

    def applied(self, applied: Applied) -> None:
        """What was really sent to the motors: is the robot at rest on purpose?"""
        self._resting = not applied.driven or applied.source.partition(":")[0] in RESTING

    def judge(self, filter_: LatentFilter, now: int) -> Verdict:
        """Judge what was heard since the last call; `now` [ns]."""
        first = filter_.grid.nearest(self._start) + round(SETTLE_S * filter_.contract.model_hz)
        if self._resting or self.rung is Rung.HOLD:
            self._rest()
        for k in sorted(self._pending):
            for found in evidence(filter_, k, sorted(self._pending[k]), self.spec.blind_steps):
                if k - (found.steps if found.blind else 0) >= first:
                    self._count(found)
            for repeats in self._repeats.values():
                repeats.see(filter_, k)
        self._pending.clear()
        levels = {name: surprise.level for name, surprise in self._surprises.items()}
        for name, modality in self.spec.modalities.items():
            source, age = f"{name} silent", self._age(name, now)
            levels[source] = age / modality.silent_s if age > modality.silent_s else 0.0
            self._statistics[source] = age / (modality.oldest_s or modality.silent_s)
            if self._statistics[source] > 1.0:
                self._outliers.append(source)
        outliers = tuple(self._outliers)
        self._outliers.clear()
        levels |= {f"{name} frozen": repeats.level for name, repeats in self._repeats.items()}
        source = max(levels, key=lambda name: levels[name])
        self._climb(now, levels[source], source)
        return Verdict(self.ladder.standing, levels[source], levels, dict(self._statistics), outliers)

    def event(self, stamp: int) -> Event:
        """The rung with its cause, as it goes onto the topic `trust`."""
        return Event(stamp, self.rung.label, self.ladder.standing.cause)

    def take_changes(self) -> list[Change]:
        """Changes of rung since the last call."""
        taken = list(self.changes)
        self.changes.clear()
        return taken

    def _use(self, spec: TrustSpec) -> None:
        self.spec = spec
        self.ladder.steps = spec.steps
        self._surprises: dict[str, Surprise] = {}
        for name, modality in spec.modalities.items():
            image = modality.blind is None
            self._surprises[name] = Surprise(modality.innovation, IMAGE_WINDOW if image else WINDOW)
            if modality.blind is not None and spec.blind_steps:
                self._surprises[f"{name} blind"] = Surprise(modality.blind)
        images = {name: m for name, m in spec.modalities.items() if m.frozen}
        self._repeats = {name: Repeats(name, m.still, m.frozen) for name, m in images.items()}

    def _forget(self, now: int) -> None:
        self._start = now
        self._judged: int | None = None
        self._pending: dict[int, set[str]] = {}
        self._newest: dict[str, int] = {}
        self._statistics: dict[str, float] = {}
        self._outliers: list[str] = []  # since the last judgement
        for surprise in self._surprises.values():
            surprise.reset()
        for repeats in self._repeats.values():
            repeats.reset()

    def _rest(self) -> None:
        """Nothing surprises at rest, and what did before is forgotten as fast as when nothing does any more."""
        self._pending.clear()
        self._statistics.clear()
        for surprise in self._surprises.values():
            surprise.add(0.0)
        for repeats in self._repeats.values():
            repeats.reset()

    def _count(self, found: Evidence) -> None:
        source = f"{found.name} blind" if found.blind else found.name
        statistic = statistic_of(found, self.spec.modalities[found.name])
        self._statistics[source] = statistic
        surprise = self._surprises[source]
        surprise.add(statistic)
        if statistic > surprise.tail.rare:
            self._outliers.append(source)

    def _age(self, name: str, now: int) -> float:
        """Of the newest measurement [s]."""
        return (now - self._newest.get(name, self._start + round(SETTLE_S * NS_PER_S))) / NS_PER_S

    def _climb(self, now: int, level: float, source: str) -> None:
        before = self.rung
        if self._judged is not None:
            self.figures.seconds[before.label] += max(0, now - self._judged) / NS_PER_S
        self._judged = now
        self.ladder.update(now, level, f"{source} {level:.1f}")
        if before is Rung.NORMAL and self.rung is not Rung.NORMAL:
            self.figures.alarms_at.append((now, source))
        if before is not Rung.NORMAL and self.rung is Rung.NORMAL:
            self.figures.normal_at.append(now)


def statistic_of(found: Evidence, modality: Modality) -> float:
    """The statistic (1 on average in health) of one piece of evidence."""
    return normalised_square(found.error, usual_error(modality.scale, found.steps, found.motion))
