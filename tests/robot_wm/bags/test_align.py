"""From a bag to episodes: by stamps, whatever the rates, the order of the joints and the gaps."""

import sys
import types

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bag_tools import JOINTS, MS, START, drive, drives, joint_state, record, robot, robot_data
from robot_wm.actions import normalise
from robot_wm.bags.align import Options, align, align_with_report, tensor_columns
from robot_wm.bags.episodes import Span, cut_gaps, event_spans
from robot_wm.bags.reader import open_bag
from robot_wm.bags.series import Policy
from robot_wm.contract import parse_contract
from robot_wm.errors import BagError, ContractError
from robot_wm.functions import load_function
from robot_wm.messages import Applied, Event, JointState, Measurement
from robot_wm.timebase import NS_PER_S

STEP = 20 * MS


@pytest.fixture(scope="module")
def two_seconds(tmp_path_factory):
    return record(tmp_path_factory.mktemp("bags") / "bag", drive(2.0), robot())


def test_an_episode_has_one_row_per_instant(two_seconds):
    [episode] = align(two_seconds, robot())
    assert (episode.start, episode.step, len(episode)) == (START, STEP, 101)
    assert episode.observation.shape == episode.target.shape == (101, 4)
    assert episode.mask.shape == episode.age.shape == (101, 2)
    assert episode.action.shape == (101, 2)
    assert all(
        getattr(episode, name).dtype == np.float32
        for name in ("observation", "mask", "age", "action", "reward", "target")
    )
    assert [event.kind for event in episode.events] == ["start", "end"]
    assert not episode.terminal
    assert episode.source == str(two_seconds)


def test_observations_are_the_measurements_at_the_instants(two_seconds):
    [episode] = align(two_seconds, robot())
    time = np.arange(101) / 50.0
    position = np.stack([np.sin(time), np.cos(time)], axis=1)
    assert np.allclose(episode.observation, np.concatenate([position, 10 * position], axis=1), atol=1e-5)
    assert np.array_equal(episode.target, episode.observation)
    assert episode.mask.all()
    assert not episode.age.any()


def test_actions_are_the_mean_of_what_was_applied_in_the_contracts_order(two_seconds):
    [episode] = align(two_seconds, robot())
    sent = np.array([m.values for topic, m in drive(2.0) if topic == "applied"])
    expected = normalise(robot(), sent).reshape(100, 2, 2).mean(axis=1)
    assert np.allclose(episode.action[:-1], expected, atol=1e-6)
    assert np.array_equal(episode.action[-1], episode.action[-2])


def test_a_reward_stamped_at_the_end_of_a_step_is_that_steps(two_seconds):
    [episode] = align(two_seconds, robot())
    assert np.allclose(episode.reward[:-1], np.arange(100) / 100.0)
    assert episode.reward[-1] == episode.reward[-2]


@given(st.permutations(JOINTS), st.permutations(("elbow", "shoulder")))
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_of_joints_in_messages_does_not_matter(tmp_path_factory, states, commands):
    contract = robot()
    data = robot_data()
    data["action"] = {"names": list(commands), "mode": "effort", "low": -9.0, "high": 9.0}
    recorder = parse_contract(data)
    limits = {name: i for i, name in enumerate(contract.action.names)}
    items = []
    for topic, message in drive(1.0):
        if topic == "joint_states":
            values = dict(zip(JOINTS, message.position, strict=True))
            message = joint_state(message.stamp, [values[name] for name in states], tuple(states))
        elif topic == "applied":
            message = Applied(message.stamp, message.values[[limits[name] for name in commands]], "plan:1")
        items.append((topic, message))
    folder = tmp_path_factory.mktemp("order")
    shuffled = align(record(folder / "a", items, recorder), contract, Options(any_contract=True))[0]
    plain = align(record(folder / "b", drive(1.0), contract), contract)[0]
    for name in ("observation", "action", "reward", "target"):
        assert np.array_equal(getattr(shuffled, name), getattr(plain, name))


