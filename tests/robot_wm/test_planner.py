"""The planner is on time, bounded, deterministic, and always has an answer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bound_checks import SEEDS, random_start, require_bounded
from conftest import slider_contract
from robot_wm.actions import denormalise, normalise
from robot_wm.bounds import Bounds
from robot_wm.errors import BundleError
from robot_wm.messages import Latent
from robot_wm.planner import Carry, Planner
from robot_wm.search import Search
from robot_wm.timebase import VirtualClock
from target_model import BUDGET, TargetModel

MS = 1_000_000
STEP = 20 * MS
LATENT = Latent(0, np.zeros(2, np.float32), "target")


def planner_with(contract=None, seed=0, **model):
    clock = VirtualClock()
    return Planner(contract or slider_contract(), TargetModel(clock=clock, **model), seed, clock), clock


def with_action(**changes):
    action = slider_contract().to_dict()["action"] | changes
    return slider_contract(action=action)


def test_it_finds_the_best_action_and_answers_in_si_units():
    planner, _ = planner_with(target=0.5)
    _, plan = planner.plan(Carry(), LATENT, STEP)
    assert plan.actions.shape == (3, 1)
    np.testing.assert_allclose(plan.actions, 5.0, atol=0.5)
    assert (plan.stats.source, plan.stats.refinements, plan.start, plan.step) == ("mppi", 6, STEP, STEP)


def test_the_same_seed_and_index_give_the_same_plan_and_others_do_not():
    plans = [planner_with(seed=s)[0].plan(Carry(index=i), LATENT, STEP, refinements=1)[1] for s, i in
             ((1, 7), (1, 7), (1, 8), (2, 7))]  # fmt: skip
    assert np.array_equal(plans[0].actions, plans[1].actions)
    assert not np.array_equal(plans[0].actions, plans[2].actions)
    assert not np.array_equal(plans[0].actions, plans[3].actions)


def test_it_refines_only_while_one_more_is_expected_to_end_before_the_deadline():
    planner, clock = planner_with(cost=3 * MS)
    carry, first = planner.plan(Carry(), LATENT, STEP, deadline=10 * MS)
    assert first.stats.refinements == 3 and clock.now() == 9 * MS
    carry, second = planner.plan(carry, LATENT, 2 * STEP, deadline=clock.now() + 8 * MS)
    assert second.stats.refinements == 2


def test_when_none_fits_it_falls_back_to_the_shifted_plan_then_to_the_policy():
    planner, clock = planner_with(target=0.5, cost=3 * MS)
    carry, good = planner.plan(Carry(), LATENT, STEP)
    carry, shifted = planner.plan(carry, LATENT, 2 * STEP, deadline=clock.now() + MS)
    assert shifted.stats.source == "shifted" and shifted.stats.refinements == 0
    np.testing.assert_allclose(shifted.actions[:2], good.actions[1:], rtol=1e-5)
    _, policy = planner.plan(carry, LATENT, 9 * STEP, deadline=clock.now() + MS)
    assert policy.stats.source == "policy"
    np.testing.assert_allclose(policy.actions, 5.0, rtol=1e-5)


def test_one_slow_moment_does_not_end_refining_for_good():
    planner, clock = planner_with(cost=50 * MS)
    carry, _ = planner.plan(Carry(), LATENT, STEP, refinements=1)
    planner.model.cost = MS
    sources = []
    for k in range(2, 60):
        carry, plan = planner.plan(carry, LATENT, k * STEP, deadline=clock.now() + 10 * MS)
        sources.append(plan.stats.source)
    assert sources[0] != "mppi" and sources[-1] == "mppi"


def test_a_rare_slow_refinement_costs_no_plan_its_first_one_but_makes_the_others_careful():
    planner, clock = planner_with(cost=3 * MS)
    carry = Carry(costs=(0.003,) * 12 + (0.009,) * 3)
    _, plan = planner.plan(carry, LATENT, STEP, deadline=clock.now() + 8 * MS)
    assert (plan.stats.source, plan.stats.refinements) == ("mppi", 1)


@pytest.mark.parametrize("elapsed", [0, 1, 2])
def test_the_warm_start_is_shifted_by_elapsed_time(elapsed):
    planner, _ = planner_with()
    mean = np.array([[0.1], [0.2], [0.3]], np.float32)
    shifted, source = planner._warm_start(Carry(1, STEP, mean), STEP * (1 + elapsed))
    np.testing.assert_allclose(shifted[:, 0], [*mean[elapsed:, 0], *[0.0] * elapsed])
    assert source == "shifted"


@settings(max_examples=80, deadline=None)
@given(
    SEEDS,
    st.floats(-1, 1),
    st.floats(5.0, 2000.0),
    st.floats(50.0, 100_000.0),
    st.tuples(st.floats(-10, -1), st.floats(1, 10)),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2),
)
def test_no_plan_exceeds_a_limit_a_rate_or_a_jerk(seed, target, rate, jerk, limits, feasible, explore, refinements):
    contract = with_action(rate=[rate], jerk=[jerk], limit_low=[limits[0]], limit_high=[limits[1]])
    planner, _ = planner_with(contract, seed, target=target)
    bounds = Bounds.of(contract)
    before = random_start(np.random.default_rng(seed), bounds, feasible)
    _, plan = planner.plan(
        Carry(), LATENT, STEP, denormalise(contract, before), refinements=refinements, explore=explore
    )
    rows = normalise(contract, plan.actions).astype(np.float32)
    require_bounded(rows[None], before, bounds, feasible)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(5.0, 2000.0), st.floats(50.0, 100_000.0))
def test_a_run_of_plans_of_which_each_plays_some_rows_obeys_every_bound(seed, rate, jerk):
    rng = np.random.default_rng(seed)
    contract = with_action(rate=[rate], jerk=[jerk])
    planner, _ = planner_with(contract, seed)
    carry, start, played = Carry(), STEP, np.zeros((2, 1))
    for _ in range(12):
        planner.model.target = rng.uniform(-1, 1)
        carry, plan = planner.plan(carry, LATENT, start, played[-2:], refinements=int(rng.integers(0, 3)))
        rows = int(rng.integers(1, 4))
        played, start = np.vstack([played, plan.actions[:rows]]), start + rows * STEP
    assert np.abs(played).max() <= 10.0
    assert np.abs(np.diff(played[:, 0])).max() <= rate / contract.model_hz + 1e-4
    assert np.abs(np.diff(played[:, 0], n=2)).max() <= jerk / contract.model_hz**2 + 1e-4


def test_no_plan_mixes_two_bundles():
    planner, _ = planner_with()
    with pytest.raises(BundleError, match="latent of bundle other"):
        planner.plan(Carry(), Latent(0, np.zeros(2, np.float32), "other"), STEP)


def test_on_a_slow_machine_it_takes_fewer_samples_until_two_refinements_fit():
    planner, _ = planner_with(cost=8 * MS)
    assert planner.fitted(0.016) is planner
    fitted = planner.fitted(0.010)
    assert (fitted.budget.samples, fitted.model.cost) == (32, 4 * MS)
    assert planner.fitted(0.001).budget.samples == 32
    _, plan = fitted.plan(Carry(), LATENT, STEP)
    assert plan.stats.samples == 32


def test_warming_up_measures_a_refinement():
    planner, _ = planner_with(cost=2 * MS)
    assert planner.warm_up() == pytest.approx(0.002)
    assert planner.model.calls == 10 and BUDGET.refinements == 6


class TwoMinds(TargetModel):
    """A policy that wants -0.8 where refining finds the target; keeps the weight of the disagreement."""

    def propose(self, latent, noise):
        return np.full_like(noise, -0.8)

    def refine(self, disagreement_cost, **inputs):
        self.weight = float(disagreement_cost)
        self.spread = inputs["std"]
        return super().refine(**inputs)


def test_a_plan_begins_around_the_policy_and_one_that_explores_around_the_last_plan():
    class Asked(TwoMinds):
        def refine(self, mean, std, **inputs):
            self.begins = getattr(self, "begins", (mean.copy(), std.copy()))
            return super().refine(mean=mean, std=std, **inputs)

    last = Carry(1, 0, np.full((3, 1), 0.4, np.float32))
    for explore, first_mean, first_std in ((False, -0.8, 0.5), (True, 0.4, BUDGET.std_max)):
        model = Asked()
        Planner(slider_contract(), model).plan(last, LATENT, 0, explore=explore)
        mean, std = model.begins
        np.testing.assert_allclose(mean, first_mean, atol=1e-6)
        np.testing.assert_allclose(std, first_std, atol=1e-6)


# What falling trust asks of a plan


def doubting(contract=None):
    clock = VirtualClock()
    model = TwoMinds(clock=clock)
    return Planner(contract or slider_contract(), model, 0, clock, Search(around_policy=0.0)), model


@pytest.mark.parametrize("searched", [1, 2])
def test_behind_the_part_that_is_searched_a_plan_is_the_policy_priors(searched):
    planner, model = doubting()
    _, plan = planner.plan(Carry(), LATENT, STEP, searched=searched)
    np.testing.assert_allclose(plan.actions[:searched], 5.0, atol=0.5)
    np.testing.assert_allclose(plan.actions[searched:], -8.0, atol=1e-5)
    assert not model.spread[searched:].any() and (model.spread[:searched] > 0).all()
    assert plan.stats.refinements == 6


def test_with_nothing_to_search_the_policy_prior_plays_alone_whatever_was_planned_before():
    planner, _ = doubting()
    carry, _ = planner.plan(Carry(), LATENT, 0)
    _, plan = planner.plan(carry, LATENT, STEP, searched=0)
    np.testing.assert_allclose(plan.actions, -8.0, atol=1e-5)
    assert (plan.stats.source, plan.stats.refinements) == ("policy", 0)


def test_a_shortened_plan_keeps_the_bounds_where_search_and_policy_meet():
    contract = with_action(rate=[100.0])
    _, plan = doubting(contract)[0].plan(Carry(), LATENT, STEP, searched=1)
    assert np.abs(np.diff(plan.actions[:, 0])).max() <= 100.0 * 0.02 + 1e-4


def test_doubt_weighs_the_disagreement_on_top_of_what_the_contract_says():
    planner, model = doubting(slider_contract(costs={"disagreement": 0.5}))
    planner.plan(Carry(), LATENT, STEP)
    assert model.weight == 0.5
    planner.plan(Carry(), LATENT, STEP, doubt=1.0)
    assert model.weight == 1.5
