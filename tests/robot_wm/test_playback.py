import re

import numpy as np
import pytest

from conftest import slider_contract
from robot_wm.messages import Command, Plan
from robot_wm.playback import CommandPlayer, PlanPlayer

MS = 1_000_000
NOW = 1_000 * MS


def plan(start=NOW, values=(1.0, 2.0, 3.0), index=0, bundle="b", step=20 * MS):
    return Plan(index, start, step, np.array(values, float).reshape(len(values), -1), bundle)


def player(**action):
    table = {"names": ["slider"], "mode": "effort", "low": [-10], "high": [10], **action}
    return PlanPlayer(slider_contract(action=table, safety={"plan_stale_s": 0.1}))


def sent(played, at):
    found = played.action(at)
    return None if found is None else found[0][0]


def test_a_plan_is_a_zero_order_hold_per_model_step():
    played = player()
    assert played.offer(plan(NOW + 20 * MS), NOW) == ""
    assert sent(played, NOW + 19 * MS) is None
    assert [sent(played, NOW + t * MS) for t in (20, 39, 40, 60, 79)] == [1, 1, 2, 3, 3]


def test_the_last_row_holds_until_the_plan_is_stale():
    played = player()
    played.offer(plan(), NOW)
    assert sent(played, NOW + 100 * MS) == 3
    assert sent(played, NOW + 101 * MS) is None


def test_a_late_plan_is_played_from_the_part_still_ahead():
    played = player()
    assert played.offer(plan(), NOW + 45 * MS) == ""
    assert sent(played, NOW + 45 * MS) == 3


def test_the_action_sent_is_the_one_planned_for_when_it_takes_effect():
    played = player(delay_s=0.02)
    played.offer(plan(), NOW - 20 * MS)
    assert sent(played, NOW - 20 * MS) == 1
    assert sent(played, NOW) == 2


def test_a_plan_for_later_does_not_cut_the_present_one():
    played = player()
    played.offer(plan(NOW, (1, 1, 1)), NOW)
    played.offer(plan(NOW + 20 * MS, (2, 2, 2), index=1), NOW)
    played.offer(plan(NOW + 40 * MS, (3, 3, 3), index=2), NOW)
    assert [played.action(NOW + t * MS)[1] for t in (0, 19, 20, 40, 60)] == [0, 0, 1, 2, 2]


def test_of_two_plans_with_one_start_the_later_arrival_counts():
    played = player()
    played.offer(plan(values=(1, 1)), NOW)
    played.offer(plan(values=(2, 2), index=1), NOW)
    assert sent(played, NOW) == 2


@pytest.mark.parametrize(
    ("offered", "kind", "sentence"),
    [
        (plan(values=(1.0, np.nan)), "not finite", "plan 0: its actions are not finite"),
        (Plan(4, NOW, 20 * MS, np.zeros((3, 2)), "b"), "shape", r"plan 4: .* \(3, 2\), expected \(horizon, 1\)"),
        (Plan(4, NOW, 20 * MS, np.zeros((0, 1)), "b"), "shape", "expected"),
        (plan(step=10 * MS), "step", "its step is 10.000 ms, the contract's 20.000 ms"),
        (plan(bundle="other"), "bundle", "it is by bundle 'other'; known here: b"),
        (plan(NOW + 1500 * MS), "stamp", "it starts 1.500 s from now"),
        (plan(NOW - 70 * MS), "late", "it started 0.070 s ago"),
        (plan(NOW - 20 * MS), "older", "before the one being played"),
    ],
)
def test_a_plan_that_cannot_be_played_is_refused_with_the_reason(offered, kind, sentence):
    played = player()
    played.expect("b")
    played.offer(plan(), NOW)
    played.action(NOW)
    reason = played.offer(offered, NOW)
    assert re.search(sentence, reason)
    assert played.counts.refused == {kind: 1}
    assert played.counts.refusal == reason
    assert sent(played, NOW) == 1  # the good one goes on


def test_plans_do_not_pile_up():
    played = player()
    for i in range(1000):
        played.offer(plan(NOW + i * 20 * MS), NOW + i * 20 * MS)
    assert len(played._plans) <= 8


def commander():
    return CommandPlayer(slider_contract(safety={"plan_stale_s": 0.1}))


def test_a_command_is_good_until_it_is_stale():
    played = commander()
    assert played.action(NOW) is None
    assert played.offer(Command(NOW, np.array([4.0])), NOW) == ""
    assert played.action(NOW + 100 * MS) == pytest.approx([4.0])
    assert played.action(NOW + 101 * MS) is None


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (Command(NOW, np.array([np.inf])), "not finite"),
        (Command(NOW, np.zeros(2)), "shape"),
        (Command(NOW - 101 * MS, np.zeros(1)), "late"),
        (Command(NOW + 101 * MS, np.zeros(1)), "stamp"),
        (Command(NOW - 1, np.zeros(1)), "older"),
    ],
)
def test_a_command_that_cannot_be_played_is_refused(command, kind):
    played = commander()
    played.offer(Command(NOW, np.array([4.0])), NOW)
    assert played.offer(command, NOW).startswith("command: ")
    assert played.counts.refused == {kind: 1}
    assert played.action(NOW) == pytest.approx([4.0])


def test_around_a_swap_the_plans_of_the_bundles_expected_last_are_played():
    played = player()
    assert played.offer(plan(bundle="anything"), NOW) == ""  # no planner has said what it plans with
    for name in ("first", "second", "third", "second", "fourth"):
        played.expect(name)
    assert played.bundles == ("third", "second", "fourth")
    assert played.offer(plan(NOW + 20 * MS, bundle="second"), NOW) == ""
    assert "known here: fourth, second, third" in played.offer(plan(NOW + 40 * MS, bundle="first"), NOW)