def test_slow_and_irregular_measurements_leave_masked_instants_with_interpolated_targets(tmp_path):
    rng = np.random.default_rng(0)
    stamps = START + np.concatenate([[0], np.cumsum(rng.integers(15, 60, 40))]) * MS
    items = [("joint_states", joint_state(int(s), [(s - START) / NS_PER_S, 0.0])) for s in stamps]
    items += [("applied", Applied(int(s), np.zeros(2), "hold")) for s in stamps]
    contract = robot(reward={"topic": ""})
    [episode], report = align_with_report(record(tmp_path / "bag", items, contract), contract)
    assert 0.2 < report.masked["position"] < 0.8
    assert report.masked["position"] == pytest.approx(1.0 - episode.mask[:, 0].mean())
    assert (episode.observation[episode.mask[:, 0] == 0] == 0.0).all()
    inside = slice(0, len(episode) - 1)
    assert np.allclose(episode.target[inside, 0], np.arange(len(episode))[inside] * 0.02, atol=1e-5)
    seen = np.flatnonzero(episode.mask[:, 0])
    assert np.allclose(episode.observation[seen, 0] + episode.age[seen, 0] * 0.02, seen * 0.02, atol=1e-5)


def test_a_delayed_action_is_averaged_over_when_it_takes_effect(tmp_path):
    data = robot_data()
    bag = record(tmp_path / "bag", drive(1.0), robot())
    data["action"] = data["action"] | {"delay_s": 0.02}
    [late], [prompt] = align(bag, parse_contract(data)), align(bag, robot())
    # The episode begins once an action is known, one step later here; what was sent at 0 holds over its first step.
    assert late.start == prompt.start + STEP
    assert np.array_equal(late.action[:-1], prompt.action[:-2])
    assert np.array_equal(late.observation, prompt.observation[1:])


def test_episodes_follow_the_events_and_a_failure_is_terminal(tmp_path):
    items = drives([1.0, 1.0], marks=("start", "end")) + drives([])
    bag = record(tmp_path / "ends", items, robot())
    assert [(len(e), e.terminal) for e in align(bag, robot())] == [(51, False), (51, False)]
    bag = record(tmp_path / "fails", drives([1.0, 1.0], marks=("start", "failure")), robot())
    assert [e.terminal for e in align(bag, robot())] == [True, True]
    bag = record(tmp_path / "wins", drives([1.0], marks=("start", "success")), robot())
    assert [e.terminal for e in align(bag, robot())] == [False]


def test_without_events_silence_splits(tmp_path):
    bag = record(tmp_path / "bag", drives([1.0, 0.5], marks=None), robot())
    assert [len(e) for e in align(bag, robot())] == [51, 26]
    assert [len(e) for e in align(bag, robot(), Options(gap_s=5.0))] == [126]


def test_a_silence_inside_an_episode_splits_it_and_only_the_last_part_fails(tmp_path):
    items = [
        (topic, message)
        for topic, message in drive(2.0, marks=("start", "failure"))
        if topic == "event" or not START + NS_PER_S < message.stamp < START + 3 * NS_PER_S // 2
    ]
    episodes = align(record(tmp_path / "bag", items, robot()), robot())
    assert [(len(e), e.terminal) for e in episodes] == [(51, False), (26, True)]


def test_a_piece_too_short_for_a_step_is_left_out_and_reported(tmp_path):
    items = drives([1.0]) + [("joint_states", joint_state(START + 9 * NS_PER_S, [0.0, 0.0]))]
    items = [item for item in items if item[0] != "event"]
    items.append(("applied", Applied(START + 9 * NS_PER_S, np.zeros(2), "hold")))
    episodes, report = align_with_report(record(tmp_path / "bag", items, robot()), robot())
    assert len(episodes) == report.episodes == 1
    assert report.skipped == {"shorter than two model steps": 1}


def test_a_bag_with_nothing_to_learn_from_says_why(tmp_path):
    items = [("joint_states", joint_state(START, [0.0, 0.0])), ("applied", Applied(START, np.zeros(2), "hold"))]
    bag = record(tmp_path / "bag", items, robot())
    with pytest.raises(BagError, match="no episode of two model steps or more in it .1 shorter than two model steps"):
        align(bag, robot(reward={"topic": ""}))


def test_the_report_tells_rates_gaps_and_delays(tmp_path):
    items = [(topic, m, m.stamp + 7 * MS if topic == "joint_states" else m.stamp + 8 * MS) for topic, m in drive(2.0)]
    _, report = align_with_report(record(tmp_path / "bag", items, robot()), robot())
    position = report.streams["position"]
    assert (position.topic, position.count) == ("/joint_states", 201)
    assert position.rate_hz == pytest.approx(100.0)
    assert position.longest_gap_s == pytest.approx(0.01)
    assert position.delay_ms_p50 == pytest.approx(7.0, abs=1.1)
    assert report.streams["reward"].rate_hz == pytest.approx(50.0)
    assert (report.rows, report.seconds) == (101, pytest.approx(2.0))
    assert report.beyond_range == 0.0


