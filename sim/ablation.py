"""`robot-wm bench planner-ablation`: return against samples x refinements, for each variation of the planner, on equal seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robot_wm.bundle import load_bundle
from robot_wm.errors import RunError
from robot_wm.planner import Planner
from robot_wm.search import PredictiveSampling, Search, search_named
from sim.evaluate import evaluate
from sim.jobs import side_by_side

REFERENCE = "reference"  # TD-MPC2's planner in plain PyTorch (models/reference_planning.py)
VARIATIONS: dict[str, Search] = {
    "mppi": Search(),
    "last_plan": Search(around_policy=0.0),
    "correlated": Search(correlation=0.7),
    "keep_best": Search(keep_best=True),
    "momentum": Search(momentum=0.2),
    "keep_spread": Search(keep_spread=2.0, around_policy=0.0),
    "cem": search_named("cem"),
    "sampling": PredictiveSampling(),
    "policy": search_named("policy"),
    REFERENCE: Search(),
}


@dataclass(frozen=True)
class Cell:
    """One evaluation: a variation with a budget."""

    variation: str
    samples: int
    refinements: int


def parse_budgets(text: str) -> list[tuple[int, int]]:
    """`512x6,64x2` → samples and refinements. Raises RunError for anything else."""
    try:
        pairs = [tuple(int(x) for x in item.split("x")) for item in text.split(",")]
        budgets = [(samples, refinements) for samples, refinements in pairs]
    except ValueError as error:
        raise RunError(f"budgets {text!r} must read like 512x6,64x2: samples x refinements") from error
    if any(samples < 2 or refinements < 1 for samples, refinements in budgets):
        raise RunError(f"budgets {text!r}: two samples and one refinement are the least")
    return budgets


def cells_for(variations: Sequence[str], budgets: Sequence[tuple[int, int]]) -> list[Cell]:
    """Every variation with every budget; the policy alone once. Raises RunError for an unknown variation."""
    unknown = [name for name in variations if name not in VARIATIONS]
    if unknown:
        raise RunError(f"unknown variation {', '.join(unknown)}; there are {', '.join(VARIATIONS)}")
    return [
        Cell(name, *budget) for name in variations for budget in (budgets if VARIATIONS[name].refines else budgets[:1])
    ]


def measure(
    bundle: Path, cells: Sequence[Cell], episodes: int, seed: int, jobs: int, report: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    """Evaluate the cells, `jobs` at a time: one row of figures each, in the order of `cells`. `report` gets each as it is done."""
    return side_by_side(partial(_row, bundle, episodes, seed), cells, jobs, report)


def _row(path: Path, episodes: int, seed: int, cell: Cell) -> dict[str, Any]:
    bundle = load_bundle(path)
    figures = evaluate(
        bundle, bundle.contract.name, episodes, seed,
        refinements=cell.refinements, search=VARIATIONS[cell.variation], samples=cell.samples, planner=_planner(cell.variation),
    )  # fmt: skip
    kept = ("return_mean", "return_std", "return_interval_95", "episodes", "seed")
    return vars(cell) | {"evaluations": cell.samples * cell.refinements} | {key: figures[key] for key in kept}


def _planner(variation: str) -> type[Planner]:
    if variation != REFERENCE:
        return Planner
    from models.reference_planning import ReferencePlanning

    return ReferencePlanning
