"""The ladder is climbed at once and for a cause, and left rung by rung after a while of quiet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_wm.errors import MessageError
from robot_wm.timebase import NS_PER_S
from robot_wm.trust_ladder import Answers, Ladder, Rung, Standing, Steps, arming_status, rung_named

STEPS = Steps(up=(1.0, 2.0, 4.0), release=0.5, dwell_s=1.0)


def climb(ladder, *levels, period_s=0.1, start=0):
    """Levels at regular times; returns the rungs."""
    return [ladder.update(start + round(i * period_s * NS_PER_S), level, f"level {level}") for i, level in
            enumerate(levels)]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "rung"),
    [(0.99, Rung.NORMAL), (1.0, Rung.CAUTIOUS), (1.99, Rung.CAUTIOUS), (2.0, Rung.POLICY), (4.0, Rung.HOLD)],
)
def test_a_level_leads_to_its_rung_at_once_and_names_the_cause(level, rung):
    ladder = Ladder(STEPS)
    assert ladder.update(0, level, "why") is rung
    assert ladder.standing == (Standing() if rung is Rung.NORMAL else Standing(rung, "why"))


def test_it_is_left_rung_by_rung_each_after_the_dwell():
    changes = []
    ladder = Ladder(STEPS, changes.append)
    climb(ladder, 5.0, *[0.0] * 40)
    assert [change.after for change in changes] == [Rung.HOLD, Rung.POLICY, Rung.CAUTIOUS, Rung.NORMAL]
    times = [change.stamp / NS_PER_S for change in changes]
    assert times == pytest.approx([0.0, 1.1, 2.2, 3.3])


@pytest.mark.parametrize(("level", "left"), [(0.99, True), (1.0, False), (1.9, False)])
def test_a_rung_is_left_only_well_below_what_led_to_it(level, left):
    ladder = Ladder(STEPS)
    climb(ladder, 2.5, *[level] * 30)
    assert (ladder.rung is not Rung.POLICY) is left


def test_quiet_that_is_interrupted_begins_again():
    ladder = Ladder(STEPS)
    rungs = climb(ladder, 1.0, *([0.0] * 9 + [0.6]) * 5)
    assert set(rungs) == {Rung.CAUTIOUS}


def test_a_new_episode_begins_normal():
    ladder = Ladder(STEPS)
    climb(ladder, 9.0)
    ladder.reset(1, "a new episode")
    assert ladder.standing == Standing()


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0.0, 6.0)), max_size=60))
def test_it_never_climbs_without_cause_and_never_falls_faster_than_one_rung_in_a_dwell(course):
    ladder, now, fell = Ladder(STEPS), 0, None
    for waited_ms, level in course:
        now += waited_ms * 1_000_000
        before, after = ladder.rung, ladder.update(now, level, "why")
        if after > before:
            assert level >= STEPS.up[after - 1]
            fell = None
        elif after < before:
            assert after == before - 1
            assert level < STEPS.release * STEPS.up[before - 1]
            assert fell is None or now - fell >= STEPS.dwell_s * NS_PER_S
            fell = now
        else:
            assert after is Rung.HOLD or level < STEPS.up[after]


def test_what_is_searched_shrinks_with_trust():
    answers = Answers(horizon=0.5)
    assert [answers.searched(rung, 6) for rung in Rung] == [6, 3, 0, 0]
    assert answers.searched(Rung.CAUTIOUS, 1) == 1


def test_rungs_have_names_that_come_back():
    assert [rung_named(rung.label) for rung in Rung] == list(Rung)
    with pytest.raises(MessageError, match="no rung 'panic' of trust; there are normal, cautious, policy, hold"):
        rung_named("panic")


def test_a_robot_may_be_armed_with_care_and_not_with_less_trust():
    assert [arming_status(rung) for rung in Rung] == [{}, {"arming": "ready, with care"}, {}, {}]