def test_actions_beyond_the_contracts_range_are_reported(tmp_path):
    data = robot_data()
    data["action"] = data["action"] | {"low": [-1.0, -4.0], "high": [1.0, 4.0]}
    bag = record(tmp_path / "bag", drive(1.0), robot())
    _, report = align_with_report(bag, parse_contract(data), Options(any_contract=True))
    assert 0.1 < report.beyond_range < 0.4


def test_another_contract_is_refused_by_the_field_that_differs(two_seconds):
    with pytest.raises(ContractError, match=r"was made for another contract: model_hz: 25.0 != 50.0"):
        align(two_seconds, robot(model_hz=25.0))
    assert len(align(two_seconds, robot(model_hz=25.0), Options(any_contract=True))[0]) == 51


def test_a_shifted_grid_samples_the_same_motion_in_between(two_seconds):
    [plain], [shifted] = align(two_seconds, robot()), align(two_seconds, robot(), Options(phase=0.5))
    assert shifted.start == plain.start + STEP // 2
    assert len(shifted) in (100, 101)
    time = (shifted.start - START) / NS_PER_S + np.arange(len(shifted)) / 50.0
    assert np.allclose(shifted.target[:-1, 0], np.sin(time)[:-1], atol=1e-5)


def test_a_missing_reward_names_the_way_out(tmp_path):
    items = [item for item in drive(1.0) if item[0] != "reward"]
    with pytest.raises(BagError, match=r"no reward topic 'reward'; there are .*; name a reward\.function"):
        align(record(tmp_path / "bag", items, robot()), robot())


def test_without_any_reward_the_motion_alone_is_aligned(tmp_path):
    items = [item for item in drive(1.0) if item[0] != "reward"]
    [episode] = align(record(tmp_path / "bag", items, robot()), robot(reward={"topic": ""}))
    assert not episode.reward.any()


@pytest.fixture
def rewards(monkeypatch):
    module = types.ModuleType("my_rewards")
    module.upright = lambda observation, action, contract: observation[:, 1] - 0.01 * (action**2).sum(axis=1)
    module.broken = lambda observation, action, contract: observation
    module.number = 3
    monkeypatch.setitem(sys.modules, "my_rewards", module)


def test_a_reward_function_relabels_from_numbers_in_si_units(two_seconds, rewards):
    [episode] = align(two_seconds, robot(reward={"function": "my_rewards:upright"}))
    action = episode.action[:-1] * [2.0, 4.0]
    expected = episode.target[:-1, 1] - 0.01 * (action**2).sum(axis=1)
    assert np.allclose(episode.reward[:-1], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("my_rewards:broken", r"must return 100 finite numbers, one per step; got shape \(100, 4\)"),
        ("my_rewards:missing", "my_rewards has no function 'missing'"),
        ("my_rewards:number", "is no function"),
        ("no_such_module:f", "no_such_module cannot be imported"),
    ],
)
def test_a_reward_function_that_does_not_work_is_named(two_seconds, rewards, name, match):
    with pytest.raises(ContractError, match=match):
        align(two_seconds, robot(reward={"function": name}))


def test_load_function_finds_what_is_there():
    assert load_function("math:hypot")(3, 4) == 5


def test_observations_that_share_a_tensor_are_its_components_in_contract_order(tmp_path):
    tensor = {"topic": "task_observation", "field": "data"}
    data = robot_data(reward={"topic": ""})
    data["observations"] = [
        {"name": "target", "names": ["x", "y"], **tensor},
        data["observations"][0],
        {"name": "touch", "names": ["z"], **tensor},
    ]
    contract = parse_contract(data)
    assert tensor_columns(contract) == {"target": slice(0, 2), "touch": slice(2, 3)}
    values = np.array([1.0, 2.0, 3.0])
    items = []
    for topic, message in drive(1.0):
        items.append((topic, message))
        if topic == "joint_states":
            items.append(("task_observation", Measurement("task", message.stamp, values)))
    [episode] = align(record(tmp_path / "bag", items, contract), contract)
    assert np.array_equal(episode.observation[:, [0, 1, 4]], np.tile(values, (51, 1)).astype(np.float32))


