"""The plots of a run show its episode, with time since the start mark."""

import numpy as np
import pytest

from bag_tools import JOINTS, MS, START, drive, record, robot
from robot_wm.bags.reader import open_bag
from robot_wm.bags.types import Info
from robot_wm.info import CorrectionInfo, PlanInfo
from robot_wm.messages import Event, Plan
from robot_wm.report import draw
from robot_wm.run_panels import run_panels
from robot_wm.timebase import NS_PER_S

STEP = 20 * MS


def plan_info(index, refinements=2, seconds=0.004):
    source = "mppi" if refinements else "shifted"
    return PlanInfo(
        index, "b", source, refinements, 64, 1.5, 0.1, 0.2, seconds, 0.02, 1, 0.006, None, ((0.0, 0.0),), 0, False
    )


def a_run(seconds=1.0, refinements=lambda n: 2, **options):
    """A second of driving with plans and corrections at 50 Hz; each plan asks for its own index."""
    items = drive(seconds, **options)
    for n in range(round(50 * seconds)):
        stamp = START + n * STEP
        plan = Plan(n, stamp, STEP, np.full((3, 2), float(n)), "b")
        correction = CorrectionInfo("b", 0.1 * n, 0, 0.003, 0.001, {})
        items += [("plan", plan), ("plan_info", Info(stamp, plan_info(n, refinements(n))))]
        items.append(("correction_info", Info(stamp, correction)))
    return items


@pytest.fixture
def panels(tmp_path):
    def of(items, contract=None):
        contract = contract or robot()
        found, missing = run_panels(open_bag(record(tmp_path / "bag", items, contract)), contract)
        return {panel.title: panel for panel in found}, missing

    return of


def test_a_run_has_every_plot_an_engineer_asks_for_and_each_can_be_drawn(panels):
    found, missing = panels(a_run())

    words = ("position", "velocity", "action elbow", "action shoulder", "reward", "innovation", "delay", "plan time")
    for word in (*words, "refinements", "age of the latent", "expected return"):
        assert any(word in title for title in found), word
    assert missing == []
    for panel in found.values():
        draw(panel)


def test_states_carry_names_and_begin_at_the_start_mark(panels):
    position = panels(a_run())[0]["position"]

    assert [line.label for line in position.lines] == list(JOINTS)
    assert position.lines[0].x[0] == 0.0 and position.lines[0].x[-1] == pytest.approx(1.0)
    assert position.marks == [(0.0, "start"), (1.0, "end")]
    np.testing.assert_allclose(position.lines[0].y, np.sin(position.lines[0].x), atol=1e-9)


def test_what_was_asked_is_the_newest_plan_that_reaches(panels):
    asked, sent = panels(a_run())[0]["action elbow"].lines

    assert (asked.label, sent.label) == ("asked", "sent")
    np.testing.assert_array_equal(asked.y, np.arange(100) // 2)


def test_only_the_episode_and_half_a_second_around_it_are_shown(panels):
    items = drive(3.0, marks=None)
    items += [("event", Event(START + NS_PER_S, "start")), ("event", Event(START + 2 * NS_PER_S, "end"))]

    found, _ = panels(items)

    x = found["position"].lines[0].x
    assert (x[0], x[-1]) == (pytest.approx(-0.5), pytest.approx(1.5))
    assert found["position"].x_range == (-0.5, 1.5)
    assert found["reward"].lines[0].x[0] > 0.0  # what was earned before does not count


def test_marks_nearly_at_one_time_share_a_line_and_faults_are_named(panels):
    marks = [("event", Event(START + 400 * MS, "mark", "killed planner_node")), ("state", Event(START + MS, "armed"))]

    assert panels(a_run() + marks)[0]["position"].marks == [
        (0.0, "start, armed"),
        (pytest.approx(0.4), "killed planner_node"),
        (1.0, "end"),
    ]


def test_a_fallback_has_no_expected_return(panels):
    found, _ = panels(a_run(refinements=lambda n: n % 2))

    value = found["expected return of the plan"].lines[0].y
    assert np.isnan(value[::2]).all() and (value[1::2] == 1.5).all()


def test_on_a_virtual_clock_nothing_took_time_so_nothing_is_plotted_of_it(panels):
    virtual = [
        (topic, Info(item.stamp, plan_info(0, seconds=0.0)) if topic == "plan_info" else item)
        for topic, item in a_run()
    ]

    found, _ = panels(virtual)

    assert "plan time" not in found and not any("tick" in title for title in found)
    assert "refinements per plan (0: a fallback)" in found


def test_a_bag_of_joints_alone_says_what_is_missing(panels):
    items = [item for item in drive(0.2) if item[0] == "joint_states"]

    found, missing = panels(items)

    assert list(found) == ["position", "velocity"]
    assert all("no topic /applied" in sentence for sentence in missing) and missing
