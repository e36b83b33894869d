"""Adam, gradient clipping and averages of the weights on one flat buffer: their cost does not grow with the number of layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.world_model import WorldModel

# Which modules learn together. Each of policy and probe has its own clip; encoder and dynamics share one.
GROUPS = {
    "encoder": ("encoder", "posterior_hidden", "posterior_head", "image_encoders", "frame_pairs"),
    "dynamics": (
        "recurrence",
        "decoder",
        "prior_hidden",
        "prior_head",
        "reward_head",
        "terminated_head",
        "value_heads",
    ),
    "policy": ("policy_head",),
    "probe": ("probe",),
}
CLIPPED = {"model": ("encoder", "dynamics"), "policy": ("policy",), "probe": ("probe",)}


WARM_UP = 200  # updates, where the rate decays
FLOOR = 0.01  # of the rate, after the decay
AVERAGED = 0.01  # of all updates so far: how far back the average of the weights reaches (Polyak averaging)


@dataclass(frozen=True)
class OptimiserConfig:
    """As TD-MPC2."""

    rate: float = 3e-4
    encoder_rate: float = 0.3  # of `rate`, for encoder and posterior
    clip: float = 20.0  # largest gradient norm
    target_rate: float = 0.01  # of the target heads' moving average
    decay: int = (
        0  # updates over which the rate falls to (nearly) zero along a cosine, after a short warm-up; 0: constant
    )


class Optimiser:
    """Makes every trainable parameter of the model (and its gradient) a view of one flat tensor, and updates that."""

    def __init__(self, model: WorldModel, config: OptimiserConfig) -> None:
        self.config = config
        modules = {name: [getattr(model, m, None) for m in GROUPS[name]] for name in GROUPS}
        members = {name: [p for m in group if m is not None for p in m.parameters()] for name, group in modules.items()}
        self.parameters = [p for group in members.values() for p in group]
        missed = {id(p) for p in model.parameters() if p.requires_grad} - {id(p) for p in self.parameters}
        if missed:
            raise AssertionError(f"{len(missed)} trainable parameters belong to no group of models/optimiser.py")
        self._flat = _flatten(self.parameters)
        self._average = self._flat.clone()
        self.gradient = torch.zeros_like(self._flat)
        spans, start = {}, 0
        for name, group in members.items():
            size = sum(p.numel() for p in group)
            spans[name] = slice(start, start + size)
            start += size
        self._assign_gradients()
        self._clipped = {
            name: self.gradient[spans[parts[0]].start : spans[parts[-1]].stop] for name, parts in CLIPPED.items()
        }
        values = list(model.value_heads.parameters())
        offset = spans["dynamics"].stop - sum(p.numel() for p in values)  # value_heads are the group's last
        self._values = self._flat[offset : spans["dynamics"].stop]
        self._target = _flatten(list(model.target_heads.parameters()))
        self._rates: dict[str, float] = {}  # before any decay, by group
        self._capturable = self._flat.is_cuda  # numbers that change are tensors there, so that a graph can be replayed
        self._share = torch.ones((), device=self._flat.device)  # of the newest weights in their average
        self._adam = torch.optim.Adam(self._adam_groups(spans), lr=config.rate, fused=True, capturable=self._capturable)

    def _adam_groups(self, spans: dict[str, slice]) -> list[dict[str, Any]]:
        groups = []
        for name, span in spans.items():
            leaf = nn.Parameter(self._flat[span])
            leaf.grad = self.gradient[span]
            rate = self.config.rate * (self.config.encoder_rate if name == "encoder" else 1.0)
            self._rates[name] = rate
            changing = torch.tensor(rate, device=self._flat.device) if self._capturable else rate
            groups.append({"params": [leaf], "name": name, "lr": changing, "eps": 1e-5 if name == "policy" else 1e-8})
        return groups

    def _assign_gradients(self) -> None:
        start = 0
        for parameter in self.parameters:
            parameter.grad = self.gradient[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def zero(self) -> None:
        """Forget the gradient; call before `backward`."""
        self.gradient.zero_()

    def schedule(self, update: int) -> None:
        """Set the rates of the update numbered `update`; call before `step`."""
        if self.config.decay:
            self.scale_rate(min(1.0, (update + 1) / WARM_UP) * falling(update / self.config.decay, FLOOR))
        self._share.fill_(1.0 / (1.0 + AVERAGED * update))

    def step(self) -> Tensor:
        """Clip, update, and move the target heads.

        Returns the gradient norms before clipping, one per clipped part.
        """
        norms = []
        for part in self._clipped.values():
            norm = torch.linalg.vector_norm(part)
            part.mul_((self.config.clip / (norm + 1e-6)).clamp(max=1.0))
            norms.append(norm)
        self._adam.step()
        self._target.lerp_(self._values, self.config.target_rate)
        self._average.lerp_(self._flat, self._share)
        return torch.stack(norms)

    def scale_rate(self, factor: float) -> None:
        """Learn at `factor` times the configured rates from now on."""
        for group in self._adam.param_groups:
            rate = factor * self._rates[group["name"]]
            if self._capturable:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the model has the running average of its weights: it wanders less than they do."""
        newest = self._flat.clone()
        self._flat.copy_(self._average)
        try:
            yield
        finally:
            self._flat.copy_(newest)

    def state_dict(self) -> dict[str, Any]:
        """The same on every device."""
        adam = self._adam.state_dict()
        groups = [group | {"lr": float(group["lr"]), "capturable": False} for group in adam["param_groups"]]
        return {"adam": adam | {"param_groups": groups}, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._capturable:
            device = self._flat.device
            groups = [
                group | {"lr": torch.tensor(group["lr"], device=device), "capturable": True}
                for group in state["adam"]["param_groups"]
            ]
            state = state | {"adam": state["adam"] | {"param_groups": groups}}
        self._adam.load_state_dict(state["adam"])
        self._average.copy_(state["average"])


def falling(fraction: float, floor: float) -> float:
    """From 1 to `floor` along half a cosine, as `fraction` goes from 0 to 1 (SGDR, arXiv 1608.03983)."""
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))


def _flatten(parameters: list[nn.Parameter]) -> Tensor:
    """Move the parameters into one contiguous tensor, of which they become views."""
    flat = torch.cat([p.detach().reshape(-1) for p in parameters])
    start = 0
    for parameter in parameters:
        parameter.data = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    return flat
