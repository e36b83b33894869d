"""Anchors: latent coordinates that *are* measured quantities (contract: `anchored: true`), each with a learned rate of change.

They make the latent checkable against measurements without a reward and without a decoder: nothing can collapse, and the
readout is exact. What is hidden (friction, delay of the actuators, true velocity) lives in the rates and in the free coordinates,
which here are no SimNorm: they remember, `tanh(before + change)`, which lowers the error on real logs by a quarter
(docs/hardware_logs.md).

The anchors' part of a latent is `[anchor (n), rate (n), known (n)]`: the normalised measurement (angles: radians, whole turns
kept), its change per `RATE_S`, and 1 once it has been measured. The prior is of second order: the network predicts the change of
the rate, and the anchor moves by the mean of the rates before and after. The posterior moves each anchor towards the measurement,
brought from its stamp to the instant by the rate, with a learned gain.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from models.networks import ObservationFeatures
from robot_wm.contract import Contract

RATE_S = 0.1  # rates are changes per this time [s]: of order one for a moving robot
INNOVATION = 10.0  # innovations are small numbers; the posterior sees them enlarged
SHIFT = 0.01  # largest order of what the networks add to an anchor directly
SOFT_SIGNS = (8.0, 50.0)  # slopes of tanh(rate): friction changes its sign within a few per cent of the usual rates
ACTION_SLOPE = 5.0  # of tanh(action): small actions matter near standstill


class Anchors(nn.Module):
    """The arithmetic of the anchored coordinates; it has no weights. n anchors, L latent, A action."""

    raw: Tensor
    modality: Tensor

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        anchored = [(i, o) for i, o in enumerate(contract.observations) if o.anchored]
        self.encoding = ObservationFeatures(replace(contract, observations=tuple(o for _, o in anchored)))
        slices = contract.slices()
        raw = [k for _, o in anchored for k in range(slices[o.name].start, slices[o.name].stop)]
        self.size = len(raw)
        self.step = 1.0 / (contract.model_hz * RATE_S)  # RATE_S per model step
        self.context_size = self.encoding.size + (1 + len(SOFT_SIGNS)) * self.size
        self.register_buffer("raw", torch.tensor(raw), persistent=False)
        self.register_buffer("modality", torch.tensor([i for i, o in anchored for _ in o.names]), persistent=False)

    def measured(self, observation: Tensor, age: Tensor) -> Tensor:
        """What the posterior needs of raw observations (..., O) and ages (..., M): anchors and their ages (..., 2n)."""
        return torch.cat([self.normalised(observation), age[..., self.modality]], dim=-1)

    def normalised(self, observation: Tensor) -> Tensor:
        """Anchors (..., n) that raw observations (..., O) stand for."""
        return (observation[..., self.raw] - self.encoding.mean) / self.encoding.scale

    def difference(self, a: Tensor, b: Tensor) -> Tensor:
        """a - b of anchors (..., n), angles the short way round."""
        turns = torch.round((a - b) / (2 * math.pi)) * (2 * math.pi)
        return torch.where(self.encoding.angle, a - b - turns, a - b)

    def features(self, part: Tensor) -> Tensor:
        """Normalised features of the anchors of a latent's part (..., 3n), as the contract encodes them."""
        return self.encoding.expand(part[..., : self.size])

    def context(self, part: Tensor) -> Tensor:
        """What both networks see of the anchors' part (..., 3n): encoded anchors and rates (..., context_size)."""
        rate = part[..., self.size : 2 * self.size]
        return torch.cat([self.features(part), rate, *(torch.tanh(slope * rate) for slope in SOFT_SIGNS)], dim=-1)

    def prior_inputs(self, free: Tensor, part: Tensor, action: Tensor) -> Tensor:
        """Inputs of the prior's network: free coordinates, context, and the action (..., A), small ones enlarged."""
        return torch.cat([free, self.context(part), action, torch.tanh(ACTION_SLOPE * action)], dim=-1)

    def advance(self, part: Tensor, moves: Tensor) -> Tensor:
        """The part (..., 3n) one step later, given the prior network's moves (..., 2n): of rates, of anchors directly."""
        anchor, rate, known = part.chunk(3, dim=-1)
        of_rate, direct = moves.chunk(2, dim=-1)
        following = rate + of_rate
        anchor = anchor + self.step * (0.5 * (rate + following)) + SHIFT * self.step * direct
        return torch.cat([anchor, following, known], dim=-1)

    def posterior_inputs(self, free: Tensor, part: Tensor, embedding: Tensor, mask: Tensor) -> Tensor:
        """Inputs of the posterior's network; `embedding` ends with `measured`, mask is (..., M)."""
        anchor, rate, known = part.chunk(3, dim=-1)
        value, age = embedding[..., -2 * self.size :].chunk(2, dim=-1)
        seen = mask[..., self.modality]
        innovation = self.difference(value, anchor).clamp(-1.0, 1.0) * known * seen
        extra = [self.context(part), known, INNOVATION * innovation, INNOVATION * self.step * age * rate, age * seen]
        return torch.cat([free, *extra, embedding[..., : -2 * self.size], mask], dim=-1)

    def correct(self, part: Tensor, moves: Tensor, embedding: Tensor, mask: Tensor) -> Tensor:
        """The part (..., 3n) corrected by what was measured, given the posterior network's moves (..., 3n).

        The first measurement of an anchor is taken as it is.
        """
        anchor, rate, known = part.chunk(3, dim=-1)
        gain, direct, of_rate = moves.chunk(3, dim=-1)
        value, age = embedding[..., -2 * self.size :].chunk(2, dim=-1)
        seen = mask[..., self.modality]
        gain = torch.where(known > 0, torch.sigmoid(1.0 + gain), 1.0)
        innovation = self.difference(value + self.step * age * rate, anchor)
        anchor = anchor + seen * (gain * innovation + SHIFT * direct)
        return torch.cat([anchor, rate + seen * of_rate, torch.maximum(known, seen)], dim=-1)

    def at_stamps(self, parts: Tensor, age: Tensor) -> Tensor:
        """Anchors (T, N, n) of a rollout (T, N, 3n), moved from the instants to the stamps of measurements aged (T, N, M).

        A parabola through three instants, and the rate at both ends: a straight line is off by more than the tolerance when
        measurements are as rare as model steps and the robot is fast.
        """
        anchor, rate, _ = parts.chunk(3, dim=-1)
        back = age[..., self.modality]  # model steps
        before, here, after = anchor[:-2], anchor[1:-1], anchor[2:]
        slope, bend = 0.5 * (after - before), after - 2.0 * here + before
        middle = here - back[1:-1] * slope + 0.5 * back[1:-1].square() * bend
        first = anchor[:1] - back[:1] * self.step * rate[:1]
        last = anchor[-1:] - back[-1:] * self.step * rate[-1:]
        return torch.cat([first, middle, last])
