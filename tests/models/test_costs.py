"""Cost functions of the contract: loaded, weighed, built into a bundle, and refused where they do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.costs import ReadoutCost, cost_of, joint_limits
from models.export import export_bundle
from models.networks import Sizes
from models.world_model import WorldModel
from robot_wm.backend import Model
from robot_wm.bundle import PlannerDefaults, load_bundle
from robot_wm.contract import parse_contract
from robot_wm.errors import BundleError, ContractError

LIMITS = "models.costs:joint_limits"
BOUND = {"position": {"slider": [-1.0, 3.0]}}
SIZES = Sizes("tiny", latent=16, mlp=24, encoder=16, value_heads=2, encoder_layers=1)


def contract(functions=None, safety=BOUND):
    position = {"name": "position", "topic": "j", "field": "position", "names": ["hinge", "slider"]}
    action = {"names": ["slider"], "mode": "effort", "low": -4.0, "high": 4.0}
    data = {"name": "cart", "model_hz": 50, "observations": [position], "action": action, "safety": safety}
    return parse_contract(data | {"costs": {"functions": functions or {}}})


def at(*positions):
    return torch.tensor([[9.0, x] for x in positions]), torch.zeros(len(positions), 1)


def test_a_joint_costs_nothing_until_near_its_limit_and_one_at_it():
    cost = joint_limits(contract())
    assert cost(*at(0.0, -0.8, 2.8)).tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(cost(*at(3.0, -1.0, 2.9, 3.2)), torch.tensor([1.0, 1.0, 0.25, 4.0]))


def test_joint_limits_without_a_bounded_joint_are_refused():
    with pytest.raises(ContractError, match="joint_limits needs a joint in safety.position"):
        joint_limits(contract(safety={}))


def test_a_cost_that_cannot_be_loaded_names_its_field():
    model = WorldModel(contract(), SIZES)
    with pytest.raises(ContractError, match=r"costs\.functions: models\.costs has no function 'nothing'"):
        cost_of(model, contract({"models.costs:nothing": 1.0}))
    assert cost_of(model, contract()) is None


def test_terms_are_weighed_and_see_si_units():
    wanted = contract({LIMITS: 2.0})
    term = ReadoutCost(WorldModel(wanted, SIZES), wanted)
    seen = []
    term.terms = [(2.0, lambda observation, action: seen.append(action) or observation[:, 0] * 0.0 + 3.0)]
    assert term(term.model.initial_latent.expand(2, -1), torch.tensor([[0.5], [-1.0]])).tolist() == [6.0, 6.0]
    assert seen[0].flatten().tolist() == [2.0, -4.0]


def test_a_bundle_has_its_cost_functions_built_in_and_is_refused_by_a_contract_that_wants_others(tmp_path):
    torch.manual_seed(0)
    wanted, planner = contract({LIMITS: 5.0}), PlannerDefaults(samples=16, proposals=2, elites=4)
    model = WorldModel(wanted, SIZES).requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn(parameter.shape)
    model.probe[-1].bias += 20.0  # whatever it predicts is far beyond the limit
    values = {}
    for name, made_for in (("free", contract()), ("costly", wanted)):
        bundle = export_bundle(model, made_for, tmp_path / name, planner)
        inputs = {"latent": np.full((1, 16), 0.125), "mean": np.zeros((3, 1)), "std": np.ones((3, 1))}
        inputs |= {"noise": np.zeros((16, 3, 1)), "proposals": np.zeros((2, 3, 1)), "low": [-1], "high": [1]}
        inputs |= {
            "rate": [4],
            "previous": [0],
            "temperature": 0.5,
            "action_cost": [0],
            "change_cost": [0],
            "elites": 4,
        }
        values[name] = Model(bundle, "cpu").refine(**inputs, disagreement_cost=0.0).value
    assert values["costly"] < values["free"] - 5.0
    assert load_bundle(tmp_path / "costly", replace(wanted, name="robot")).contract.name == "robot"
    with pytest.raises(
        BundleError, match=r"built into a bundle at export: it has none, the contract wants .*joint_limits"
    ):
        load_bundle(tmp_path / "free", wanted)
