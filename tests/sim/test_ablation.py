"""The planner's variations are compared on equal seeds with the budgets that were asked for."""

from pathlib import Path

import pytest

from robot_wm.errors import RunError
from sim.ablation import VARIATIONS, Cell, cells_for, measure, parse_budgets

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "cartpole_swingup"


def test_budgets_are_samples_times_refinements():
    assert parse_budgets("512x6,64x2") == [(512, 6), (64, 2)]
    for wrong in ("512", "512x", "64x2x1", "1x6", "64x0", ""):
        with pytest.raises(RunError, match="budgets"):
            parse_budgets(wrong)


def test_every_variation_meets_every_budget_but_the_policy_which_has_none():
    cells = cells_for(list(VARIATIONS), [(64, 2), (16, 1)])
    assert len(cells) == 2 * len(VARIATIONS) - 1
    assert [cell.samples for cell in cells if cell.variation == "policy"] == [64]
    with pytest.raises(RunError, match="unknown variation best; there are mppi, last_plan, correlated"):
        cells_for(["best"], [(64, 2)])


def test_the_plain_reference_swings_the_pole_as_ours_does():
    """An episode of each on one seed: the same way of planning, with other noise, earns about the same."""
    cells = [Cell("mppi", 64, 1), Cell("reference", 64, 1)]
    ours, plain = measure(ZOO, cells, episodes=1, seed=3, jobs=2, report=lambda row: None)
    assert plain["variation"] == "reference" and plain["return_mean"] == pytest.approx(ours["return_mean"], rel=0.05)


def test_a_row_has_the_return_with_its_interval_and_the_work_it_took():
    seen = []
    (row,) = measure(ZOO, [Cell("mppi", 16, 1)], episodes=2, seed=3, jobs=1, report=seen.append)
    assert seen == [row]
    assert (row["variation"], row["evaluations"], row["episodes"], row["seed"]) == ("mppi", 16, 2, 3)
    low, high = row["return_interval_95"]
    assert low <= row["return_mean"] <= high and row["return_mean"] > 0
