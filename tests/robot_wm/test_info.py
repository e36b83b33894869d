"""Statistics of plans and corrections survive as key/value pairs exactly."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.errors import MessageError
from robot_wm.info import CorrectionInfo, PlanInfo, from_pairs, to_pairs

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4).map(tuple)


@given(
    st.builds(
        PlanInfo,
        index=st.integers(0),
        bundle_id=st.text(),
        source=st.text(),
        refinements=st.integers(0),
        samples=st.integers(0),
        value=NUMBERS,
        spread=NUMBERS,
        disagreement=NUMBERS,
        seconds=NUMBERS,
        latent_age_s=NUMBERS,
        latent_steps=st.integers(0),
        slack_s=NUMBERS,
        previous=st.none() | st.tuples(*[st.tuples(NUMBERS, NUMBERS)] * 2),
        actions=ROWS,
        seed=st.integers(0),
        reset=st.booleans(),
    )
)
def test_a_plan_info_survives_exactly(info):
    assert from_pairs(PlanInfo, to_pairs(info)) == info


def test_a_correction_info_survives_exactly():
    info = CorrectionInfo("b", 1 / 3, 2, 0.01, math.pi, {"accepted": 3, "too_old": 1})
    assert from_pairs(CorrectionInfo, to_pairs(info)) == info


def test_a_missing_key_and_a_damaged_value_are_named():
    pairs = to_pairs(CorrectionInfo("b", 0.5, 2, 0.01, 0.001, {}))
    with pytest.raises(MessageError, match="no key 'late_steps'; there are bundle_id"):
        from_pairs(CorrectionInfo, [pair for pair in pairs if pair[0] != "late_steps"])
    with pytest.raises(MessageError, match="innovation: 'half' is not JSON"):
        from_pairs(CorrectionInfo, [(k, "half" if k == "innovation" else v) for k, v in pairs])


def test_what_nobody_judged_may_be_missing():
    info = CorrectionInfo("b", 0.5, 2, 0.01, 0.001, {}, "cautious", {"velocity": 1.5}, {"velocity": 30.0})
    assert from_pairs(CorrectionInfo, to_pairs(info)) == info
    judged = ("trust", "surprise", "statistics")
    old = from_pairs(CorrectionInfo, [pair for pair in to_pairs(info) if pair[0] not in judged])
    assert (old.trust, old.surprise, old.statistics) == ("", {}, {})
