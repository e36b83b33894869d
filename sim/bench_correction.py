"""`robot-wm bench correction`: return against delay for each way of correcting the latent, on equal seeds.

Delay, jitter and loss are those of the images or, in a task without any, of all readings. Trust is off: a ladder that answers to
late observations would be judged with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.bundle import load_bundle
from robot_wm.contract import Contract
from robot_wm.errors import RunError
from sim.corrections import correction_named
from sim.disturbance import Disturbance
from sim.evaluate import evaluate
from sim.jobs import side_by_side

Row = dict[str, Any]
MEANING = {
    "exact": "exact: corrected at its stamp, replayed",
    "naive": "naive: taken for current",
    "hold": "hold: not predicted to now",
}


@dataclass(frozen=True)
class Cell:
    """One evaluation: a way of correcting and what observations meet on their way."""

    correction: str = "exact"
    delay_ms: float = 0.0  # from capture to arrival
    jitter_ms: float = 0.0
    dropout: float = 0.0
    occlude_s: float = 0.0

    def disturbance(self, contract: Contract) -> Disturbance:
        delay_s, jitter_s = self.delay_ms / 1e3, self.jitter_ms / 1e3
        if not contract.images:
            return Disturbance(delay_s, jitter_s, self.dropout)
        return Disturbance(
            image_delay_s=delay_s, image_jitter_s=jitter_s, image_dropout=self.dropout, occlude_s=self.occlude_s
        )


BASELINE = Cell()


def parse_delays(text: str) -> list[float]:
    """`0,50,100` → delays [ms]. Raises RunError for anything else."""
    try:
        delays = [float(part) for part in text.split(",")]
    except ValueError:
        delays = []
    if not delays or not all(0.0 <= delay < float("inf") for delay in delays):
        raise RunError(f"delays {text!r} must read like 0,50,100: milliseconds from capture to arrival")
    return sorted(set(delays))


def cells_for(
    contract: Contract,
    corrections: Sequence[str],
    delays: Sequence[float],
    jitter_ms: float = 0.0,
    dropout: float = 0.0,
    occlude_s: float = 0.0,
) -> list[Cell]:
    """Each way of correcting at each delay [ms].

    Raises:
        RunError: an unknown way, or a camera shall be hidden that there is not.
    """
    for name in corrections:
        correction_named(name)
    if occlude_s and not contract.images:
        raise RunError(f"{contract.name} has no camera to hide")
    return [Cell(name, delay, jitter_ms, dropout, occlude_s) for name in corrections for delay in delays]


def measure(
    bundle: Path,
    cells: Sequence[Cell],
    episodes: int,
    seed: int,
    jobs: int,
    report: Callable[[Row], None] = lambda row: None,
) -> tuple[Row, list[Row]]:
    """Evaluate `BASELINE` and the cells, `jobs` at a time: its row, and theirs with ratios to it. `report` gets each when done."""
    todo = list(dict.fromkeys([BASELINE, *cells]))
    rows = dict(zip(todo, side_by_side(partial(_row, bundle, episodes, seed), todo, jobs, report), strict=True))
    best = rows[BASELINE]
    return best, [rows[cell] | ratio(rows[cell]["returns"], best["returns"]) for cell in cells]


def ratio(returns: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """Mean return as a part of the baseline's on the same seeds, with its 95 % interval; None where the baseline earns nothing.

    The interval is that of a ratio of means of pairs (x, y), from the deviations x - ratio y (Cochran, Sampling Techniques, ch. 6).
    """
    x, y = np.asarray(returns), np.asarray(baseline)
    if y.mean() <= 0.0:
        return {"ratio": None, "ratio_interval_95": None}
    value = x.mean() / y.mean()
    half = 1.96 * (x - value * y).std(ddof=1) / np.sqrt(len(x)) / y.mean() if len(x) > 1 else 0.0
    return {"ratio": float(value), "ratio_interval_95": [float(value - half), float(value + half)]}


def plot_correction(figures: Mapping[str, Any], path: Path) -> None:
    """Draw return against delay, one line with intervals for each way of correcting, and how much of the baseline that is."""
    from matplotlib.figure import Figure

    best, rows = figures["baseline"]["return_mean"], figures["rows"]
    names = list(dict.fromkeys(row["correction"] for row in rows))
    width = max((row["delay_ms"] for row in rows), default=0.0) or 1.0
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(best, color="0.5", linestyle="--", linewidth=1.0, label="nothing late or lost")
    for i, name in enumerate(names):
        own = [row for row in rows if row["correction"] == name]
        at = np.array([row["delay_ms"] for row in own]) + 0.006 * width * (
            i - (len(names) - 1) / 2
        )  # bars side by side
        mean = np.array([row["return_mean"] for row in own])
        low, high = np.array([row["return_interval_95"] for row in own]).T
        label = MEANING.get(name, name)
        axes.errorbar(at, mean, [mean - low, high - mean], fmt="o-", markersize=4, capsize=3, label=label)
    what = "image" if figures["delayed"] == "images" else "observation"
    more = [f"jitter {figures['jitter_ms']:g} ms", f"{100 * figures['dropout']:g} % lost"]
    more += [f"cameras hidden for {figures['occlude_s']:g} s"] if figures["occlude_s"] else []
    axes.set(
        title=f"{figures['task']}: {', '.join(more)}, {figures['episodes']} episodes", xlabel=f"delay of an {what} [ms]",
        ylabel="return (mean and 95 % interval)", ylim=(0.0, None),
    )  # fmt: skip
    if best > 0.0:
        part = axes.secondary_yaxis("right", functions=(lambda y: 100 * y / best, lambda p: p * best / 100))
        part.set_ylabel("of the return with nothing late or lost [%]")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def _row(path: Path, episodes: int, seed: int, cell: Cell) -> Row:
    bundle = load_bundle(path)
    figures = evaluate(
        bundle, bundle.contract.name, episodes, seed, cell.disturbance(bundle.contract), trust="off",
        correction=cell.correction,
    )  # fmt: skip
    kept = ("return_mean", "return_std", "return_interval_95", "returns")
    return vars(cell) | {key: figures[key] for key in kept}
