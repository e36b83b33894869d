"""`trust.yaml`: part of a bundle and of its id, optional, and refused with the field that is wrong."""

import pytest
import yaml

from conftest import slider_contract
from robot_wm.bundle import load_bundle, write_bundle
from robot_wm.errors import BundleError
from robot_wm.trust import Scale, Tail
from robot_wm.trust_file import NAME, Modality, TrustSpec, load_trust, parse_trust, save_trust
from test_bundle import cart, filler, manifest_for

TAIL = Tail(2.5, 12.0, 30.0)
USUAL = {"motion": [1.0], "error": [[0.1]]}
SPEC = TrustSpec(
    {"position": Modality({1: Scale((0.1, 1.0), ((0.1,), (0.2,))), 10: Scale((0.5,), ((0.4,),))}, TAIL, 0.06, TAIL)},
    10,
    provenance={"bags": {"a": "ff"}},
)


@pytest.fixture
def bundle(tmp_path):
    contract = cart()
    return write_bundle(tmp_path / "cart", manifest_for(contract), filler(contract))


def test_a_bundle_without_one_has_no_ladder(bundle):
    assert load_trust(bundle) is None


def test_it_comes_back_as_it_was_written_and_changes_the_bundles_id(bundle):
    written = save_trust(bundle.path, SPEC)
    assert load_trust(written) == SPEC
    assert written.bundle_id != bundle.bundle_id
    assert {name: d for name, d in written.manifest.files.items() if name != NAME} == bundle.manifest.files
    assert load_trust(save_trust(bundle.path, SPEC)) == SPEC  # again, over the old one


def test_a_bundle_whose_trust_was_altered_is_refused(bundle):
    save_trust(bundle.path, SPEC)
    with (bundle.path / NAME).open("a") as file:
        file.write("# lower\n")
    with pytest.raises(BundleError, match=r"trust\.yaml does not match its digest"):
        load_bundle(bundle.path)


def data(**changes):
    tail = {"usual": 2.5, "limit": 12.0, "rare": 30.0}
    position = {"scale": {1: USUAL}, "innovation": tail, "blind": tail, "silent_s": 0.06}
    return {"format": 2, "modalities": {"position": position}, "blind_steps": 10, **changes}


def with_position(**changes):
    given = data()
    given["modalities"]["position"] |= changes
    return given


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (data(format=1), "format: must be 2; fit it again with `robot-wm trust fit`"),
        (data(modalities={}), "modalities: must be position, got none"),
        (data(verdict=1), "verdict: unknown field"),
        (data(steps={"up": [2.0, 1.0, 4.0]}), "steps.up: must not fall"),
        (with_position(scale={"one": USUAL}), "modalities.position.scale: must be a table from model steps to errors"),
        (with_position(scale={1: {"motion": [1.0], "error": [[0.0]]}}), r"scale.1.error\[0\]\[0\]: must be above 0"),
        (with_position(scale={1: {"motion": [1.0], "error": [[1, 2]]}}), r"scale.1.error\[0\]: must have 1 entries"),
        (with_position(scale={1: {"motion": [2.0, 1.0], "error": [[1], [1]]}}), "scale.1: must have ascending motions"),
        (with_position(blind=None), "modalities.position.blind: is missing"),
        (with_position(innovation={"usual": 1.0}), "modalities.position.innovation.limit: is missing"),
        (
            with_position(innovation={"usual": 2.0, "limit": 2.0, "rare": 1.0}),
            r"modalities.position.innovation.limit: must be above usual \(2\)",
        ),
        ([], "must be a table with named fields"),
    ],
)
def test_a_malformed_one_is_refused_by_field(given, says):
    with pytest.raises(BundleError, match=says):
        parse_trust(given, cart())


def test_an_image_has_no_blind_prediction():
    contract = slider_contract(images=[{"name": "eye", "topic": "eye", "shape": [8, 8, 1]}])
    tail = {"usual": 2.5, "limit": 12.0, "rare": 30.0}
    joint = {"scale": {1: USUAL}, "innovation": tail, "blind": tail, "silent_s": 0.06}
    eye = {"scale": {2: USUAL}, "innovation": tail, "silent_s": 0.14, "frozen": 3, "oldest_s": 0.12}
    given = {"format": 2, "modalities": {"position": joint, "velocity": joint, "eye": eye}, "blind_steps": 10}
    assert parse_trust(given, contract).modalities["eye"].frozen == 3
    assert parse_trust(given, contract).modalities["eye"].oldest_s == 0.12
    eye["blind"] = tail
    with pytest.raises(BundleError, match=r"modalities\.eye\.blind: is nothing for an image"):
        parse_trust(given, contract)


def test_it_is_plain_yaml(bundle):
    save_trust(bundle.path, SPEC)
    read = yaml.safe_load((bundle.path / NAME).read_text())
    assert read["modalities"]["position"]["scale"] == {
        1: {"motion": [0.1, 1.0], "error": [[0.1], [0.2]]},
        10: {"motion": [0.5], "error": [[0.4]]},
    }
