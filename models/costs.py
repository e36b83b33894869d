"""Cost functions of a contract (`costs.functions`) on the predicted readout, built into the `refine` graph at export.

Each is a function of the contract that returns a function of observation (N, O) and action (N, A), both in SI units, to a cost
(N,) per step, made of torch operators that export to ONNX. The observation is the one at the step's end.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.world_model import WorldModel
from robot_wm.contract import Contract
from robot_wm.errors import ContractError
from robot_wm.functions import load_function

CostFunction = Callable[[Tensor, Tensor], Tensor]
MARGIN = 0.05  # of a joint's range, at either end, within which `joint_limits` rises from 0 to 1


class ReadoutCost(nn.Module):
    """Weighted sum of a contract's cost functions."""

    def __init__(self, model: WorldModel, contract: Contract) -> None:
        super().__init__()
        self.model = model
        self.low, self.high = torch.tensor(contract.action.low), torch.tensor(contract.action.high)
        self.terms: list[tuple[float, CostFunction]] = [
            (weight, load_function(name, "costs.functions")(contract))
            for name, weight in contract.costs.functions.items()
        ]

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """latent (N, L) at the end of a step and its action (N, A), normalised → cost (N,)."""
        observation = self.model.readout(latent)
        command = self.low + 0.5 * (action + 1.0) * (self.high - self.low)
        costs = [weight * term(observation, command) for weight, term in self.terms]
        return torch.stack(costs).sum(0)


def cost_of(model: WorldModel, contract: Contract) -> ReadoutCost | None:
    """The contract's cost functions, or None. Raises ContractError where one cannot be loaded."""
    return ReadoutCost(model, contract) if contract.costs.functions else None


def joint_limits(contract: Contract) -> CostFunction:
    """A barrier at `safety.position`: per joint, the square of how far it is into the last `MARGIN` of its range, 1 at the end.

    Raises:
        ContractError: no observation of a position has a joint with such a bound.
    """
    columns, lows, highs = [], [], []
    for item, place in zip(contract.observations, contract.slices().values(), strict=True):
        for column, joint in enumerate(item.names, place.start):
            if item.field == "position" and joint in contract.safety.position:
                low, high = contract.safety.position[joint]
                columns.append(column)
                lows.append(low)
                highs.append(high)
    if not columns:
        raise ContractError("costs.functions: joint_limits needs a joint in safety.position whose position is observed")
    low, high = torch.tensor(lows), torch.tensor(highs)
    width = MARGIN * (high - low)

    def cost(observation: Tensor, action: Tensor) -> Tensor:
        position = observation[:, columns]
        inside = torch.maximum(low + width - position, position - (high - width))
        return (inside.clamp(min=0.0) / width).square().sum(1)

    return cost
