"""How noise is drawn and a proposal improved, rule by rule."""

import numpy as np
import pytest

from conftest import slider_contract
from robot_wm.backend import Refinement
from robot_wm.bundle import PlannerDefaults
from robot_wm.errors import RunError
from robot_wm.messages import Latent
from robot_wm.planner import Carry, Planner
from robot_wm.search import SEARCHES, PredictiveSampling, Search, search_named
from target_model import TargetModel

BUDGET = PlannerDefaults(std_min=0.1, std_max=2.0)
SHAPE = (3, 1)
OLD, NEW = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
RESULT = Refinement(mean=NEW, std=0.5 * NEW, best=0.7 * NEW, value=1.0, elite_value=0.5)
LATENT = Latent(0, np.zeros(2, np.float32), "target")
STEP = 20_000_000


class Recording(TargetModel):
    """Keeps the inputs and the best sample of every refinement."""

    def __init__(self):
        super().__init__(target=0.5)
        self.given, self.best = [], []

    def refine(self, **inputs):
        self.given.append({key: np.array(value) for key, value in inputs.items()})
        result = super().refine(**inputs)
        self.best.append(result.best)
        return result


def plan_with(search, carry=None, **arguments):
    model = Recording()
    planner = Planner(slider_contract(), model, seed=3, search=search)
    return model, *planner.plan(carry or Carry(), LATENT, STEP, **arguments)


@pytest.mark.parametrize("name", ["mppi", "cem", "sampling"])
def test_every_rule_that_refines_finds_the_best_action_and_says_who_it_is(name):
    _, _, plan = plan_with(search_named(name))
    np.testing.assert_allclose(plan.actions, 5.0, atol=0.6)
    assert (plan.stats.source, plan.stats.refinements) == (name, 6)


def test_the_policy_alone_never_refines_and_keeps_no_old_plan():
    carry = Carry(1, STEP, -NEW)
    model, _, plan = plan_with(search_named("policy"), carry)
    assert (plan.stats.source, plan.stats.refinements, model.given) == ("policy", 0, [])
    np.testing.assert_allclose(plan.actions, 5.0, rtol=1e-5)


def test_an_unknown_planner_is_refused_with_those_there_are():
    with pytest.raises(RunError, match="unknown planner 'ilqr'; there are mppi, cem, sampling, policy"):
        search_named("ilqr")
    assert list(SEARCHES) == ["mppi", "cem", "sampling", "policy"]


def test_in_cem_all_elites_count_alike_and_in_mppi_as_the_bundle_says():
    assert plan_with(search_named("cem"))[0].given[0]["temperature"] == 0.0
    assert plan_with(None)[0].given[0]["temperature"] == PlannerDefaults().temperature


def test_predictive_sampling_takes_the_best_of_samples_that_include_the_plan_itself():
    rule = PredictiveSampling()
    mean, std = rule.improve(OLD, rule.begin(SHAPE, BUDGET, 0.0), RESULT)
    assert np.array_equal(mean, RESULT.best) and (std == np.float32(0.3)).all()
    assert (rule.shape_noise(np.ones((4, *SHAPE), np.float32))[0] == 0).all()


def test_correlated_noise_is_still_standard_normal_at_every_step():
    noise = np.random.default_rng(0).standard_normal((200_000, *SHAPE)).astype(np.float32)
    shaped = Search(correlation=0.8).shape_noise(noise.copy())[..., 0]
    np.testing.assert_allclose(shaped.std(0), 1.0, atol=0.01)
    correlation = np.corrcoef(shaped.T)
    assert correlation[0, 1] == pytest.approx(0.8, abs=0.01)
    assert correlation[0, 2] == pytest.approx(0.64, abs=0.01)
    assert np.array_equal(Search().shape_noise(noise), noise)


def test_momentum_keeps_a_part_of_the_old_mean():
    mean, std = Search(momentum=0.25).improve(OLD, OLD, RESULT)
    assert (mean == 0.75).all() and (std == 0.5).all()


def test_a_plan_with_momentum_obeys_rate_and_jerk():
    contract = slider_contract(action=slider_contract().to_dict()["action"] | {"rate": [20.0], "jerk": [500.0]})
    planner = Planner(contract, TargetModel(target=1.0), search=Search(momentum=0.5))
    _, plan = planner.plan(Carry(0, 0, np.full(SHAPE, -1.0, np.float32)), LATENT, STEP, np.zeros((2, 1)))
    changes = np.diff([0.0, 0.0, *plan.actions[:, 0]])
    assert np.abs(changes).max() <= 20.0 / contract.model_hz + 1e-4
    assert np.abs(np.diff(changes)).max() <= 500.0 / contract.model_hz**2 + 1e-4


def test_a_kept_spread_begins_where_the_last_plan_ended_within_bounds():
    rule = Search(keep_spread=1.5, around_policy=0.0)
    assert (rule.begin(SHAPE, BUDGET, 0.4) == np.float32(0.6)).all()
    assert (rule.begin(SHAPE, BUDGET, 0.01) == np.float32(0.1)).all()
    assert (rule.begin(SHAPE, BUDGET, 0.0) == 2.0).all() and (Search().begin(SHAPE, BUDGET, 0.4) == 0.5).all()
    _, carry, plan = plan_with(rule)
    assert carry.spread == plan.stats.spread > 0
    assert plan_with(rule, carry, refinements=0)[1].spread == carry.spread


def test_the_best_sample_so_far_competes_again():
    model, *_ = plan_with(Search(keep_best=True), refinements=2)
    first, second = (given["proposals"] for given in model.given)
    assert np.array_equal(second[:-1], first[:-1])
    assert np.array_equal(second[-1], model.best[0])


def test_the_contract_s_costs_reach_the_graph():
    contract = slider_contract(costs={"action": 0.5, "disagreement": 2.0})
    model = Recording()
    Planner(contract, model).plan(Carry(), LATENT, STEP, refinements=1)
    given = model.given[0]
    assert (given["action_cost"], given["change_cost"], given["disagreement_cost"]) == (0.5, 0.0, 2.0)
