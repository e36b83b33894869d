"""Text that is no YAML raises YAMLError, whatever PyYAML makes of it."""

import pytest
import yaml

from robot_wm.yaml_text import read_yaml


def test_plain_data_is_read():
    assert read_yaml("a: [1, 2.5, x]") == {"a": [1, 2.5, "x"]}


@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: 2001-13-01",
        "a: 2001-01-01T25:00:00Z",
        "a: 0x_",
        "a: !!int x",
        "a: !!bool x",
        "a: !!timestamp x",
        'a: "\\U0FFFFFFF"',
        "a: " + "1" * 5000,
        "[" * 1000,
    ],
    ids=lambda text: text[:12],
)
def test_what_its_constructors_trip_over_is_an_error_of_yaml(text):
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)
