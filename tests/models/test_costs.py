"""Cost functions of the contract: loaded, weighed, built into the refinement graph."""

import pytest
import torch

from models.costs import ReadoutCost, cost_of, joint_limits
from models.graphs import SIGNATURES, evaluate
from models.networks import Sizes
from models.parity import Draw
from models.planner_graph import Refine
from models.world_model import WorldModel
from robot_wm.bundle import PlannerDefaults
from robot_wm.contract import parse_contract
from robot_wm.errors import ContractError

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


def test_a_plan_that_leads_beyond_a_limit_is_worth_less():
    torch.manual_seed(0)
    wanted, planner = contract({LIMITS: 5.0}), PlannerDefaults(samples=16, proposals=2, elites=4)
    model = WorldModel(wanted, SIZES).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn(parameter.shape)
    model.probe[-1].bias += 20.0  # whatever it predicts is far beyond the limit
    inputs = Draw(model, wanted, planner, seed=0).inputs("refine")
    values = [
        evaluate(SIGNATURES["refine"], Refine(model, planner, 0.99, cost=cost_of(model, c)), inputs)["value"]
        for c in (contract(), wanted)
    ]
    assert values[1] < values[0] - 5.0
