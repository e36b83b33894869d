"""Everything that decides what training computes, and the usual choices for a contract and a family of models."""

from __future__ import annotations

import math
from collections.abc import Sequence as Ordered
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from models.elbo import ElboConfig
from models.families import DEFAULT, FAMILIES
from models.optimiser import OptimiserConfig
from models.rssm import Rssm
from robot_wm.contract import Contract

# Training on logs without a task (`dynamics_only`): how long to filter first, from how long a stretch to predict, how far.
BURN_IN_S, STARTS_S, AHEAD_S = 0.2, 0.16, 0.24
DECAY = 3_000  # updates
# Windows with images are long, for these may be late or missing: few of them, and rollouts from many instants of each. That far
# the recorded rewards are there, too: values learned from them need fewer updates, which are dear here.
SEEING_BATCH, SEEING_STARTS, SEEING_TRACE = 32, 16, 0.9
# With a teacher every instant teaches, not only the starts; and what nobody could know is most of the error, and teaches little.
TAUGHT: dict[str, Any] = {"starts": 4, "shift": 0.0, "drop": 0.05, "cold": 0.05, "hidden": 0.1}
PHASES = 4  # shifted grids of each log: rows come much faster than the grid


@dataclass(frozen=True)
class LossConfig:
    """Coefficients; defaults are TD-MPC2's unless said otherwise."""

    horizon: int = 3  # open-loop steps that are trained [model steps]
    burn_in: int = (
        1  # filtered instants before the rollout starts, gradients included (ours: the posterior is recurrent)
    )
    early: bool = False  # ours: windows may begin up to `burn_in` before their episode, when nothing is measured yet
    starts: int = 1  # ours: so many consecutive instants after the burn-in each start a rollout
    rho: float = 0.5  # weight of step k is rho ** k
    consistency: float = 20.0
    reward: float = 0.1
    value: float = 0.1
    terminated: float = 1.0
    anchor: float = 1.0  # ours: squared error of the anchors, posterior and rollout, in tolerances
    tolerance: float = 0.01  # of an anchor at the start of a rollout [normalised: radians for an angle] ...
    tolerance_growth: float = 0.15  # ... and how much more per second ahead: late errors are large anyhow
    mirrored: bool = False  # the robot is its own mirror image: negate half of the windows
    probe: float = 1.0  # ours: reads frozen latents, so it changes nothing else
    entropy: float = 1e-4
    behaviour_cloning: float = 0.0  # TD3+BC (arXiv 2106.06860): keeps the policy, hence the TD targets, inside the data
    discount: float = 0.99
    trace: float = 0.0  # ours: share of the recorded rewards in what follows a step; 0: one step, as TD-MPC2
    drop: float = 0.1  # chance that an instant's observations, and that one observation of several, is missing
    cold: float = 0.1  # chance that the filter starts anew at the last burn-in instant
    remember: bool = True  # windows start from the prior that was left at their first row (models/memory.py)
    scale_rate: float = 0.01  # of the running 5-95 percentile range of the values
    with_reward: bool = True  # off: no reward, value and policy losses (logs without a task)
    with_terminals: bool = False  # on: the data has terminal states
    late: tuple[
        tuple[float, ...], ...
    ] = ()  # of each image: quantiles of the time from capture to arrival [model steps]
    outage: tuple[float, ...] = ()  # of each image: longest time without one [model steps]
    hidden: float = 0.3  # share of the windows in which a camera is hidden for a time
    shift: float = 4.0  # largest random shift of images [pixels of 64]
    elbo: ElboConfig | None = None  # of the RSSM families, which have no consistency loss
    taught: bool = False  # a teacher has all the rest: learn to know what it knows (models/teacher.py)

    @property
    def with_posteriors(self) -> bool:
        """Whether the losses ask for the posteriors of the open-loop instants."""
        return self.with_reward or self.consistency > 0.0

    @property
    def lead(self) -> int:
        """Instants before its episode at which a window may begin."""
        return self.burn_in if self.early else 0

    @property
    def latest(self) -> int:
        """Instants before a start from which an image may still be on its way; a stamp is half a step from its instant at most."""
        return max((math.ceil(max(delays) + 0.5) for delays in self.late), default=0)

    @property
    def length(self) -> int:
        """Instants of a training sequence."""
        return self.burn_in + self.starts + self.horizon


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what training computes, given data and seed."""

    seed: int = 0
    batch: int = 256
    fused: bool = True  # use the kernels of models/fused.py where they can be built
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)


def discount_for(contract: Contract) -> float:
    """Discount from the episode length in model steps, clamp((L/5 - 1) / (L/5), 0.95, 0.995) (TD-MPC2, appendix)."""
    fraction = contract.episode_s * contract.model_hz / 5.0
    return float(min(max((fraction - 1.0) / fraction, 0.95), 0.995))


def config_for(
    contract: Contract,
    seed: int = 0,
    offline: bool = False,
    delays: Ordered[Ordered[float]] = (),
    family: str = DEFAULT,
    **changes: Any,
) -> TrainConfig:
    """The usual configuration for a contract and a family of models; `delays` are quantiles [s] of how late each image comes,
    measured (`models.dataset.Dataset.delays`), `changes` are fields of LossConfig.

    `offline` (a fixed set of bags, nothing new will correct an over-estimated value) adds TD3+BC's behaviour-cloning
    term with its alpha = 2.5 (arXiv 2106.06860), so that policy and TD targets stay near logged actions.
    """
    loss = LossConfig(
        discount=discount_for(contract),
        with_reward=contract.rewarded,
        behaviour_cloning=1.0 / 2.5 if offline else 0.0,
        mirrored=contract.mirrored,
        remember=not contract.mirrored,  # a latent of one side is none of the other
    )
    if contract.images:
        late = delays_for(contract, delays)
        outage = tuple(contract.model_hz * image.outage_s for image in contract.images)
        burn_in = burn_in_for(contract, late) + math.ceil(max(outage))
        loss = replace(
            loss, late=late, outage=outage, burn_in=burn_in, early=True, starts=SEEING_STARTS, trace=SEEING_TRACE
        )
    if issubclass(FAMILIES[family], Rssm):
        loss = replace(loss, consistency=0.0, elbo=ElboConfig())
    if learns_motion_alone(contract, family):
        return dynamics_only(contract, seed, loss, **changes)
    batch = SEEING_BATCH if contract.images else TrainConfig.batch
    return TrainConfig(seed=seed, batch=batch, loss=replace(loss, **changes))


def delays_for(contract: Contract, measured: Ordered[Ordered[float]] = ()) -> tuple[tuple[float, ...], ...]:
    """Quantiles [model steps] of how late each image comes: in the contract's range where it has one, else as measured [s] or,
    where no bag tells, as the contract expects."""
    known = list(measured) or [()] * len(contract.images)
    return tuple(
        tuple(contract.model_hz * d for d in image.delay_range_s or (quantiles if any(quantiles) else (image.delay_s,)))
        for image, quantiles in zip(contract.images, known, strict=True)
    )


def burn_in_for(contract: Contract, late: Ordered[Ordered[float]]) -> int:
    """Instants to filter first, so that an image has arrived by the start of the rollout, however late they come."""
    periods = (max(1.0, contract.model_hz / image.rate_hz) if image.rate_hz else 1.0 for image in contract.images)
    return max(math.ceil(max(delays) + period) for delays, period in zip(late, periods, strict=True))


def taught(config: TrainConfig) -> TrainConfig:
    """The same with a teacher: all is regression, so the encoder may learn as fast as the rest, and the rate falls to zero. Images
    stay where they are: a place in them is something to know, not to ignore."""
    optimiser = replace(config.optimiser, rate=1e-3, encoder_rate=1.0, decay=DECAY)
    return replace(config, loss=replace(config.loss, taught=True, **TAUGHT), optimiser=optimiser)


def learns_motion_alone(contract: Contract, family: str = DEFAULT) -> bool:
    """Whether there is no reward, and something to learn the motion from without one: anchors, or a decoder."""
    return not contract.rewarded and (
        issubclass(FAMILIES[family], Rssm) or any(o.anchored for o in contract.observations)
    )


def phases_for(contract: Contract, family: str = DEFAULT) -> int:
    """On how many shifted grids to align a log (`models.dataset.Dataset`)."""
    return PHASES if learns_motion_alone(contract, family) else 1


def dynamics_only(contract: Contract, seed: int, loss: LossConfig, **changes: Any) -> TrainConfig:
    """For logs without a task: long rollouts, many per window, and a rate that falls to zero."""
    usual: dict[str, Any] = {
        "burn_in": round(BURN_IN_S * contract.model_hz),
        "starts": round(STARTS_S * contract.model_hz),
        "horizon": round(AHEAD_S * contract.model_hz),
        "rho": 1.0,
        "drop": 0.02,  # measured gaps are in the logs already
        "cold": 0.0,
        "remember": False,  # the burn-in is long
        "consistency": 0.0,  # the anchors are compared with measurements, step by step
    }
    usual["burn_in"] = max(usual["burn_in"], loss.burn_in)
    if loss.elbo is not None:
        usual["elbo"] = replace(
            loss.elbo, overshooting=loss.elbo.dynamics
        )  # otherwise long rollouts would teach nothing
    optimiser = OptimiserConfig(rate=1e-3, encoder_rate=1.0, decay=DECAY)
    return TrainConfig(seed=seed, batch=64, loss=replace(loss, **(usual | changes)), optimiser=optimiser)


def facts(config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint says of the configuration: nothing about what this model does not have."""
    facts = asdict(config)
    if config.loss.elbo is None:
        del facts["loss"]["elbo"]
    if not config.loss.taught:
        del facts["loss"]["taught"]
    if not config.loss.late:
        for name in ("late", "shift", "outage", "hidden", "early", "trace"):
            del facts["loss"][name]
    return facts


def changed(old: dict[str, Any], config: TrainConfig) -> str:
    new = facts(config)
    flat = [
        (f"{part}.{key}", old[part].get(key), new[part][key]) for part in ("loss", "optimiser") for key in new[part]
    ]
    flat += [(key, old.get(key), new[key]) for key in ("seed", "batch")]
    return "; ".join(f"{name}: {a} != {b}" for name, a, b in flat if a != b)
