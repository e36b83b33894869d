"""A drafted contract is valid, fits the bag it came from, and says what it guessed."""

import numpy as np
import pytest

from bag_tools import JOINTS, MS, START, drive, joint_state, record, robot
from robot_wm.bags.align import align_with_report
from robot_wm.bags.draft import _round_up, draft_contract, draft_text
from robot_wm.bags.reader import open_bag
from robot_wm.contract import load_contract
from robot_wm.errors import BagError
from robot_wm.messages import JointState, Measurement


def logged(path, rate=200.0, seconds=3.0, delay=4 * MS, commands="joint_commands"):
    """A robot that knows nothing of us: a spinning shoulder, an elbow within limits that is never driven."""
    items = []
    for i in range(round(rate * seconds)):
        stamp = START + round(i * 1e9 / rate)
        time = i / rate
        position = np.array([4.0 * time, 0.3 * np.sin(5 * time)])
        state = JointState(stamp, JOINTS, position, np.array([4.0, 1.5 * np.cos(5 * time)]), np.zeros(0))
        command = JointState(stamp, JOINTS, np.zeros(0), np.zeros(0), np.array([2.37 * np.sin(7 * time), 0.0]))
        items += [("joint_states", state, stamp + delay), (commands, command, stamp + delay)]
    return open_bag(record(path, items))


def test_topics_joints_rates_ranges_and_delays_are_found(tmp_path):
    contract = draft_contract(logged(tmp_path / "bag"), "mine").contract
    position, velocity = contract.observations
    assert (position.name, position.topic, position.field, position.names) == (
        "position",
        "joint_states",
        "position",
        JOINTS,
    )
    assert (velocity.name, velocity.unit) == ("velocity", ("rad/s", "rad/s"))
    assert position.encoding == ("angle", "linear")  # more than a whole turn was seen of the shoulder
    assert position.scale[1] == pytest.approx(0.22, abs=0.02)
    assert position.rate_hz == pytest.approx(200.0)
    assert position.delay_s == pytest.approx(0.004)
    assert (contract.model_hz, contract.motor_hz) == (50.0, 200.0)
    action = contract.action
    assert (action.topic, action.names, action.mode) == ("joint_commands", ("shoulder",), "effort")
    assert (action.low, action.high) == ((-2.4,), (2.4,))


def test_without_a_reward_the_draft_learns_the_motion(tmp_path):
    draft = draft_contract(logged(tmp_path / "bag"), "mine")
    assert [o.anchored for o in draft.contract.observations] == [True, False]
    assert not draft.contract.rewarded
    assert any(guess.startswith("reward: none recorded") for guess in draft.guesses)


def test_the_drafts_file_is_valid_and_aligns_its_own_bag(tmp_path):
    bag = logged(tmp_path / "bag")
    draft = draft_contract(bag, "mine")
    path = tmp_path / "mine.yaml"
    path.write_text(draft_text(draft, bag))
    contract = load_contract(path)
    assert contract == draft.contract
    [episode], report = align_with_report(bag, contract)
    assert len(episode) == 151
    assert report.beyond_range == 0.0
    assert np.abs(episode.action).max() <= 1.0


def test_what_was_guessed_is_said(tmp_path):
    guesses = " | ".join(draft_contract(logged(tmp_path / "bag"), "mine").guesses)
    for text in ("/joint_commands, by its name", "elbow left out", "reward: none recorded", "no limits are known"):
        assert text in guesses


def test_our_own_recordings_are_recognised(tmp_path):
    items = drive(1.0)
    items += [("task_observation", Measurement("t", m.stamp, np.ones(3))) for t, m in items if t == "joint_states"]
    bag = open_bag(record(tmp_path / "bag", sorted(items, key=lambda item: item[1].stamp), robot()))
    contract = draft_contract(bag, "mine").contract
    assert [o.name for o in contract.observations] == ["position", "velocity", "task_observation"]
    assert contract.observations[2].size == 3
    assert (contract.action.topic, contract.reward.topic) == ("applied", "reward")


def test_the_action_can_be_named_and_must_be_found(tmp_path):
    bag = logged(tmp_path / "bag", commands="torques")
    with pytest.raises(
        BagError, match="no topic looks like the action; name one with --action; there are /joint_states"
    ):
        draft_contract(bag, "mine")
    assert draft_contract(bag, "mine", action="torques", model_hz=25.0).contract.model_hz == 25.0


def test_an_action_that_is_always_zero_is_refused(tmp_path):
    items = [("applied", JointState(START, JOINTS, np.zeros(0), np.zeros(0), np.zeros(2)))]
    items += [("joint_states", joint_state(START + i * MS, [i, i])) for i in range(9)]
    with pytest.raises(BagError, match="every command in it is zero"):
        draft_contract(open_bag(record(tmp_path / "bag", items)), "mine")


def test_nothing_to_observe_is_refused(tmp_path):
    items = [("applied", joint_state(START + i * MS, [i, i])) for i in range(9)]
    with pytest.raises(BagError, match="nothing to observe beside /applied"):
        draft_contract(open_bag(record(tmp_path / "bag", items)), "mine")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2.31, 2.4), (2.3, 2.3), (0.0312, 0.032), (123.0, 130.0), (99.5, 100.0), (0.0, 0.0), (-2.37, -2.3)],
)
def test_ranges_are_rounded_outwards(value, expected):
    assert _round_up(value, 2) == pytest.approx(expected)
