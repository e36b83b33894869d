"""The families of world models: the same verbs, so the same trainer, export, filter and planner."""

from __future__ import annotations

from models.networks import Sizes
from models.rssm import CategoricalRssm, GaussianRssm
from models.world_model import WorldModel
from robot_wm.contract import Contract
from robot_wm.errors import ContractError

DEFAULT = WorldModel.family
FAMILIES: dict[str, type[WorldModel]] = {kind.family: kind for kind in (WorldModel, GaussianRssm, CategoricalRssm)}


def make_model(contract: Contract, size: str | Sizes, family: str = DEFAULT) -> WorldModel:
    """A new model of a family. Raises ContractError for an unknown family or size."""
    if family not in FAMILIES:
        raise ContractError(f"unknown model family {family!r}; known are {', '.join(FAMILIES)}")
    return FAMILIES[family](contract, size)
