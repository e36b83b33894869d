"""Images in the contract: named errors, a place behind the observations, and nothing changed for contracts without them."""

from pathlib import Path

import pytest

from bag_tools import robot, robot_data
from robot_wm.bundle import load_bundle
from robot_wm.contract import load_contract, parse_contract
from robot_wm.contract_commands import describe
from robot_wm.contract_images import ImageObservation
from robot_wm.errors import ContractError

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo"
IMAGE = {"name": "wrist", "topic": "camera/image_raw", "shape": [48, 64, 3], "rate_hz": 25, "delay_s": 0.08}


def seeing(*images, **changes):
    return robot(images=[IMAGE | image for image in images or ({},)], **changes)


def test_an_image_is_read_with_defaults_filled_in():
    assert seeing().images == (ImageObservation("wrist", "camera/image_raw", (48, 64, 3), 25.0, 0.08, 0.5),)
    assert robot().images == ()


def test_a_contract_with_images_survives_its_file(tmp_path):
    contract = seeing()
    contract.save(tmp_path / "contract.yaml")
    again = load_contract(tmp_path / "contract.yaml")
    assert again == contract
    assert again.hash == contract.hash


def test_the_mask_has_the_images_last():
    contract = seeing({}, {"name": "front", "topic": "front"})
    assert contract.modalities == ("position", "velocity", "wrist", "front")
    assert robot().modalities == ("position", "velocity")


def test_a_bag_must_hold_the_image_topics_too():
    assert seeing().topics() == ("joint_states", "applied", "reward", "camera/image_raw")
    assert seeing().numeric_topics() == robot().topics()


@pytest.mark.parametrize("name", ["cartpole_swingup", "reacher_easy"])
def test_released_bundles_still_load(name):
    bundle = load_bundle(ZOO / name)
    assert bundle.contract.hash == bundle.manifest.contract_hash
    assert "images" not in bundle.contract.to_dict()
    assert "images" not in bundle.contract.model_facing()


@pytest.mark.parametrize("change", [{"name": "front"}, {"shape": [48, 48, 3]}])
def test_the_hash_covers_what_a_model_sees(change):
    other = seeing(change)
    assert other.hash != seeing().hash
    assert seeing().differences(other)[0].startswith(f"images[0].{next(iter(change))}: ")


@pytest.mark.parametrize("change", [{"topic": "eye"}, {"rate_hz": 15}, {"delay_s": 0.1}, {"stale_s": 1.0}])
def test_where_images_come_from_and_when_may_change_without_retraining(change):
    assert seeing(change).hash == seeing().hash


def test_a_model_without_eyes_is_refused_by_name():
    with pytest.raises(ContractError, match=r"bundle x was made for another contract: images: \[.*'wrist'.*\] != None"):
        seeing().require_same(robot(), "bundle x")


WRONG = [
    ({"name": "position"}, r"images\[0\].name: position is taken by another observation"),
    ({"name": "wrist cam"}, r"images\[0\].name: must be letters, digits and underscores, got 'wrist cam'"),
    ({"shape": [48, 48]}, r"images\[0\].shape: must be \[height, width, channels\] in whole numbers, got \[48, 48\]"),
    ({"shape": [48.0, 48, 3]}, r"images\[0\].shape: must be \[height, width, channels\] in whole numbers"),
    (
        {"shape": [4, 48, 3]},
        r"images\[0\].shape: must be 8 pixels or more a side with 1 or 3 channels, got \[4, 48, 3\]",
    ),
    ({"shape": [48, 48, 4]}, r"images\[0\].shape: must be 8 pixels or more a side with 1 or 3 channels"),
    ({"rate_hz": -1}, r"images\[0\].rate_hz: must be at least 0, got -1"),
    ({"stale_s": 0}, r"images\[0\].stale_s: must be above 0, got 0"),
    ({"depth": True}, r"images\[0\].depth: unknown field"),
    ({"topic": "joint_states"}, r"images: topic joint_states carries an observation already"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_every_error_names_the_field(change, message):
    with pytest.raises(ContractError, match=message):
        seeing(change)


def test_two_images_of_one_name_are_refused():
    with pytest.raises(ContractError, match=r"images\[1\].name: wrist is taken"):
        seeing({}, {"topic": "other"})


def test_a_mirrored_robot_has_no_images():
    action = robot_data()["action"] | {"low": [-2.0, -4.0], "high": [2.0, 4.0]}
    with pytest.raises(ContractError, match="images: must be empty for a mirrored robot"):
        seeing(mirrored=True, action=action)


def test_an_unknown_image_is_told_with_those_that_are_there():
    with pytest.raises(ContractError, match="no image 'front'; it has wrist"):
        seeing().image("front")
    with pytest.raises(ContractError, match="no image 'front'; it has none"):
        robot().image("front")


def test_show_tells_of_images():
    assert describe(seeing())["images"] == {"wrist": "48x64x3 of camera/image_raw, 25 Hz, delay 80 ms"}


def test_images_must_be_a_list():
    with pytest.raises(ContractError, match="images: must be a list"):
        parse_contract(robot_data(images={"wrist": IMAGE}))
