"""Whatever a run measured can be written down."""

import json
import math
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.plain import plain


def test_numpy_paths_and_non_finite_numbers_become_plain_data():
    figures = {
        "a": np.float32(0.5),
        "b": np.arange(2),
        "c": (Path("x/y"), math.nan),
        3: {"d": np.inf, "e": True, "f": None},
    }
    assert plain(figures) == {"a": 0.5, "b": [0, 1], "c": ["x/y", None], "3": {"d": None, "e": True, "f": None}}


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.floats(width=32).map(np.float32)
nested = st.recursive(leaves, lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner))


@given(nested)
def test_anything_plain_is_strict_json_and_stays_as_it_is(value):
    once = plain(value)
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    assert plain(once) == once
