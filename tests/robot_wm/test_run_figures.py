"""The figures of a run are those of its bag's last episode."""

from types import SimpleNamespace

import numpy as np
import pytest

from bag_tools import MS, START, drive, record, robot
from robot_wm.bags.reader import open_bag
from robot_wm.bags.types import Info
from robot_wm.info import PlanInfo
from robot_wm.messages import Event
from robot_wm.run_figures import episode_window, image_figures, memory_figures, run_figures


def plan_info(k, source="mppi"):
    info = PlanInfo(
        index=k, bundle_id="b", source=source, refinements=0 if source == "shifted" else 2 + k % 2, samples=64,
        value=0.0, spread=0.1, disagreement=0.2, seconds=0.010, latent_age_s=0.02, latent_steps=1,
        slack_s=-0.001 if k == 3 else 0.004, previous=None, actions=(), seed=0, reset=False,
    )  # fmt: skip
    return "plan_info", Info(START + 20 * MS * k, info)


def test_return_plans_and_ticks_of_an_episode(tmp_path):
    items = [*drive(2.0), *(plan_info(k, "shifted" if k == 4 else "mppi") for k in range(100))]
    path = record(tmp_path / "bag", items, robot())
    figures = run_figures(open_bag(path), robot())
    assert figures["seconds"] == pytest.approx(2.0, abs=0.02)
    rewards = np.arange(100) / 100.0
    assert figures["return"] == pytest.approx(1000.0 * rewards.mean(), rel=0.02)
    assert (figures["plans"], figures["plans_fallback"], figures["plans_late"]) == (100, 1, 1)
    assert figures["plan_hz"] == pytest.approx(50.0, rel=0.02)
    assert (figures["plan_ms_p50"], figures["refinements_p50"]) == (10.0, 2.5)
    assert figures["latent_age_ms_p50"] == 20.0
    assert figures["ticks"] == 200
    assert figures["ticks_by_source"] == {"plan": 200}
    assert figures["ticks_missed"] is figures["motor_read_ms_p50"] is None  # no diagnostics in this bag


def test_the_last_start_counts_and_an_episode_without_end_goes_to_the_end(tmp_path):
    marks = [
        ("event", Event(START + 500 * MS, "start")),
        ("event", Event(START + 1000 * MS, "mark", "killed planner_node")),
    ]
    bag = open_bag(record(tmp_path / "bag", [*drive(2.0, marks=("start", "mark")), *marks], robot()))
    assert episode_window(bag) == (START + 500 * MS, bag.end)
    unmarked = open_bag(record(tmp_path / "plain", drive(1.0, marks=()), robot()))
    assert episode_window(unmarked) == (unmarked.start, unmarked.end)


def says(k, **counts):
    """Diagnostics of posterior_node at step k."""
    keys = {"encode_ms_p50": "encode ms p50"} | {
        key: key.replace("_", " ", 1) for key in counts if key.startswith("rej")
    }
    pairs = [SimpleNamespace(key=f"image eye {keys.get(key, key)}", value=f"{value}") for key, value in counts.items()]
    status = SimpleNamespace(name="left/posterior_node", values=pairs)
    return START + 20 * MS * k, SimpleNamespace(status=[status, SimpleNamespace(name="motor_node", values=[])])


def test_every_image_is_accounted_for_over_all_processes_that_counted():
    said = [
        says(0, received=1, applied=0, encode_ms_p50=3.5),
        says(1, received=9, applied=5, rejected_too_old=2, encode_ms_p50=3),
        says(2),  # not active
        says(3, received=2, applied=1),  # started again
        says(4, received=12, applied=4, rejected_too_old=1, rejected_replaced=7),
    ]
    bag = SimpleNamespace(find=lambda name: SimpleNamespace(name=name), messages=lambda name: said)
    assert image_figures(bag, "eye") == {
        "received": 21, "applied": 9, "rejected": {"too_old": 3, "replaced": 7}, "under_way": 2,
    }  # fmt: skip
    assert image_figures(bag, "wrist") == {"received": 0, "applied": 0, "rejected": {}, "under_way": 0}


def test_the_memory_of_every_node_is_told_as_it_was_at_first_later_and_at_the_end():
    def said(k, name, mb):
        status = SimpleNamespace(name=f"left/{name}", values=[SimpleNamespace(key="memory_mb", value=f"{mb}")])
        return START + 20 * MS * k, SimpleNamespace(status=[status])

    messages = [said(k, "motor_node", 80.0 + min(k, 3)) for k in range(8)] + [said(9, "planner_node", 140.5)]
    bag = SimpleNamespace(find=lambda name: SimpleNamespace(name=name), messages=lambda name: messages)
    assert memory_figures(bag) == {
        "motor_node": {"first": 80.0, "quarter": 82.0, "last": 83.0},
        "planner_node": {"first": 140.5, "quarter": 140.5, "last": 140.5},
    }
