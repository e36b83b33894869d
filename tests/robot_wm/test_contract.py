"""The contract: every error names its field, the hash covers what a model depends on and nothing else."""

import copy
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bag_tools import robot, robot_data
from robot_wm.contract import Contract, load_contract, parse_contract, tighten
from robot_wm.contract_calibration import CalibrationEntry
from robot_wm.errors import ContractError

names = st.text("abcdefghij_", min_size=1, max_size=8)
finite = st.floats(-1e6, 1e6, allow_nan=False)
positive = st.floats(1e-3, 1e3)


@st.composite
def contracts(draw):
    """Any valid contract, as plain data."""
    observations = []
    for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        joints = draw(st.lists(names, min_size=1, max_size=4, unique=True))
        size = len(joints)
        several = st.lists(finite, min_size=size, max_size=size)
        observations.append(
            {
                "name": name,
                "topic": draw(names),
                "field": draw(st.sampled_from(["position", "velocity", "effort", "data"])),
                "names": joints,
                "encoding": draw(st.lists(st.sampled_from(["linear", "angle"]), min_size=size, max_size=size)),
                "mean": draw(several),
                "scale": draw(st.lists(positive, min_size=size, max_size=size)),
                "anchored": draw(st.booleans()),
            }
        )
    joints = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    low = [draw(finite) for _ in joints]
    action = {
        "names": joints,
        "mode": draw(st.sampled_from(["position", "velocity", "effort"])),
        "low": low,
        "high": [value + draw(st.floats(1.0, 100.0)) for value in low],
    }
    return {"name": draw(names), "model_hz": draw(positive), "observations": observations, "action": action}


@given(contracts())
@settings(deadline=None, max_examples=50)
def test_a_contract_survives_its_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("contract") / "contract.yaml"
    contract = parse_contract(data)
    contract.save(path)
    again = load_contract(path)
    assert again == contract
    assert again.hash == contract.hash
    assert contract.differences(again) == []


@given(contracts())
@settings(deadline=None, max_examples=50)
def test_slices_tile_the_raw_vector(data):
    contract = parse_contract(data)
    covered = np.zeros(contract.observation_size, int)
    for part in contract.slices().values():
        covered[part] += 1
    assert (covered == 1).all()
    angles = sum(kind == "angle" for o in contract.observations for kind in o.encoding)
    assert contract.feature_size == contract.observation_size + angles


def changed(path, value):
    """The arm's contract as plain data with one field set; `path` such as `observations.0.topic`."""
    data = copy.deepcopy(robot_data())
    *parents, last = path.split(".")
    table = data
    for key in parents:
        table = table[int(key)] if isinstance(table, list) else table.setdefault(key, {})
    table[int(last) if isinstance(table, list) else last] = value
    return data


FACING = {
    "model_hz": 25.0,
    "observations.0.name": "angles",
    "observations.0.field": "effort",
    "observations.0.names": ["elbow", "shoulder"],
    "observations.0.unit": ["deg", "deg"],
    "observations.0.encoding": ["angle", "linear"],
    "observations.0.mean": [0.0, 1.0],
    "observations.0.scale": [2.0, 1.0],
    "observations.0.anchored": True,
    "action.names": ["shoulder", "elbow"],
    "action.mode": "velocity",
    "action.unit": ["Nm", "Nm"],
    "action.low": [-3.0, -4.0],
    "action.high": [2.0, 5.0],
}
NOT_FACING = {
    "name": "another",
    "motor_hz": 400.0,
    "episode_s": 3.0,
    "observations.0.topic": "robot/joint_states",
    "observations.0.rate_hz": 500.0,
    "observations.0.delay_s": 0.01,
    "observations.0.stale_s": 0.5,
    "action.topic": "commands",
    "action.delay_s": 0.02,
    "action.limit_low": [-1.0, -1.0],
    "action.limit_high": [1.0, 1.0],
    "action.rate": [10.0, 10.0],
    "action.jerk": [100.0, 100.0],
    "safety.position": {"elbow": [-1.0, 1.0]},
    "safety.velocity": {"elbow": 3.0},
    "safety": {"position": {"elbow": [-1.0, 1.0]}, "soft": {"elbow": 0.1}},
    "safety.workspace": {"function": "robot:tip", "low": [-1.0, -1.0, 0.0], "high": [1.0, 1.0, 1.0]},
    "safety.plan_stale_s": 0.3,
    "safety.voltage": [11.0, 13.0],
    "calibration": {"joints": {"file": "joints.yaml", "serial": "ARM-7"}},
    "reward.topic": "score",
    "costs.action": [0.1, 0.0],
    "costs.change": [0.0, 0.2],
    "costs.disagreement": 0.5,
    "costs.functions": {"models.costs:joint_limits": 2.0},
    "mirrored": True,
}


