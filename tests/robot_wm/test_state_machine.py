from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from robot_wm.contract_safety import Safety
from robot_wm.state_machine import Conditions, State, StateMachine
from robot_wm.timebase import NS_PER_S

SAFETY = Safety(hold_s=1.0)
GOOD, PLAYING = Conditions(playable=False), Conditions(playable=True)
SECOND = NS_PER_S


def machine(*conditions):
    """A machine that has seen `conditions`, one tick each."""
    result = StateMachine(SAFETY, 0)
    for i, seen in enumerate(conditions):
        result.update(i, seen)
    return result


def armed():
    result = machine(GOOD)
    assert result.arm(1).success
    result.update(2, PLAYING)
    assert result.state is State.ARMED
    return result


def test_it_starts_disarmed_and_does_not_arm_before_joints_are_heard():
    fresh = machine()
    assert fresh.state is State.DISARMED
    answer = fresh.arm(0)
    assert not answer.success
    assert "no joint state yet" in answer.message


def test_armed_it_waits_for_the_first_plan_as_long_as_it_takes():
    waiting = machine(GOOD)
    waiting.arm(1)
    assert waiting.update(60 * SECOND, GOOD) is State.HOLD
    assert waiting.update(61 * SECOND, PLAYING) is State.ARMED


def test_without_plans_it_holds_then_damps_and_stays_damped():
    falling = armed()
    assert falling.update(3, GOOD) is State.HOLD
    assert falling.update(3 + SECOND, GOOD) is State.HOLD
    assert falling.update(4 + SECOND, GOOD) is State.DAMPED
    assert falling.update(5 + SECOND, PLAYING) is State.DAMPED
    assert "held for 1 s" in falling.cause


def test_it_resumes_from_hold_by_itself():
    falling = armed()
    falling.update(3, GOOD)
    assert falling.update(4, PLAYING) is State.ARMED


def test_only_the_operator_leads_out_of_damped():
    damped = armed()
    damped.update(3, Conditions(playable=True, breach="hinge moves too fast"))
    assert damped.state is State.DAMPED
    assert damped.update(4, PLAYING) is State.DAMPED
    assert damped.arm(5).success
    assert damped.update(6, PLAYING) is State.ARMED


def test_joints_unheard_damp_and_after_hold_s_stop():
    deaf = armed()
    blind = Conditions(playable=True, joints="no joint state for 0.06 s")
    assert deaf.update(3, blind) is State.DAMPED
    assert deaf.update(3 + SECOND, blind) is State.DAMPED
    assert deaf.update(4 + SECOND, blind) is State.ESTOP
    assert not deaf.reset(5 + SECOND).success
    deaf.update(6 + SECOND, GOOD)
    assert deaf.reset(7 + SECOND).success


def test_e_stop_is_latched_and_reset_is_refused_while_the_fault_stands():
    stopped = armed()
    stopped.update(3, Conditions(playable=True, fault="motor 2 is too hot"))
    assert stopped.state is State.ESTOP
    assert "motor 2 is too hot" in stopped.arm(4).message
    assert not stopped.disarm(4).success
    refused = stopped.reset(5)
    assert not refused.success
    assert refused.message == "the cause stands: motor 2 is too hot"
    stopped.update(6, PLAYING)
    assert stopped.state is State.ESTOP
    assert stopped.reset(7).success
    assert stopped.state is State.DISARMED


def test_the_first_cause_of_an_e_stop_is_kept():
    stopped = armed()
    stopped.estop(3, "button")
    stopped.estop(4, "somebody else")
    assert stopped.cause == "button"
    assert [t.cause for t in stopped.transitions][-1] == "button"


def test_every_transition_is_reported_with_its_cause():
    heard = []
    watched = StateMachine(SAFETY, 0, heard.append)
    watched.update(1, GOOD)
    watched.arm(2)
    watched.disarm(3)
    assert [(t.stamp, t.before, t.after) for t in heard] == [
        (2, State.DISARMED, State.HOLD),
        (3, State.HOLD, State.DISARMED),
    ]
    assert all(t.cause for t in heard)


class Anything(RuleBasedStateMachine):
    """Whatever happens in whatever order, the rules of the ladder hold."""

    def __init__(self):
        super().__init__()
        self.now = 0
        self.machine = StateMachine(SAFETY, 0)
        self.by_operator = False
        self.seen = Conditions(playable=False, joints="no joint state yet")
        self.before = self.machine.state

    def act(self, verb):
        self.before, self.by_operator = self.machine.state, True
        return verb(self.now)

    @rule(
        wait=st.integers(0, 3 * SECOND),
        playable=st.booleans(),
        joints=st.sampled_from(["", "", "", "deaf"]),
        breach=st.sampled_from(["", "", "", "hinge"]),
        fault=st.sampled_from(["", "", "", "hot"]),
    )
    def tick(self, wait, playable, joints, breach, fault):
        self.now += wait
        self.before, self.by_operator = self.machine.state, False
        self.seen = Conditions(playable, joints, breach, fault)
        self.machine.update(self.now, self.seen)

    @rule()
    def arm(self):
        answer = self.act(self.machine.arm)
        if self.seen.fault or self.seen.joints or self.seen.breach:
            assert not answer.success or self.before in (State.HOLD, State.ARMED)

    @rule()
    def disarm(self):
        answer = self.act(self.machine.disarm)
        assert answer.success == (self.before is not State.ESTOP)

    @rule()
    def estop(self):
        assert self.act(self.machine.estop).success
        assert self.machine.state is State.ESTOP

    @precondition(lambda self: self.machine.state is State.ESTOP)
    @rule()
    def reset(self):
        answer = self.act(self.machine.reset)
        assert answer.success != bool(self.seen.fault or self.seen.joints)
        assert self.machine.state is (State.DISARMED if answer.success else State.ESTOP)

    @invariant()
    def power_comes_back_only_by_the_operator(self):
        if self.before in (State.DISARMED, State.DAMPED) and not self.by_operator:
            assert self.machine.state not in (State.HOLD, State.ARMED)
        if self.before is State.ESTOP:
            assert self.machine.state in (State.ESTOP, State.DISARMED)
            assert self.machine.state is State.ESTOP or self.by_operator

    @invariant()
    def nothing_is_played_on_a_tick_with_something_wrong(self):
        if not self.by_operator and self.machine.state is State.ARMED:
            assert self.seen == PLAYING

    @invariant()
    def transitions_form_a_chain(self):
        chain = list(self.machine.transitions)
        assert all(a.after is b.before and a.stamp <= b.stamp for a, b in zip(chain, chain[1:], strict=False))
        assert not chain or chain[-1].after is self.machine.state


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
