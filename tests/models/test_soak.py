"""A short soak (the long one is `robot-wm bench soak`), and that it would notice."""

from dataclasses import replace

import numpy as np
import pytest

from models.soak import check, random_contract, soak
from robot_wm.errors import RunError
from robot_wm.messages import Plan


def test_random_robots_plan_within_bounds_whatever_happens():
    figures = soak(600, seed=1, robots=1)
    assert sum(figures["sources"].values()) == figures["plans"] == 600
    assert {"mppi", "shifted", "policy"} <= set(figures["sources"])
    assert figures["resident_mib_largest"] > 0


@pytest.mark.parametrize(
    ("spoil", "message"), [(np.nan, "is not finite"), (1e3, "breaks a limit"), (None, "breaks a rate")]
)
def test_a_plan_out_of_bounds_is_named(spoil, message):
    contract = random_contract(np.random.default_rng(0))
    size = contract.action.size
    contract = replace(contract, action=replace(contract.action, rate=(1e-3,) * size))
    plan = Plan(7, 0, 10, np.zeros((3, size)), "b")
    check(plan, np.zeros(size), contract)
    plan.actions[1] = 0.5 * np.array(contract.action.limit_high) if spoil is None else spoil
    with pytest.raises(RunError, match=f"plan 7 .* {message}"):
        check(plan, np.zeros(size), contract)
