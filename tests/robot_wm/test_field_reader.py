"""Every value of a file ends as a number, a text or one short sentence that names the field."""

import pytest

from robot_wm.errors import ContractError
from robot_wm.field_reader import FieldReader, short
from robot_wm.yaml_text import read_yaml

READER = FieldReader("arm.yaml")


def test_a_number_of_more_digits_than_a_float_has_is_refused():
    for number in (10**400, 10**5000, -(10**400)):
        with pytest.raises(ContractError, match="^arm.yaml: low: must be a finite number, got "):
            READER.number(number, "low")


def test_whole_numbers():
    assert READER.whole(3, "samples", 1) == 3
    for wrong in (0, 1.0, True, "1", None):
        with pytest.raises(ContractError, match="^arm.yaml: samples: must be a whole number, at least 1, got "):
            READER.whole(wrong, "samples", 1)


def test_what_is_shown_of_a_value_is_short_however_large_it_is():
    text = "x: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for name, before in zip("bcdefghij", "abcdefghi", strict=True):
        text += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    data = read_yaml(text)  # j has 10^10 items, and as many bytes as this sentence
    assert len(short(data["j"])) == 80
    assert short([1.5, "x", None]) == "[1.5, 'x', None]"
    assert short(10**5000) == "a number of 16610 bits"
