"""What `robot-wm replay --out` leaves: `report.html` with plots, `figures.json`, and every late correction in `corrections.csv`."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.evidence import leave_report
from robot_wm.replay_corrections import Corrections
from robot_wm.report import Line, Panel
from robot_wm.runs import RunFolder

MOST_BAGS = 6  # with plots over time of their own
COLUMNS = ("bag", "observation", "time_s", "steps_late", "change")


def write_replay(out: Path, figures: Mapping[str, Any], corrections: Corrections, title: str) -> dict[str, Any]:
    """Write the three files into the directory `out`, made if need be; where they are, and why one is missing.

    Raises:
        OSError: the directory cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = out / "corrections.csv"
    with rows.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for c in corrections.changes:
            table.writerow([c.bag, c.observation, f"{c.time_s:.6f}", c.steps_late, f"{corrections.relative(c):.6g}"])
    folder = RunFolder(out)
    report, notes = leave_report(folder, title, figures, replay_panels(figures, corrections))
    left = {"report": report, "corrections_csv": f"{rows.resolve()}", "notes": notes}
    folder.figures({**figures, **left})
    return left


def replay_panels(figures: Mapping[str, Any], corrections: Corrections) -> list[Panel]:
    """Prediction error by horizon, changes by lateness, and of the first bags innovation and changes over time."""
    panels = [_horizons(figures), *_lateness(corrections)]
    for bag in list(corrections.innovation)[:MOST_BAGS]:
        panels += _over_time(bag, corrections)
    return panels


def _horizons(figures: Mapping[str, Any]) -> Panel:
    rows = sorted(figures["rmse"].values(), key=lambda row: row["horizon_ms_mean"])
    at = np.array([row["horizon_ms_mean"] for row in rows])
    lines = [Line(name, at, np.array([row[name] for row in rows]), ".-") for name in ("model", "persistence")]
    unit = f"rms [{figures['unit']}]" if figures["unit"] else "rms"
    return Panel(f"prediction error of {figures['observation']} by horizon", unit, lines, x_label="horizon [ms]")


def _lateness(corrections: Corrections) -> list[Panel]:
    lines = []
    for name, found in corrections.figures()["observations"].items():
        table = found["by_steps_late"]
        steps = np.array([int(late) for late in table])
        for key, label in (("change_p50", "median"), ("change_p95", "95 %")):
            lines.append(Line(f"{name}, {label}", steps, np.array([row[key] for row in table.values()]), ".-"))
    title, unit = "what a late correction changed, by its lateness", "of the latents' spread"
    return [Panel(title, unit, lines, x_label="model steps late")] if lines else []


def _over_time(bag: str, corrections: Corrections) -> list[Panel]:
    time, innovation = np.array(corrections.innovation[bag]).reshape(-1, 2).T
    short = "/".join(Path(bag).parts[-2:])
    panels = [Panel(f"{short}: latent innovation", "rms", [Line("", time, innovation)])]
    own = [change for change in corrections.changes if change.bag == bag]
    lines = []
    for name in sorted({change.observation for change in own}):
        points = np.array([(c.time_s, corrections.relative(c)) for c in own if c.observation == name])
        lines.append(Line(name, points[:, 0], points[:, 1], "."))
    if lines:
        panels.append(Panel(f"{short}: what each late correction changed", "of the latents' spread", lines))
    return panels
