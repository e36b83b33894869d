"""A campaign is repeatable, covers every kind, and its table keeps to the contract."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

from robot_wm.contract import load_contract
from robot_wm.errors import RunError
from ros_nodes.commands import released_bundle
from ros_nodes.fault_campaign import Outcome, figures_of
from ros_nodes.fault_kinds import KINDS, bounds_of
from ros_nodes.fault_run import tightened
from ros_nodes.fault_schedule import Planned, kinds_for, schedule

BUSES = ("serial", "dynamixel", "feetech")


@pytest.fixture(scope="module")
def contract():
    return tightened(load_contract(released_bundle("cartpole_swingup") / "contract.yaml"))


@pytest.fixture(scope="module")
def plan(contract):
    """A schedule on a bus."""

    def made(faults, seed, bus, slack_s=0.0):
        return schedule(faults, seed, kinds_for(bus, ()), bounds_of(contract, bus), slack_s)

    return made


@pytest.mark.parametrize("bus", BUSES)
def test_a_seed_gives_one_schedule_and_a_round_has_every_kind_once(bus, plan):
    kinds = kinds_for(bus, ())
    first = plan(2 * len(kinds) + 3, 7, bus)
    assert first == plan(2 * len(kinds) + 3, 7, bus)
    assert first != plan(2 * len(kinds) + 3, 8, bus)
    assert [fault.index for fault in first] == list(range(2 * len(kinds) + 3))
    for k in (0, len(kinds)):
        assert {fault.kind for fault in first[k : k + len(kinds)]} == {kind.name for kind in kinds}


def test_fewer_faults_are_the_beginning_of_more(plan):
    assert plan(100, 3, "serial")[:17] == plan(17, 3, "serial")


@pytest.mark.parametrize("bus", BUSES)
@pytest.mark.parametrize("slack_s", [0.0, 0.25])
def test_every_fault_is_of_the_table_and_lasts_longer_than_its_bound(bus, slack_s, plan, contract):
    bounds = bounds_of(contract, bus)
    for fault in plan(300, 1, bus, slack_s):
        kind = KINDS[fault.kind]
        assert bus in kind.buses
        assert fault.variant in kind.variants
        assert np.isfinite(kind.bound(bounds)), kind.name
        assert kind.bound(bounds) + slack_s + 0.2 < fault.lasts_s < kind.bound(bounds) + slack_s + 5.0


def test_servos_without_a_watchdog_are_not_asked_for_what_needs_one():
    names = {kind.name for kind in kinds_for("feetech", ())}
    assert not names & {"line hangs up", "line stalls", "line dead"}
    assert {"line deaf", "kill motor", "motor overheats"} <= names


def test_kinds_are_named_as_files_are():
    assert {kind.name for kind in kinds_for("serial", ("kill *", "line drop"))} == {
        "kill motor", "kill watchdog", "kill planner", "kill posterior", "kill recorder", "kill model_sync", "line drop",
    }  # fmt: skip
    with pytest.raises(RunError, match="nothing on --bus feetech matches 'line stalls'; there are "):
        kinds_for("feetech", ("line stalls",))


def test_the_tightened_contract_serves_the_same_model_with_limits_that_are_at_work(contract):
    original = load_contract(released_bundle("cartpole_swingup") / "contract.yaml")
    assert contract.hash == original.hash
    assert (contract.action.limit_low, contract.action.limit_high) == ((-8.0,), (8.0,))
    assert contract.action.rate == (400.0,)


def outcome(kind, safe_s, violations=(), detected=True, bound=0.5, stood_still=0.0):
    fault = Planned(0, kind, "", 0.3, 1.0)
    in_bound = safe_s is not None and safe_s <= bound + stood_still
    return Outcome(fault, 0, detected, safe_s, bound, stood_still, in_bound, True, 1.0, list(violations), [], [])


def test_figures_count_what_was_violated_and_what_was_late():
    outcomes = [
        outcome("line drop", 0.1, detected=None), outcome("kill planner", 0.3), outcome("kill planner", 0.2, ["9 is outside"]),
        outcome("kill planner", None, detected=False), outcome("kill planner", 0.6),
    ]  # fmt: skip
    figures = figures_of(outcomes, 0.0)
    assert (figures["faults"], figures["limit_violations"], figures["safe_in_bound"]) == (5, 1, 0.6)
    assert figures["detected"] == 0.75
    killed, dropped = figures["rows"]
    assert (killed["kind"], killed["faults"], killed["detected"], killed["in_bound"]) == ("kill planner", 4, 3, 2)
    assert (killed["safe_s_median"], killed["safe_s_worst"], killed["limit_violations"]) == (0.3, 0.6, 1)
    assert (dropped["kind"], dropped["in_bound"], dropped["detected"]) == ("line drop", 1, None)
    assert (figures["stood_still"], figures["in_bound_by_standstill"]) == (0, 0)


def test_verdicts_that_the_machines_standing_still_decided_are_counted():
    outcomes = [outcome("kill planner", 0.6, stood_still=0.2), outcome("kill planner", 0.3, stood_still=0.2)]
    figures = figures_of(outcomes, 0.0)
    assert (figures["safe_in_bound"], figures["stood_still"], figures["in_bound_by_standstill"]) == (1.0, 2, 1)