@pytest.mark.parametrize(("path", "value"), FACING.items())
def test_the_hash_covers_what_a_model_depends_on_and_the_refusal_names_it(path, value):
    other = parse_contract(changed(path, value))
    assert other.hash != robot().hash
    top, *rest = path.split(".")
    field = f"observations[0].{rest[1]}" if top == "observations" else path
    assert [d.split(":")[0] for d in robot().differences(other)] == [field]
    with pytest.raises(ContractError) as refusal:
        robot().require_same(other, "bundle x")
    assert str(refusal.value).startswith("bundle x was made for another contract: ")
    assert field in str(refusal.value)


@pytest.mark.parametrize(("path", "value"), NOT_FACING.items())
def test_what_a_model_does_not_depend_on_may_change_without_retraining(path, value):
    other = parse_contract(changed(path, value))
    assert other != robot()
    assert other.hash == robot().hash
    robot().require_same(other, "bundle x")


def test_every_field_is_either_model_facing_or_not():
    """A new field must be put on one side: this fails until it is named above."""
    data = robot().to_dict()
    known = {path.replace(".0.", ".") for path in (*FACING, *NOT_FACING)}
    tables = {"": data, "observations.": data["observations"][0], "action.": data["action"]}
    fields = {prefix + key for prefix, table in tables.items() for key in table}
    assert fields - known - {"observations", "action", "safety", "reward", "costs", "action.field"} == set()
    # `images` is absent while it is empty: tests/robot_wm/test_contract_images.py
    assert {f.name for f in dataclasses.fields(Contract)} - set(data) == {"images"}


def test_a_missing_observation_is_a_difference():
    shorter = parse_contract(robot_data(observations=robot_data()["observations"][:1]))
    assert [d.split(":")[0] for d in robot().differences(shorter)] == ["observations"]


def test_the_hash_is_the_same_in_every_process_and_for_ever():
    """Bundles and bags carry it: a change of this number makes every one of them unusable."""
    code = "import sys; sys.path.insert(0, 'tests/robot_wm'); from bag_tools import robot; print(robot().hash)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == robot().hash == "d77adb6b32bf1a69"


def test_whole_numbers_and_fractions_hash_alike():
    assert parse_contract(changed("model_hz", 50)).hash == parse_contract(changed("model_hz", 50.0)).hash
    assert parse_contract(changed("action.low", [-2, -4])).hash == robot().hash


def test_one_number_stands_for_all_joints():
    assert parse_contract(changed("observations.0.scale", 2.0)).observations[0].scale == (2.0, 2.0)
    assert parse_contract(changed("observations.0.encoding", "angle")).observations[0].encoding == ("angle", "angle")


def test_defaults_are_filled_in():
    contract = robot()
    assert contract.motor_hz == 100.0
    assert contract.action.limit_low == contract.action.low
    assert contract.action.rate == contract.action.jerk == ()
    assert contract.topics() == ("joint_states", "applied", "reward")
    assert robot(reward={"function": "my.rewards:upright"}).topics() == ("joint_states", "applied")
    assert robot(reward={"topic": ""}).topics() == ("joint_states", "applied")


