"""What may arm a robot and what may not; a bad field is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.files import write
from calibration_samples import VALUES, made
from robot_wm.calibration_file import BOUNDS, parse, read, require_fit
from robot_wm.errors import CalibrationError


@pytest.mark.parametrize(
    ("file", "kind", "serial", "message"),
    [
        (
            None,
            "joints",
            "arm-7",
            r"no joints calibration here; make one with: robot-wm calibrate joints --serial arm-7",
        ),
        (
            made(),
            "joints",
            "arm-8",
            r"belongs to arm-7, but arm-8 is connected; give the file of arm-8, or run: robot-wm",
        ),
        (
            made(residual=0.5),
            "joints",
            "arm-7",
            r"residual 0\.5 deg .* is above 0\.2 deg; calibrate again with more care",
        ),
        (
            made(residual=None),
            "joints",
            "arm-7",
            r"its residual was never measured .* or import it again with --residual",
        ),
        (made("delay"), "joints", "arm-7", "calibrates delay, joints is needed"),
        (made(), "legs", "arm-7", "'legs' is no kind of calibration; there are joints, camera"),
    ],
)
def test_arming_is_refused_with_the_way_out(file, kind, serial, message, tmp_path):
    path = tmp_path / "c.yaml"
    if file is not None:
        write(path, file)
    with pytest.raises(CalibrationError, match=message) as refused:
        require_fit(path, kind, serial)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("kind", BOUNDS)
def test_a_residual_at_its_bound_arms_and_above_does_not(kind, tmp_path):
    bound = BOUNDS[kind].largest
    require_fit(write(tmp_path / "f.yaml", made(kind, bound)), kind, "arm-7")
    with pytest.raises(CalibrationError, match="is above"):
        require_fit(write(tmp_path / "f.yaml", made(kind, bound * 1.001)), kind, "arm-7")


def data(kind="joints", **changes):
    table = {
        "schema": 1,
        "kind": kind,
        "serial": "a",
        "date": "2026-01-01",
        "method": "m",
        "residual": 0.1,
        "unit": BOUNDS[kind].unit,
        "values": VALUES[kind],
    }
    return table | changes


def without(kind, field):
    return {key: value for key, value in VALUES[kind].items() if key != field}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "must be a table"),
        ({}, "schema: is missing"),
        (data(extra=1), "extra: unknown field"),
        (data(schema=2), "schema: is 2, this version reads 1; calibrate again"),
        (data() | {"kind": "legs"}, "kind: must be one of joints"),
        (data(unit="rad"), "unit: must be one of deg"),
        (data(date="yesterday"), "date: must be ISO 8601"),
        (data(serial=" "), "serial: is empty"),
        (data(residual=-1.0), "residual: must be at least 0"),
        (data(residual=float("nan")), "residual: must be a finite number"),
        (data(values={}), "values: names no joint"),
        (data("camera", values=without("camera", "matrix")), r"values\.matrix: is missing"),
        (data("camera", values=VALUES["camera"] | {"matrix": [1.0]}), r"values\.matrix: must have 9 entries"),
        (data("sync", values=VALUES["sync"] | {"more": 1}), r"values\.more: unknown field"),
        (data("handeye", values=VALUES["handeye"] | {"setup": "ear"}), r"values\.setup: must be one of eye_in_hand"),
        (data("handeye", values=VALUES["handeye"] | {"quaternion_xyzw": [0, 0, 0, 2]}), "must have length 1, has 2"),
    ],
)
def test_a_bad_field_is_named(table, message):
    with pytest.raises(CalibrationError, match=message) as refused:
        parse(table, "arm.yaml")
    assert str(refused.value).startswith("arm.yaml: ")


def test_text_that_is_no_yaml_is_named_with_its_line(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("kind: joints\nvalues: [1,\n")
    with pytest.raises(CalibrationError, match=r"f\.yaml: is not YAML \(line \d\)"):
        read(path)
    path.write_bytes(b"\xff\xfe\x00kind")
    with pytest.raises(CalibrationError, match="is not YAML"):
        read(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(list(BOUNDS)), st.sampled_from([f for f in data() if f != "schema"]), JSON)
def test_any_field_is_taken_whole_or_refused_by_name(kind, field, value):
    table = data(kind) | {field: value}
    if error := refusal(table):
        assert error.startswith(f"f: {field}")
    else:
        assert parse(table, "f").kind in BOUNDS


def refusal(table):
    try:
        parse(table, "f")
    except CalibrationError as error:
        return str(error)
    return ""
