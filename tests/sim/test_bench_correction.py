"""Return against delay: each way of correcting at each delay, beside exact correction with nothing late, on equal seeds."""

from types import SimpleNamespace

import numpy as np
import pytest

from integrator import integrator_contract
from robot_wm.errors import RunError
from sim import bench_correction as bench
from sim.bench_correction import BASELINE, Cell, cells_for, measure, parse_delays, plot_correction, ratio
from sim.disturbance import Disturbance

STATE = integrator_contract()
SEEING = integrator_contract(images=[{"name": "eye", "topic": "eye", "shape": [8, 8, 1], "delay_s": 0.08}])


def test_delays_are_milliseconds_in_order_and_once():
    assert parse_delays("100,0,50,50") == [0.0, 50.0, 100.0]
    for wrong in ("", "fast", "-1", "nan", "10,,20"):
        with pytest.raises(RunError, match="must read like 0,50,100"):
            parse_delays(wrong)


def test_delay_jitter_and_loss_are_the_images_or_without_any_those_of_all_readings():
    cell = Cell("naive", 100.0, 20.0, 0.1, 0.5)
    seen = Disturbance(image_delay_s=0.1, image_jitter_s=0.02, image_dropout=0.1, occlude_s=0.5)
    assert cell.disturbance(SEEING) == seen
    assert cell.disturbance(STATE) == Disturbance(0.1, 0.02, 0.1)
    assert BASELINE.disturbance(SEEING) == Disturbance(image_delay_s=0.0)  # not the contract's 80 ms


def test_every_way_meets_every_delay_and_what_cannot_be_asked_is_refused():
    cells = cells_for(STATE, ["exact", "hold"], [0.0, 50.0], 20.0, 0.1)
    assert [(cell.correction, cell.delay_ms) for cell in cells] == [
        ("exact", 0.0), ("exact", 50.0), ("hold", 0.0), ("hold", 50.0),
    ]  # fmt: skip
    with pytest.raises(RunError, match="no way of correcting 'best'"):
        cells_for(STATE, ["best"], [0.0])
    with pytest.raises(RunError, match="integrator has no camera to hide"):
        cells_for(STATE, ["exact"], [0.0], occlude_s=0.5)


def test_the_interval_of_a_ratio_is_that_of_pairs():
    rng = np.random.default_rng(0)
    seeds = rng.uniform(100.0, 900.0, 40)
    exactly = ratio(0.8 * seeds, seeds)
    assert exactly["ratio"] == pytest.approx(0.8) and exactly["ratio_interval_95"] == pytest.approx([0.8, 0.8])
    inside = 0
    for _ in range(300):
        seeds = rng.uniform(100.0, 900.0, 40)
        low, high = ratio(0.8 * seeds + rng.normal(0.0, 50.0, 40), seeds)["ratio_interval_95"]
        inside += low <= 0.8 <= high
    assert 0.90 < inside / 300 < 0.98
    assert ratio([1.0, 2.0], [0.0, 0.0]) == {"ratio": None, "ratio_interval_95": None}


@pytest.fixture
def evaluated(monkeypatch):
    """What was evaluated; its return falls with the delay unless it is corrected exactly."""
    calls = []

    def evaluate(bundle, task, episodes, seed, disturbance, trust, correction):
        calls.append((correction, disturbance, seed, trust))
        lost = 0.0 if correction == "exact" else 4000.0 * disturbance.perception_delay_s
        returns = [900.0 - lost + i for i in range(episodes)]
        mean = float(np.mean(returns))
        interval = [mean - 5.0, mean + 5.0]
        return {"return_mean": mean, "return_std": 1.0, "return_interval_95": interval, "returns": returns, "clips": 0}

    def in_turn(work, items, jobs, report):
        rows = [work(item) for item in items]
        for row in rows:
            report(row)
        return rows

    monkeypatch.setattr(bench, "evaluate", evaluate)
    monkeypatch.setattr(bench, "load_bundle", lambda path: SimpleNamespace(contract=STATE))
    monkeypatch.setattr(bench, "side_by_side", in_turn)
    return calls


def test_the_baseline_is_measured_once_in_the_same_run(evaluated, tmp_path):
    cells = cells_for(STATE, ["exact", "naive"], [0.0, 100.0])
    seen = []
    baseline, rows = measure(tmp_path, cells, episodes=3, seed=7, jobs=1, report=seen.append)
    assert len(evaluated) == len(seen) == 4  # exact at 0 ms is the baseline, once
    assert {(seed, trust) for _, _, seed, trust in evaluated} == {(7, "off")}
    assert (baseline["correction"], baseline["delay_ms"], baseline["return_mean"]) == ("exact", 0.0, 901.0)
    assert [row["ratio"] for row in rows] == pytest.approx([1.0, 1.0, 1.0, 501.0 / 901.0])
    assert len(measure(tmp_path, cells_for(STATE, ["exact"], [0.0], 20.0), 3, 7, 1)[1]) == 1
    assert len(evaluated) == 6  # with jitter it is a row of its own


def test_the_plot_shows_every_way(evaluated, tmp_path):
    baseline, rows = measure(tmp_path, cells_for(STATE, ["exact", "naive", "hold"], [0.0, 100.0]), 2, 0, 1)
    figures = {"task": "integrator", "delayed": "readings", "jitter_ms": 0.0, "dropout": 0.0, "occlude_s": 0.0}
    plot_correction(figures | {"episodes": 2, "baseline": baseline, "rows": rows}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