WRONG = [
    ("name", 3, "name: must be text, got 3"),
    ("model_hz", 0, "model_hz: must be above 0, got 0"),
    ("model_hz", "fast", "model_hz: must be a finite number, got 'fast'"),
    ("model_hz", float("nan"), "model_hz: must be a finite number, got nan"),
    ("model_hz", True, "model_hz: must be a finite number, got True"),
    ("motor_hz", -1, "motor_hz: must be above 0, got -1"),
    ("episode_s", [], "episode_s: must be a finite number"),
    ("observations", [], "observations: at least one is needed"),
    ("observations", "all", "observations: must be a list"),
    ("observations.0", 5, r"observations\[0\]: must be a table"),
    ("observations.1.name", "position", "observations: names must differ, got position, position"),
    ("observations.0.topic", None, r"observations\[0\].topic: must be text"),
    ("observations.0.field", "torque", r"observations\[0\].field: must be one of position, velocity, effort, data"),
    ("observations.0.names", [], r"observations\[0\].names: must be a list of different names"),
    ("observations.0.names", ["a", "a"], r"observations\[0\].names: must be a list of different names"),
    ("observations.0.unit", ["rad"], r"observations\[0\].unit: must have 2 entries \(one per name\), got 1"),
    ("observations.0.encoding", "polar", r"observations\[0\].encoding: must be one of linear, angle"),
    ("observations.0.mean", [0, "x"], r"observations\[0\].mean\[1\]: must be a finite number"),
    ("observations.0.scale", [1, 0], r"observations\[0\].scale\[1\]: must be above 0"),
    ("observations.0.rate_hz", -1, r"observations\[0\].rate_hz: must be at least 0"),
    ("observations.0.delay_s", -0.1, r"observations\[0\].delay_s: must be at least 0"),
    ("observations.0.stale_s", 0, r"observations\[0\].stale_s: must be above 0"),
    ("observations.0.anchored", "yes", r"observations\[0\].anchored: must be true or false"),
    ("observations.0.colour", "red", r"observations\[0\].colour: unknown field; known are anchored, delay_s"),
    ("action.mode", "torque", "action.mode: must be one of position, velocity, effort"),
    ("action.low", [2.0, -4.0], r"action.low: 2.0 of elbow must be below action.high 2.0"),
    ("action.low", [-2.0], r"action.low: must have 2 entries"),
    ("action.limit_high", [3.0, 4.0], "action.limit_low/limit_high: .* of elbow must lie within low..high"),
    ("action.field", "torque", "action.field: must be one of"),
    ("action.delay_s", -1, "action.delay_s: must be at least 0"),
    ("action.rate", [1.0, 0.0], r"action.rate\[1\]: must be above 0"),
    ("action.jerk", [1.0], r"action.jerk: must have 2 entries"),
    ("action.jerk", -1.0, r"action.jerk\[0\]: must be above 0"),
    ("action.speed", 1, "action.speed: unknown field"),
    ("safety.position", {"elbow": [1, -1]}, r"safety.position.elbow: 1.0 must be below -1.0"),
    ("safety.position", {"elbow": [1]}, "safety.position.elbow: must have 2 entries"),
    ("safety.velocity", {"elbow": 0}, "safety.velocity.elbow: must be above 0"),
    (
        "safety.workspace",
        {"function": "a:b", "low": [0, 0, 1], "high": [1, 1, 1]},
        "safety.workspace: low must be below high",
    ),
    ("safety.workspace", {"function": "a:b", "low": [0, 0], "high": [1, 1, 1]}, r"safety.workspace.low"),
    ("safety.soft", {"knee": 0.1}, "safety.soft.knee: has no bound to be near to"),
    ("safety.plan_stale_s", 0, "safety.plan_stale_s: must be above 0"),
    ("safety.joint_stale_s", 0, "safety.joint_stale_s: must be above 0"),
    ("safety.hold_s", "x", "safety.hold_s: must be a finite number"),
    ("safety.damping", ["x"], r"safety.damping\[0\]: must be a finite number"),
    ("safety.hold_effort", [None], r"safety.hold_effort\[0\]: must be a finite number"),
    ("safety.extra", 1, "safety.extra: unknown field"),
    ("reward.function", "my.module.f", "reward.function: 'my.module.f' must read package.module:function"),
    ("reward.topic", 1, "reward.topic: must be text"),
    ("mirrored", "both", "mirrored: must be true or false"),
    ("extra", 1, "extra: unknown field"),
]


@pytest.mark.parametrize(("path", "value", "match"), WRONG, ids=[f"{p}={v!r}"[:40] for p, v, _ in WRONG])
def test_every_mistake_is_told_by_the_name_of_its_field(path, value, match):
    with pytest.raises(ContractError, match=f"^arm.yaml: {match}"):
        parse_contract(changed(path, value), "arm.yaml")


