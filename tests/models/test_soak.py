"""A short soak (the long one is `robot-wm bench soak`), and that it would notice."""

from dataclasses import replace

import numpy as np
import pytest

from models.soak import check, random_contract, soak
from robot_wm.errors import RunError
from robot_wm.messages import Plan


def test_random_robots_plan_within_bounds_whatever_happens():
    figures = soak(300, seed=54, robots=1)
    assert sum(figures["sources"].values()) == figures["plans"] == 300
    assert {"mppi", "shifted", "policy"} <= set(figures["sources"])
    assert figures["sources"].get("none: no latent", 0) < 0.05 * figures["plans"]
    assert figures["resident_mib_largest"] > 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(np.nan, "is not finite"), (1e3, "breaks a limit"), (0.5, "breaks a rate"), (0.009, "breaks a jerk")],
)
def test_a_plan_out_of_bounds_is_named(spoil, message):
    contract = random_contract(np.random.default_rng(0))
    high, hz = np.array(contract.action.limit_high), contract.model_hz
    bounds = {"rate": tuple(0.01 * high * hz), "jerk": tuple(0.001 * high * hz**2)}
    contract = replace(contract, action=replace(contract.action, **bounds))
    plan = Plan(7, 0, 10, np.zeros((3, contract.action.size)), "b")
    check(plan, np.zeros((2, contract.action.size)), contract)
    plan.actions[1] = spoil * high
    with pytest.raises(RunError, match=f"plan 7 .* {message}"):
        check(plan, np.zeros((2, contract.action.size)), contract)


def test_a_first_step_that_has_to_brake_harder_than_the_jerk_breaks_nothing():
    contract = random_contract(np.random.default_rng(0))
    high, hz = np.array(contract.action.limit_high), contract.model_hz
    contract = replace(contract, action=replace(contract.action, rate=(), jerk=tuple(0.1 * high * hz**2)))
    plan = Plan(7, 0, 10, np.tile(high, (3, 1)), "b")
    check(plan, np.array([0.0 * high, high]), contract)
    with pytest.raises(RunError, match="breaks a jerk"):
        check(plan, np.array([0.0 * high, 0.5 * high]), contract)
