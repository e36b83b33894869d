"""Fitting trust on held-out healthy bags: each is replayed through the latent filter as it arrived, and what that shows is usual.

Bags that a model was trained on would make it look better than it is; so this is a command of its own, for bags recorded with the
finished bundle in command, and no part of training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robot_wm.backend import Model
from robot_wm.bags.arrivals import Arrival, arrivals
from robot_wm.bags.reader import Bag, open_bag
from robot_wm.contract import Contract
from robot_wm.contract_images import ImageObservation
from robot_wm.errors import BagError
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Applied, Event, Measurement
from robot_wm.timebase import NS_PER_S
from robot_wm.trust import FEW, IMAGE_WINDOW, WINDOW, Scale, Tail, fit_scale, fit_tail, normalised_square, usual_error
from robot_wm.trust_evidence import Evidence, ahead, evidence
from robot_wm.trust_file import Modality, TrustSpec
from robot_wm.trust_monitor import SETTLE_S
from robot_wm.trust_repeats import Repeats

BLIND_S = 0.2  # how far the blind prediction reaches
EVERY = 8  # instants between the long predictions from which errors by horizon are learned
HORIZONS = (1, 2, 4, 8, 16, 32)  # model steps
ENOUGH_S = 60.0  # of healthy motion; less says nothing of rare alarms
ALARMS_IN_TEN_MINUTES = (
    0.5  # expected in health, of all sources together: more than one is then rarer than one run in ten
)
SLACK = 1  # model steps of grace for a modality that stays away
LEAST_SILENCE = 3  # model steps that no silence is shorter than
FRAMES = 2  # equal frames more than ever seen in health are an alarm


@dataclass
class _Seen:
    """What healthy bags showed."""

    episodes: list[list[tuple[float, Evidence]]] = field(default_factory=list)  # with their times [s]
    ahead: dict[str, dict[int, list[Evidence]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    silence: dict[str, float] = field(default_factory=lambda: defaultdict(float))  # [s]
    motion: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # latent's, during equal frames
    run: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # equal frames in a row
    seconds: float = 0.0


def fit_trust(
    bags: Sequence[Path | str],
    model: Model,
    alarms_in_ten_minutes: float = ALARMS_IN_TEN_MINUTES,
    progress: Callable[[], None] = lambda: None,
) -> TrustSpec:
    """What is usual for `model`, from bags of healthy running that it was not trained on.

    Raises:
        BagError: they hold less than a minute, or something never measured.
        ContractError: a bag was recorded under another contract.
    """
    contract = model.bundle.contract
    blind = max(1, round(BLIND_S * contract.model_hz))
    seen = _Seen()
    for path in bags:
        bag = open_bag(path)
        if bag.contract is not None:
            contract.require_data_of(bag.contract, f"{bag.path}")
        _listen(bag, model, blind, seen)
        progress()
    if seen.seconds < ENOUGH_S:
        raise BagError(
            f"the bags hold {seen.seconds:.0f} s of motion; {ENOUGH_S:.0f} s or more are needed to know what is rare"
        )
    sources = len(contract.observations) * 2 + len(contract.images)
    rate = alarms_in_ten_minutes / 600.0 / sources
    provenance = {
        "bags": {"/".join(Path(path).parts[-2:]): open_bag(path).hash for path in bags},
        "seconds": round(seen.seconds, 1),
        "alarms_in_ten_minutes": alarms_in_ten_minutes,
        "bundle": model.bundle_id,
    }
    modalities = {name: _modality(name, contract, seen, blind, rate) for name in contract.modalities}
    return TrustSpec(modalities, blind, provenance=provenance)


def _listen(bag: Bag, model: Model, blind: int, seen: _Seen) -> None:
    """Replay one bag, an episode from each start mark (or the whole) to the mark that ends it."""
    contract = model.bundle.contract
    for episode in _episodes(arrivals(bag, contract)):
        start = episode[0][0]
        filter_ = LatentFilter(contract, model, start=start)
        repeats = {image.name: Repeats(image.name, 0.0, 1) for image in contract.images}
        heard, newest, collected = dict[int, set[str]](), dict[str, int](), list[tuple[float, Evidence]]()
        settled = filter_.grid.nearest(start) + round(SETTLE_S * contract.model_hz)
        judged = filter_.grid.nearest(start)
        for at, item in episode:
            if isinstance(item, Applied):
                filter_.applied(item)
                continue
            assert isinstance(item, Measurement)
            if filter_.grid.nearest(item.stamp) > judged + 1:  # the instants before are complete
                judged = filter_.grid.nearest(item.stamp) - 1
                _judge(filter_, heard, settled, blind, collected, repeats, seen)
                if judged > settled:
                    for name, stamp in newest.items():
                        seen.silence[name] = max(seen.silence[name], (at - stamp) / NS_PER_S)
            if filter_.observe(item).outcome == "accepted":
                heard.setdefault(filter_.grid.nearest(item.stamp), set()).add(item.name)
                newest[item.name] = max(item.stamp, newest.get(item.name, item.stamp))
        _judge(filter_, heard, settled, blind, collected, repeats, seen)
        if collected:
            seen.episodes.append(collected)
            seen.seconds += (episode[-1][0] - start) / NS_PER_S


def _episodes(found: list[Arrival]) -> Iterator[list[Arrival]]:
    """Stretches from a start mark to the next mark that ends it; without marks everything."""
    marked = any(isinstance(what, Event) and what.kind == "start" for _, what in found)
    inside: list[Arrival] | None = None if marked else []
    for at, what in found:
        if isinstance(what, Event):
            if what.kind in ("start", "end", "success", "failure") and marked:
                if inside:
                    yield inside
                inside = [] if what.kind == "start" else None
        elif inside is not None:
            inside.append((at, what))
    if inside:
        yield inside


def _judge(
    filter_: LatentFilter,
    heard: dict[int, set[str]],
    settled: int,
    blind: int,
    collected: list[tuple[float, Evidence]],
    repeats: dict[str, Repeats],
    seen: _Seen,
) -> None:
    """Collect what the instants heard of say, but for the newest two, which a nearer reading may still change."""
    newest = max(heard, default=0)
    for k in sorted(k for k in heard if k < newest):
        names = sorted(heard.pop(k))
        found = evidence(filter_, k, names, blind)
        t = filter_.grid.stamp(k) / NS_PER_S
        collected += [(t, e) for e in found if k - (e.steps if e.blind else 0) >= settled]
        if k % EVERY == 0 and k - HORIZONS[-1] >= settled:
            for e in ahead(filter_, k - HORIZONS[-1], HORIZONS, list(filter_.contract.slices())):
                seen.ahead[e.name][e.steps].append(e)
        for name, watch in repeats.items():
            pair = watch.see(filter_, k)
            if pair is not None and pair[0]:
                seen.motion[name].append(pair[1])
                seen.run[name] = max(seen.run[name], watch.count)


def _modality(name: str, contract: Contract, seen: _Seen, blind: int, rate: float) -> Modality:
    own = [[(t, e) for t, e in episode if e.name == name] for episode in seen.episodes]
    if not any(own):
        raise BagError(f"the bags hold no usable {name}: record some that do")
    image = name not in contract.slices()
    every = [e for episode in own for _, e in episode]
    scale = _by_gap(every) if image else _by_horizon(every, seen.ahead[name], blind)

    def tail(far: bool) -> Tail:
        series = []
        for episode in own:
            rows = [(t, e) for t, e in episode if e.blind is far]
            values = [normalised_square(e.error, usual_error(scale, e.steps, e.motion)) for _, e in rows]
            if rows:
                series.append((np.array([t for t, _ in rows]), np.array(values)))
        return fit_tail(series, rate, IMAGE_WINDOW if image else WINDOW)

    step, oldest = 1.0 / contract.model_hz, seen.silence[name]
    foreseen = next((_foreseen(item) for item in contract.images if item.name == name), 0.0)
    motion = seen.motion[name]
    return Modality(
        scale=scale,
        innovation=tail(False),
        silent_s=round(max(oldest + SLACK * step, LEAST_SILENCE * step, foreseen), 4),
        oldest_s=round(oldest, 4),
        blind=None if image else tail(True),
        still=float(np.quantile(motion, 0.99)) if motion else 0.0,
        frozen=FRAMES + seen.run[name] if image else 0,
    )


def _foreseen(image: ImageObservation) -> float:
    """The largest age of the newest image that its model was trained for, or that posterior_node does not yet call stale [s]."""
    period = 1.0 / image.rate_hz if image.rate_hz else 0.0
    return max(image.stale_s, image.outage_s + image.delay_s + period)


def _by_horizon(every: list[Evidence], long: dict[int, list[Evidence]], blind: int) -> dict[int, Scale]:
    """Usual errors of an observation by the steps it was predicted; the filter's own step and `blind` from every correction, the
    others from the long predictions."""
    found = dict(long)
    found[1] = [e for e in every if not e.blind and e.steps == 1] or long[1]
    found[blind] = [e for e in every if e.blind] or long[blind]
    return {steps: _fitted(rows) for steps, rows in sorted(found.items()) if rows}


def _by_gap(every: list[Evidence]) -> dict[int, Scale]:
    """Usual latent change by an image by the steps since the one before; gaps that are rare are left out."""
    changes: dict[int, list[Evidence]] = defaultdict(list)
    for e in every:
        changes[e.steps].append(e)
    common = {steps: rows for steps, rows in sorted(changes.items()) if len(rows) >= FEW} or changes
    return {steps: _fitted(rows, image=True) for steps, rows in common.items()}


def _fitted(rows: list[Evidence], image: bool = False) -> Scale:
    """An image's latent change has one scale for all of its components."""
    errors = np.array([e.error for e in rows])
    if image:
        errors = np.sqrt(np.mean(errors**2, axis=1, keepdims=True))
    return fit_scale(np.array([e.motion for e in rows]), errors)
