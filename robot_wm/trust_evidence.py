"""What one correction says about the model: how far it moved the latent from predictions that did not know it.

Two predictions are judged. The filter's own prior reaches one step ahead, or as far as the last correction lies back. A blind one
starts from the posterior some steps earlier and knows nothing measured since: what is wrong with a model in small, such as another
payload, adds up in it. Both are compared with the posterior of the same stamp, in what the model reads out of either: how well it
reads is no part of the question.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from robot_wm.backend import Float32
from robot_wm.latent_filter import Estimate, LatentFilter
from robot_wm.messages import FloatArray
from robot_wm.trust import residual

LONGEST_GAP = 64  # model steps; longer outages count as this long


@dataclass(frozen=True)
class Evidence:
    """One modality at one instant."""

    name: str  # of the observation or image
    steps: int  # of the model that were predicted without it
    error: FloatArray  # (K,) corrected less predicted [SI]; of an image (L,) the latent change that it alone made
    motion: float  # of the predicted latent, rms per step
    blind: bool = False  # predicted as far on purpose


def evidence(filter_: LatentFilter, k: int, names: Collection[str], blind_steps: int = 0) -> list[Evidence]:
    """Judge the measurements `names` of instant `k`; none where the history does not reach back to a prediction.

    Args:
        blind_steps: also compare with a prediction over so many steps that nothing corrected, at every instant that half of them
            divide, for such a prediction costs as many runs of the prior; 0: never.
    """
    now, before = filter_.estimate(k), filter_.estimate(k - 1)
    if now is None or before is None:
        return []
    contract = filter_.contract
    present = [name for name in names if name in now.measured]
    observed = [name for name in present if name in contract.slices()]
    result = []
    if observed:
        gap = _gap(filter_, k, observed)
        result += _errors(filter_, now, observed, [before.posterior, now.prior], gap, blind=False)
        if blind_steps and k % max(1, blind_steps // 2) == 0:
            result += ahead(filter_, k - blind_steps, [blind_steps], observed)
    for name in present:
        if name not in contract.slices():
            change = np.asarray(now.posterior - filter_.without(k, name), np.float64)
            moved = _motion([before.posterior, now.prior])
            result.append(Evidence(name, _gap(filter_, k, [name]), change, moved))
    return result


def ahead(filter_: LatentFilter, k: int, horizons: Sequence[int], names: Collection[str]) -> list[Evidence]:
    """Predict from the posterior of instant `k` under what was applied, without any correction, and compare with the observations
    `names` so many model steps later; ascending `horizons` [steps]. None where the history does not reach back to `k`."""
    start = filter_.estimate(k)
    latents = [] if start is None else [start.posterior]
    result = []
    for i in range(k, k + horizons[-1]) if start is not None else ():
        action = filter_.actions.mean(filter_.grid.stamp(i), filter_.grid.stamp(i + 1))
        latents.append(filter_.model.prior(latents[-1][None], np.asarray(action, np.float32)[None])[0])
        then = filter_.estimate(i + 1) if i + 1 - k in horizons else None
        if then is not None:
            there = [name for name in names if name in then.measured]
            result += _errors(filter_, then, there, latents, i + 1 - k, blind=True)
    return result


def _errors(
    filter_: LatentFilter,
    now: Estimate,
    names: Iterable[str],
    latents: Sequence[Float32],
    steps: int,
    blind: bool,
) -> list[Evidence]:
    """Compare what is read from the posterior with what is read from the last of the predicted `latents`."""
    predicted, corrected = filter_.model.readout(np.stack([latents[-1], now.posterior]))
    motion = _motion(latents)
    result = []
    for name in names:
        item, part = filter_.contract.observation(name), filter_.contract.slices()[name]
        result.append(Evidence(name, steps, residual(item, corrected[part], predicted[part]), motion, blind))
    return result


def _motion(latents: Sequence[Float32]) -> float:
    return float(np.mean(np.sqrt(np.mean(np.diff(latents, axis=0) ** 2, axis=1))))


def _gap(filter_: LatentFilter, k: int, names: Iterable[str]) -> int:
    """Model steps since an instant that any of `names` corrected."""
    for steps in range(1, LONGEST_GAP):
        earlier = filter_.estimate(k - steps)
        if earlier is None or any(name in earlier.measured for name in names):
            return steps
    return LONGEST_GAP