def test_a_nan_stops_alignment_unless_dropping_was_asked_for(tmp_path):
    items = drive(1.0)
    at = next(i for i, (topic, _) in enumerate(items) if topic == "joint_states" and i > 50)
    items[at] = ("joint_states", joint_state(items[at][1].stamp, [float("nan"), 0.0]))
    bag = record(tmp_path / "bag", items, robot())
    with pytest.raises(BagError, match="position of shoulder is nan"):
        align(bag, robot())
    [episode], report = align_with_report(bag, robot(), Options(policy=Policy(nan="drop")))
    assert np.isfinite(episode.observation).all()
    assert report.streams["position"].left_out == {"not finite": 1}


def test_a_missing_joint_of_the_action_lists_those_there(tmp_path):
    names = ("wrist", "shoulder")
    items = [("joint_states", joint_state(START + i * STEP, [0, 0])) for i in range(50)]
    items += [("applied", JointState(START, names, np.zeros(0), np.zeros(0), np.zeros(2)))]
    with pytest.raises(BagError, match="/applied: no joint elbow; there are wrist, shoulder"):
        align(record(tmp_path / "bag", items), robot(reward={"topic": ""}))


@pytest.mark.parametrize(("mode", "lengths"), [("effort", [151]), ("position", [51, 26])])
def test_time_in_which_no_motor_followed_is_no_episode_unless_zero_effort_describes_it(tmp_path, mode, lengths):
    """Unpowered from 1 s to 2.5 s."""
    data = robot_data(reward={"topic": ""})
    data["action"] = data["action"] | {"mode": mode}
    contract = parse_contract(data)
    items = []
    for topic, message in drive(3.0, marks=None):
        if topic == "applied" and NS_PER_S <= message.stamp - START < 5 * NS_PER_S // 2:
            message = Applied(message.stamp, np.zeros(2), "disarmed", driven=False)
        items.append((topic, message))
    assert [len(e) for e in align(record(tmp_path / "bag", items, contract), contract)] == lengths


def event(at, kind):
    return Event(at, kind)


def test_spans_of_events():
    assert event_spans([], 0, 100) == [Span(0, 100)]
    assert event_spans([event(50, "mark")], 0, 100) == [Span(0, 100)]
    assert event_spans([event(10, "start"), event(40, "failure"), event(60, "start")], 0, 100) == [
        Span(10, 40, True),
        Span(60, 100),
    ]
    # Two starts in a row: the first episode ended without anyone saying how.
    assert event_spans([event(10, "start"), event(40, "start"), event(60, "end")], 0, 100) == [
        Span(10, 40),
        Span(40, 60),
    ]
    # Nobody marks starts: an episode begins where the last one ended.
    assert event_spans([event(40, "success"), event(80, "failure")], 0, 100) == [
        Span(0, 40),
        Span(40, 80, True),
        Span(80, 100),
    ]
    assert event_spans([event(100, "end")], 0, 100) == [Span(0, 100)]


def test_gaps_are_cut_out_of_spans_and_the_end_of_a_stream_ends_an_episode():
    stamps = np.concatenate([np.arange(0, 1000, 10), np.arange(2000, 3000, 10)]) * MS
    spans = cut_gaps([Span(500 * MS, 5000 * MS, terminal=True)], stamps, gap_s=0.25)
    assert spans == [Span(500 * MS, 1240 * MS), Span(2000 * MS, 3240 * MS)]
    assert cut_gaps([Span(500 * MS, 2500 * MS, True)], stamps, 0.25)[-1] == Span(2000 * MS, 2500 * MS, True)


def test_a_stream_that_is_always_slow_is_not_a_gap():
    stamps = np.arange(0, 10) * NS_PER_S
    assert cut_gaps([Span(0, 9 * NS_PER_S)], stamps, gap_s=0.25) == [Span(0, 9 * NS_PER_S)]


def test_a_bag_can_be_given_open_or_by_path(two_seconds):
    assert len(align(open_bag(two_seconds), robot())) == len(align(str(two_seconds), robot())) == 1


def test_a_bag_of_our_own_recorder_is_read_under_a_contract_drafted_from_foreign_logs(two_seconds):
    foreign = robot(action=robot_data()["action"] | {"topic": "joint_commands"})
    (episode,) = align(two_seconds, foreign)
    (expected,) = align(two_seconds, robot())
    assert np.array_equal(episode.action, expected.action)
