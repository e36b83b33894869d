"""Replanning: from which latent, through which actions, for which moment, and with whose model."""

import numpy as np
import pytest

from conftest import slider_contract
from robot_wm.errors import ContractError
from robot_wm.messages import Applied, Latent
from robot_wm.planner import Planner
from robot_wm.replanner import NoLatent, NoTrust, Replanner, require_reach
from robot_wm.timebase import VirtualClock
from robot_wm.trust_ladder import Answers, Rung, Standing
from target_model import TargetModel

STEP = 20_000_000


class CountingModel(TargetModel):
    """A latent that counts steps and adds up the actions it was rolled through."""

    def prior(self, latent, action):
        return (latent + np.array([[1.0, action[0, 0]]])).astype(np.float32)


@pytest.fixture
def clock():
    return VirtualClock(100 * STEP)


def planner(contract, clock, bundle_id="target"):
    return Planner(contract, CountingModel(clock=clock, bundle_id=bundle_id), clock=clock)


@pytest.fixture
def replanner(contract, clock):
    return Replanner(contract, planner(contract, clock), clock)


def latent(k, bundle_id="target"):
    return Latent(k * STEP, np.zeros(2, np.float32), bundle_id)


def test_it_plans_from_the_latent_rolled_through_what_was_applied(replanner):
    replanner.latent(latent(100))
    replanner.applied(Applied(99 * STEP, np.array([5.0]), "command"))
    plan, info = replanner.plan(103 * STEP, None)
    assert (plan.start, info.latent_steps, info.latent_age_s) == (103 * STEP, 3, 0.06)
    assert np.array(info.actions).tolist() == [[0.5], [0.5], [0.5]]
    assert np.array(info.previous) == pytest.approx(np.array([[5.0], [5.0]]))