@pytest.mark.parametrize("path", ["name", "model_hz", "observations", "action", "observations.0.names", "action.low"])
def test_a_missing_field_is_named(path):
    data = copy.deepcopy(robot_data())
    *parents, last = path.split(".")
    table = data
    for key in parents:
        table = table[int(key)] if isinstance(table, list) else table[key]
    del table[last]
    with pytest.raises(ContractError, match="is missing") as error:
        parse_contract(data, "arm.yaml")
    assert path.replace(".0", "[0]") in str(error.value)


def test_a_mirrored_robot_must_be_centred():
    with pytest.raises(ContractError, match=r"observations\[0\].mean: must be 0 for a mirrored robot"):
        parse_contract(changed("observations.0.mean", 1.0) | {"mirrored": True})
    with pytest.raises(ContractError, match="action.low: must be minus action.high for a mirrored robot"):
        parse_contract(changed("action.low", [-1.0, -4.0]) | {"mirrored": True})


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(ContractError, match="nothing.yaml: cannot be read: No such file"):
        load_contract(tmp_path / "nothing.yaml")
    for text, match in (
        ("a: [1", "is not YAML"),
        ("- 1", "must be a table"),
        ("", "must be a table"),
        ("\x00", "is not YAML"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ContractError, match=f"bad.yaml: .*{match}|bad.yaml: {match}"):
            load_contract(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ContractError, match="is not YAML"):
        load_contract(tmp_path / "bad.yaml")


def test_an_unknown_observation_lists_those_there_are():
    assert robot().observation("velocity").field == "velocity"
    with pytest.raises(ContractError, match="no observation 'touch'; it has position, velocity"):
        robot().observation("touch")


def test_limits_may_only_be_tightened():
    tight = tighten(robot(), (-1.0, -1.0), (1.0, 1.0))
    assert tight.action.limit_high == (1.0, 1.0)
    assert tight.hash == robot().hash
    with pytest.raises(ContractError, match="limits may only be tightened"):
        tighten(robot(), (-9.0, -1.0), (1.0, 1.0))


def test_calibration_files_are_looked_for_beside_the_contract_wherever_it_is_read_from(tmp_path, monkeypatch):
    path = tmp_path / "robot" / "contract.yaml"
    path.parent.mkdir()
    path.write_text(
        yaml.safe_dump(changed("calibration", {"delay": {"file": "calibration/delay.yaml", "stale_days": 30}}))
    )
    monkeypatch.chdir(tmp_path / "robot")
    entry = load_contract("contract.yaml").calibration["delay"]
    assert entry == CalibrationEntry(str(path.parent / "calibration" / "delay.yaml"), "", 30.0)
    absolute = changed("calibration.delay", {"file": "/etc/robot/delay.yaml"})
    assert parse_contract(absolute, folder=tmp_path).calibration["delay"].file == "/etc/robot/delay.yaml"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "calibration.legs",
            {"file": "l.yaml"},
            r"calibration\.legs: is no kind of calibration; there are joints, camera",
        ),
        ("calibration.joints", "j.yaml", r"calibration\.joints: must be a table"),
        ("calibration.joints", {}, r"calibration\.joints\.file: is missing"),
        ("calibration.joints", {"file": " "}, r"calibration\.joints\.file: is empty"),
        ("calibration.joints", {"file": "j", "stale": 1}, r"calibration\.joints\.stale: unknown field; known are file"),
        ("calibration.joints", {"file": "j", "stale_days": 0}, r"calibration\.joints\.stale_days: must be above 0"),
        ("calibration.camera", {"file": "c"}, r"calibration\.camera\.serial: is missing; no motor bus tells"),
        ("safety.voltage", [13.0], r"safety\.voltage: must be \[lowest, highest\] in V"),
        ("safety.voltage", [13.0, 11.0], r"safety\.voltage: must be \[lowest, highest\] in V"),
    ],
)
def test_what_arming_asks_for_is_validated_by_name(path, value, message):
    with pytest.raises(ContractError, match=message):
        parse_contract(changed(path, value))
