"""A recorded run gives the same plans again, and what cannot be made again is named."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bag_tools import record
from conftest import slider_contract
from linear_model import LinearModel
from robot_wm.backend import Refinement
from robot_wm.bags.types import Info
from robot_wm.bundle import PlannerDefaults
from robot_wm.errors import ContractError
from robot_wm.info import CorrectionInfo
from robot_wm.messages import Applied, Latent
from robot_wm.planner import Planner
from robot_wm.replanner import Replanner
from robot_wm.replay_plans import innovation_over_time, replay_plans
from robot_wm.timebase import NS_PER_S, VirtualClock

STEP = NS_PER_S // 50
FIRST = 5_000 * 50  # instant of the first plan


class PlanningModel(LinearModel):
    """Every input of a refinement changes its answer."""

    def __init__(self, bundle_id, contract):
        super().__init__(bundle_id)
        self.budget = PlannerDefaults(horizon=4, samples=8, proposals=3)
        self.bundle = SimpleNamespace(contract=contract)

    def with_samples(self, samples):
        assert samples == self.budget.samples
        return self

    def propose(self, latent, noise):
        return np.tanh(noise + latent.sum()).astype(np.float32)

    def refine(self, *, latent, mean, std, noise, proposals, previous, **_):
        pull = noise.mean(0) + 0.3 * proposals.mean(0) + 0.1 * latent.sum() + 0.2 * previous[1] + 0.1 * previous[0]
        return Refinement(np.tanh(0.5 * mean + pull).astype(np.float32), 0.5 * std, mean, 1.0, 1.0)


@pytest.fixture
def models(contract):
    return {name: PlanningModel(name, contract) for name in ("first", "second")}


def drive(contract, models, steps=12, restart_at=(), swap_at=None):
    """What posterior and planner nodes publish over some steps, as (topic, message)."""
    rng = np.random.default_rng(3)
    planners = [Planner(contract, model, seed=7) for model in models.values()]
    clock = VirtualClock()
    replanner = Replanner(contract, planners[0], clock)
    replanner.add(planners[1])
    said = []
    for n in range(steps):
        now = (FIRST + n) * STEP
        clock.sleep_until(now)
        if n in restart_at:
            replanner.restart()
        bundle = "second" if swap_at is not None and n >= swap_at else "first"
        latent = Latent(now, rng.standard_normal(2).astype(np.float32), bundle)
        replanner.latent(latent)
        plan, info = replanner.plan(now + (1 + n % 2) * STEP, None, refinements=n % 3)
        replanner.applied(Applied(now, rng.uniform(-10, 10, 1), f"plan:{plan.index}"))
        said += [("latent", latent), ("plan", plan), ("plan_info", Info(plan.start, info))]
    return said


def test_every_plan_of_a_run_is_made_again_to_the_last_bit(tmp_path, contract, models):
    bag = record(tmp_path / "bag", drive(contract, models, restart_at=(5,)), contract)

    figures = replay_plans([bag], models)

    assert figures["plans"] == figures["reproduced"] == figures["identical"] == 12
    assert (figures["max_difference"], figures["max_difference_normalised"]) == (0.0, 0.0)
    assert figures["unit"] == "N" and figures["not_reproduced"] == {}


def test_nodes_whose_clock_offsets_differ_by_microseconds_do_not_matter(tmp_path, contract, models):
    said = [
        (topic, replace(message, stamp=message.stamp + 3_000) if topic == "latent" else message)
        for topic, message in drive(contract, models)
    ]

    assert replay_plans([record(tmp_path / "bag", said, contract)], models)["identical"] == 12


def test_plans_of_several_bundles_need_every_one_of_them(tmp_path, contract, models):
    bag = record(tmp_path / "bag", drive(contract, models, swap_at=7), contract)

    assert replay_plans([bag], models)["identical"] == 12
    alone = replay_plans([bag], {"first": models["first"]})
    assert (alone["plans"], alone["identical"]) == (12, 7)
    assert alone["not_reproduced"] == {"bundle second was not given": 5}


def test_a_recording_that_began_late_lacks_one_warm_start_and_no_more(tmp_path, contract, models):
    bag = record(tmp_path / "bag", drive(contract, models)[9:], contract)

    figures = replay_plans([bag], models)

    assert (figures["plans"], figures["identical"]) == (9, 8)
    assert figures["not_reproduced"] == {"the plan before it, its warm start, was not recorded": 1}


@pytest.mark.parametrize(
    ("lost", "reason", "others"),
    [
        ("latent", "its latent was not recorded", 0),
        ("plan_info", "its plan_info was not recorded", 0),
        ("plan", "only its plan_info was recorded", 1),  # and the plan after it has no warm start
    ],
)
def test_a_message_that_was_lost_is_named(tmp_path, contract, models, lost, reason, others):
    said = drive(contract, models)
    del said[next(i for i, (topic, _) in enumerate(said) if topic == lost and i >= 15)]

    figures = replay_plans([record(tmp_path / "bag", said, contract)], models)

    assert figures["plans"] == 12 and figures["identical"] == 11 - others
    assert figures["not_reproduced"][reason] == 1 and sum(figures["not_reproduced"].values()) == 1 + others


def test_a_plan_that_differs_is_counted_and_measured(tmp_path, contract, models):
    said = drive(contract, models)
    last = said[-2][1]
    said[-2] = ("plan", replace(last, actions=last.actions + 0.5))

    figures = replay_plans([record(tmp_path / "bag", said, contract)], models)

    assert figures["reproduced"] == 11
    assert figures["max_difference"] == pytest.approx(0.5) and figures["max_difference_normalised"] == pytest.approx(
        0.05
    )
    assert figures["not_reproduced"] == {"differs by more than 1e-05 of half the action range": 1}


def test_a_plan_of_an_older_release_that_tells_one_action_before_it_is_named(tmp_path, contract, models):
    said = drive(contract, models)
    old = said[-1][1]
    said[-1] = ("plan_info", replace(old, info=replace(old.info, previous=old.info.previous[1])))

    figures = replay_plans([record(tmp_path / "bag", said, contract)], models)

    assert figures["identical"] == 11
    assert figures["not_reproduced"] == {"its plan_info tells one action before the start, not two": 1}


def test_of_two_latents_at_one_instant_the_one_that_fits_is_found(tmp_path, contract, models):
    said = drive(contract, models)
    latent = said[12][1]
    said.insert(13, ("latent", replace(latent, values=latent.values + 1.0)))

    assert replay_plans([record(tmp_path / "bag", said, contract)], models)["identical"] == 12


def test_a_bag_without_plans_has_none_and_another_contract_is_refused(tmp_path, contract, models):
    said = drive(contract, models, steps=1)

    assert replay_plans([record(tmp_path / "bag", said[:1], contract)], models)["plans"] == 0
    other = record(tmp_path / "other", said, slider_contract(model_hz=25))
    with pytest.raises(ContractError, match="model_hz"):
        replay_plans([other], models)


def test_innovation_is_told_second_by_second(tmp_path, contract):
    def info(innovation):
        return CorrectionInfo("first", innovation, 1, 0.0, 0.0, {})

    moments = [(0.0, 3.0), (0.5, 4.0), (2.5, 1.0)]
    said = [("correction_info", Info(NS_PER_S + round(at * NS_PER_S), info(size))) for at, size in moments]

    (row,) = innovation_over_time([record(tmp_path / "bag", said, contract)])

    assert row["innovation"] == [pytest.approx(12.5**0.5), None, 1.0]
    assert row["late_steps"] == 3
