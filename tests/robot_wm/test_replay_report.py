"""`robot-wm replay --out`: every late correction as a row, and the plots."""

import csv
import json

import numpy as np

from robot_wm.replay_corrections import Change, Corrections
from robot_wm.replay_report import COLUMNS, MOST_BAGS, replay_panels, write_replay

ERRORS = {"model": 0.1, "persistence": 0.3}
FIGURES = {
    "rmse": {"200": {**ERRORS, "horizon_ms_mean": 200.0}, "100": {**ERRORS, "horizon_ms_mean": 100.0}},
    "observation": "position",
    "unit": "rad",
}


def corrections(bags=("runs/one/bag",)):
    changes = [Change(bag, "eye", 0.1 * i, 4 + i % 2, 0.2 * i) for bag in bags for i in range(1, 6)]
    found = Corrections(changes, {bag: [(0.1 * i, 0.5) for i in range(9)] for bag in bags})
    for value in (1.0, 3.0):
        found.see(np.array([value], np.float32))
    return found


def test_rows_report_and_figures_are_left(tmp_path):
    left = write_replay(tmp_path / "out", FIGURES, corrections(), "replay")
    with open(left["corrections_csv"], newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert rows[0] == ["runs/one/bag", "eye", "0.100000", "5", "0.2"] and len(rows) == 5
    page = (tmp_path / "out" / "report.html").read_text()
    assert left["notes"] == [] and page.count("<svg") == 4
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["observation"] == "position"


def test_panels_are_horizons_lateness_and_two_over_time_for_the_first_bags():
    panels = replay_panels(FIGURES, corrections([f"runs/{i}/bag" for i in range(MOST_BAGS + 3)]))
    assert len(panels) == 2 + 2 * MOST_BAGS
    horizons, lateness, innovation, changed = panels[:4]
    assert horizons.lines[0].x.tolist() == [100.0, 200.0]
    assert [line.label for line in lateness.lines] == ["eye, median", "eye, 95 %"]
    assert innovation.title == "0/bag: latent innovation" and len(changed.lines[0].x) == 5


def test_without_a_late_correction_there_is_nothing_to_draw_of_them():
    none = Corrections([], {"runs/one/bag": [(0.1, 0.5)]})
    assert [panel.title for panel in replay_panels(FIGURES, none)] == [
        "prediction error of position by horizon",
        "one/bag: latent innovation",
    ]