def test_a_plan_continues_the_two_actions_before_it_or_rest(replanner):
    replanner.latent(latent(100))
    assert np.array(replanner.plan(101 * STEP, None)[1].previous).tolist() == [[0.0], [0.0]]
    replanner.applied(Applied(100 * STEP, np.array([2.0]), "command"))
    replanner.applied(Applied(101 * STEP, np.array([4.0]), "command"))
    replanner.applied(Applied(101 * STEP + STEP // 2, np.array([5.0]), "command"))  # the end of the step counts
    assert np.array(replanner.plan(102 * STEP, None)[1].previous) == pytest.approx(np.array([[2.0], [5.0]]))


def test_the_plan_being_played_is_what_happens_until_the_next_one_starts(replanner):
    replanner.latent(latent(100))
    first, _ = replanner.plan(101 * STEP, None)
    replanner.applied(Applied(101 * STEP, first.actions[0], f"plan:{first.index}"))
    replanner.latent(latent(101))
    _, info = replanner.plan(103 * STEP, None)
    assert np.allclose(np.array(info.actions)[:, 0] * 10.0, first.actions[:2, 0], atol=1e-5)
    assert np.array(info.previous) == pytest.approx(first.actions[:2])


def test_plans_that_are_made_but_not_yet_sent_are_part_of_the_prediction(replanner):
    """Planning takes three steps here, so that three plans lie between the latent and the start of the next one."""
    plans = []
    for k in range(100, 104):
        replanner.latent(latent(k))
        replanner.applied(Applied(k * STEP, np.zeros(1), "plan:0"))
        plan, info = replanner.plan((k + 3) * STEP, None)
        plans.append(plan)
    assert np.allclose(np.array(info.actions)[1:, 0], [p.actions[0, 0] / 10.0 for p in plans[1:3]], atol=1e-6)
    assert np.array(info.previous) == pytest.approx(np.array([p.actions[0] for p in plans[1:3]]))
    assert info.latent_steps == 3


def test_a_command_that_takes_effect_late_is_sent_and_planned_that_much_earlier(clock):
    action = slider_contract().to_dict()["action"] | {"delay_s": 0.05}
    contract = slider_contract(action=action)
    late = Replanner(contract, planner(contract, clock), clock)
    assert late.next_start(100 * STEP, 14_000_000) == 104 * STEP  # 0.014 s of planning and 0.05 s of delay
    assert late.sent(104 * STEP) == 104 * STEP - 50_000_000
    late.latent(latent(101))
    assert late.fresh(104 * STEP)
    assert not late.fresh(105 * STEP)
    _, info = late.plan(104 * STEP, None)
    assert info.slack_s == pytest.approx(0.03)


def test_plans_that_would_end_before_the_next_one_starts_are_refused_at_start_up(contract):
    require_reach(contract, 3, 3 * STEP, STEP)
    with pytest.raises(ContractError, match=r"a plan of 3 steps is good for 0\.06 s, .* after 0\.08 s"):
        require_reach(contract, 3, 4 * STEP, STEP)
    with pytest.raises(ContractError, match=r"a plan of 20 steps is good for 0\.1 s, .* after 0\.12 s"):
        require_reach(contract, 20, 6 * STEP, STEP)


def test_the_age_of_a_latent_counts_up_to_the_moment_of_sending(clock):
    action = slider_contract().to_dict()["action"] | {"delay_s": 0.3}
    contract = slider_contract(action=action)
    late = Replanner(contract, planner(contract, clock), clock)
    late.latent(latent(100))
    assert late.plan(116 * STEP, None)[1].latent_steps == 16


@pytest.mark.parametrize(("source", "driven"), [("hold", True), ("disarmed", False)])
def test_a_plan_that_the_motors_do_not_play_commits_nothing(replanner, source, driven):
    replanner.latent(latent(100))
    replanner.plan(101 * STEP, None)
    replanner.applied(Applied(101 * STEP, np.array([0.0]), source, driven))
    replanner.latent(latent(101))
    _, info = replanner.plan(103 * STEP, None)
    assert np.allclose(info.actions, 0.0)


def test_without_a_latent_young_enough_it_says_so_and_makes_no_plan(replanner):
    with pytest.raises(NoLatent, match="no latent yet"):
        replanner.plan(101 * STEP, None)
    replanner.latent(latent(100))
    with pytest.raises(NoLatent, match=r"no latent for 0\.22 s"):
        replanner.plan(111 * STEP, None)
    replanner.latent(latent(110, "other"))
    with pytest.raises(NoLatent, match="of bundle other, loaded is target"):
        replanner.plan(111 * STEP, None)


def test_the_first_latent_of_another_bundle_switches_and_no_plan_mixes_two(contract, clock, replanner):
    replanner.latent(latent(100))
    replanner.add(planner(contract, clock, "second"))
    replanner.add(planner(contract, clock, "third"))
    assert replanner.plan(101 * STEP, None)[0].bundle_id == "target"
    replanner.latent(latent(101, "second"))
    plan, info = replanner.plan(102 * STEP, None)
    assert (plan.bundle_id, info.bundle_id, plan.index) == ("second", "second", 1)
    assert not info.reset  # the warm start survives
    assert set(replanner.planners) == {"target", "second"}  # the one before is kept for rollback
    replanner.latent(latent(102, "target"))
    assert replanner.plan(103 * STEP, None)[0].bundle_id == "target"


def test_an_older_latent_changes_nothing_and_a_restart_forgets(replanner):
    replanner.latent(latent(101))
    replanner.latent(latent(100))
    assert replanner.plan(102 * STEP, None)[1].latent_steps == 1
    replanner.restart()
    with pytest.raises(NoLatent):
        replanner.plan(103 * STEP, None)
    replanner.latent(latent(103))
    assert replanner.plan(104 * STEP, None)[1].reset


def test_starts_lie_on_the_grid_leave_the_budget_and_never_repeat(replanner):
    assert replanner.next_start(100 * STEP + 1, 14_000_000) == 101 * STEP
    assert replanner.next_start(100 * STEP + 7_000_000, 14_000_000) == 102 * STEP
    replanner.latent(latent(100))
    assert replanner.fresh(101 * STEP)
    assert not replanner.fresh(102 * STEP)
    replanner.plan(101 * STEP, None)
    assert replanner.next_start(100 * STEP, 0) == 102 * STEP


def test_trust_shortens_the_search_then_leaves_it_to_the_policy_then_ends_planning(contract, clock):
    replanner = Replanner(contract, planner(contract, clock), clock, answers=Answers(doubt=2.0, horizon=0.5))
    replanner.latent(latent(100))
    found = {}
    for i, rung in enumerate(Rung):
        replanner.trust(Standing(rung, "velocity 3.0"))
        if rung is Rung.HOLD:
            with pytest.raises(NoTrust, match=r"no trust in the model: velocity 3\.0"):
                replanner.plan((101 + i) * STEP, None)
        else:
            plan, info = replanner.plan((101 + i) * STEP, None)
            found[info.trust] = (info.searched, info.doubt, plan.stats.source)
    assert found == {
        "normal": (-1, 0.0, "mppi"),
        "cautious": (1, 2.0, "mppi"),
        "policy": (0, 2.0, "policy"),
    }
    replanner.trust(Standing())
    assert replanner.plan(110 * STEP, None)[0].stats.source == "mppi"
