"""Contracts, manifests and calibrations with anything in them end as a value, or as an error that names the file and the field.

ROBOT_WM_FUZZ_BYTES sets how many damaged bytes each parser sees.
"""

import copy
import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bag_tools import robot_data
from calibration_samples import made
from fuzz_tools import damaged, fuzz_bytes, refusal, report
from robot_wm.bundle import Manifest, PlannerDefaults, load_bundle, parse_manifest
from robot_wm.calibration_file import BOUNDS
from robot_wm.calibration_file import parse as parse_calibration
from robot_wm.calibration_file import read as read_calibration
from robot_wm.contract import load_contract, parse_contract
from robot_wm.plain import plain

CONTRACT = robot_data(
    motor_hz=100,
    safety={"position": {"elbow": [-1, 1]}, "velocity": {"elbow": 2.0}, "voltage": [10, 12], "damping": [1, 2]},
    costs={"action": [1, 1], "disagreement": 0.5, "functions": {"package.module:cost": 1.0}},
    reward={"topic": "reward"},
    images=[{"name": "camera", "topic": "camera/image_raw", "shape": [64, 64, 3]}],
    calibration={"joints": {"file": "joints.yaml", "serial": "arm-7"}},
)
MANIFEST = plain(
    vars(Manifest("arm", "tdmpc2", "nano", 2, (0.5, 0.5), 0.99, "0123", files={"graphs/prior.onnx": "0" * 64}))
    | {"planner": vars(PlannerDefaults()), "parity": {"prior": 1e-6}, "metrics": {"return": 1.0}}
)
CALIBRATIONS = {kind: vars(made(kind, date="2024-05-01T10:00:00", unit=bound.unit)) for kind, bound in BOUNDS.items()}
KINDS = [("contract", CONTRACT, parse_contract), ("manifest", MANIFEST, parse_manifest)]
KINDS += [(kind, data, parse_calibration) for kind, data in CALIBRATIONS.items()]

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4)
leaves |= st.sampled_from([10**400, -(10**400), "elbow", "linear", "\0", "\ud800"])
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(leaves, inner, max_size=3))


def places(data, path=()):
    """Every place in plain data."""
    yield path
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def replaced(data, path, value):
    if not path:
        return value
    result = copy.deepcopy(data)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return result


@pytest.mark.parametrize(("name", "good", "parse"), KINDS, ids=[kind[0] for kind in KINDS])
@given(data=st.data())
def test_any_value_at_any_place_is_taken_or_refused_by_file_and_field(name, good, parse, data):
    path = data.draw(st.sampled_from(list(places(good))))
    changed = replaced(good, path, data.draw(anything))
    refused = refusal(parse, changed, "robot/file")
    if refused is not None:
        assert refused.startswith("robot/file: ")
        assert len(refused) < 1000
        assert len(path) != 1 or str(path[0]) in refused


def write_bundle(path, text):
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_bytes(text)
    load_bundle(path)


def writing(read):
    def write(path, text):
        path.write_bytes(text)
        read(path)

    return write


FILES = [
    ("contract", yaml.safe_dump(CONTRACT), writing(load_contract)),
    *((kind, yaml.safe_dump(data), writing(read_calibration)) for kind, data in CALIBRATIONS.items()),
    ("manifest", json.dumps(MANIFEST, indent=1), write_bundle),
]
WORDS = [b"[", b"{", b"]", b": ", b"\n", b"- ", b"&a ", b"*a", b"!!int ", b"1e999", b"2001-99-99", b"\xff", b"\0", b"|"]


@pytest.mark.timeout(600 + fuzz_bytes() // 5_000)
@pytest.mark.parametrize(("name", "text", "read"), FILES, ids=[item[0] for item in FILES])
def test_a_damaged_file_is_read_or_refused_by_its_name(name, text, read, tmp_path):
    rng = np.random.default_rng(0)
    good, path = text.encode(), tmp_path / "file"
    seen = taken = 0
    while seen < fuzz_bytes(8_000):
        data = bytearray(damaged(rng, good, every=400) if rng.random() < 0.5 else good)
        for at in rng.integers(0, len(data), int(rng.integers(0, 3))):
            data[at:at] = rng.choice(WORDS)
        refused = refusal(read, path, bytes(data))
        assert refused is None or str(path) in refused
        taken += refused is None
        seen += len(data)
    report(name, bytes=seen, taken=taken)


def test_what_is_damaged_here_is_good_before():
    for _, good, parse in KINDS:
        parse(good, "robot/file")
