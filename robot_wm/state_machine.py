"""The motor node's state machine: what may be sent, and why.

    disarmed --arm--> hold <--> armed         hold: waits for a plan or command and resumes by itself
                        |         |
                        +--> damped <--+      held too long, joints not heard, a bound breached: only `arm` leads out
    any --------------------> estop           a fault or the operator: latched; `reset` leads to disarmed

Time and everything it judges come in as arguments, so it is tested without waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from robot_wm.contract_safety import Safety
from robot_wm.timebase import NS_PER_S

KEPT = 256  # transitions remembered


class State(str, Enum):
    """What the motors get."""

    DISARMED = "disarmed"  # no power
    ARMED = "armed"  # a plan, a command or an excitation is played
    HOLD = "hold"  # stay, ready to go on
    DAMPED = "damped"  # come to rest, wait for the operator
    ESTOP = "estop"  # no power, latched


POWERED = frozenset({State.ARMED, State.HOLD, State.DAMPED})


@dataclass(frozen=True)
class Transition:
    """One change of state with its cause."""

    stamp: int
    before: State
    after: State
    cause: str


@dataclass(frozen=True)
class Answer:
    """Answer to an operator: what std_srvs/Trigger carries."""

    success: bool
    message: str


@dataclass(frozen=True)
class Conditions:
    """What the motor loop knows at a tick; an empty text means that all is well."""

    playable: bool  # a plan, command or excitation is there to be played now
    joints: str = ""  # why the joint state cannot be used
    breach: str = ""  # which joint without a motor is beyond its bounds
    fault: str = ""  # what the bus or the e-stop input reports; e-stop
    overrun: str = ""  # why the loop cannot keep its pace; hold


class StateMachine:
    """Starts disarmed. `update` once per tick, the operator's verbs at any time between two ticks."""

    def __init__(self, safety: Safety, now: int, listener: Callable[[Transition], None] | None = None) -> None:
        self.state = State.DISARMED
        self.cause = "started"
        self.since = now  # when this state began [ns]
        self.transitions: deque[Transition] = deque(maxlen=KEPT)
        self._safety = safety
        self._listener = listener
        self._played = False  # something was played since arming
        self._deaf_since: int | None = None  # joints have not been heard since [ns]
        self._seen = Conditions(playable=False, joints="no joint state yet")

    def update(self, now: int, seen: Conditions) -> State:
        """Judge one tick and return the state that holds for it."""
        self._seen = seen
        if not seen.joints:
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = now
        if self.state in (State.DISARMED, State.ESTOP):
            return self.state
        deaf = 0 if self._deaf_since is None else now - self._deaf_since
        if seen.fault:
            self._go(State.ESTOP, now, seen.fault)
        elif self.state is State.DAMPED:
            if deaf > self._safety.hold_s * NS_PER_S:
                self._go(State.ESTOP, now, f"damped without joints for {self._safety.hold_s:g} s: {seen.joints}")
        elif seen.joints or seen.breach:
            self._go(State.DAMPED, now, seen.joints or seen.breach)
        elif seen.playable and not seen.overrun:
            self._played = True
            if self.state is State.HOLD:
                self._go(State.ARMED, now, "a fresh plan or command")
        elif self.state is State.ARMED:
            self._go(State.HOLD, now, seen.overrun or f"no plan or command for {self._safety.plan_stale_s:g} s")
        elif self._played and now - self.since > self._safety.hold_s * NS_PER_S:
            why = f": {seen.overrun}" if seen.overrun else " without a plan or command"
            self._go(State.DAMPED, now, f"held for {self._safety.hold_s:g} s{why}")
        return self.state

    @property
    def seen(self) -> Conditions:
        """What the last tick was judged by."""
        return self._seen

    def arm(self, now: int, unfit: str = "", doubts: str = "") -> Answer:
        """Power the motors: hold, and from there play what comes. The way out of damped as well.

        Args:
            unfit: what stands against it, with the remedy (robot_wm/arming.py).
            doubts: what the operator has to be told, though it does not.
        """
        if self.state is State.ESTOP:
            return Answer(False, f"e-stopped ({self.cause}): reset first")
        if self.state in (State.ARMED, State.HOLD):
            return Answer(True, f"already {self.state.value}")
        obstacle = unfit or self._seen.fault or self._seen.joints or self._seen.breach
        if obstacle:
            return Answer(False, f"cannot arm: {obstacle}")
        self._played = False
        self._go(State.HOLD, now, "armed by the operator")
        warned = f"; warning: {doubts}" if doubts else ""
        return Answer(True, f"armed: holding until a plan or command comes{warned}")

    def disarm(self, now: int, cause: str = "disarmed by the operator") -> Answer:
        """Cut the power, from anywhere but e-stop."""
        if self.state is State.ESTOP:
            return Answer(False, f"e-stopped ({self.cause}), the power is off; reset to disarm")
        if self.state is not State.DISARMED:
            self._go(State.DISARMED, now, cause)
        return Answer(True, "disarmed")

    def estop(self, now: int, cause: str = "operator") -> Answer:
        """Cut the power and latch; the first cause is kept."""
        if self.state is not State.ESTOP:
            self._go(State.ESTOP, now, cause)
        return Answer(True, f"e-stopped: {self.cause}")

    def reset(self, now: int) -> Answer:
        """Leave e-stop to disarmed; refused while a fault stands or the joints cannot be read."""
        if self.state is not State.ESTOP:
            return Answer(True, f"nothing to reset: {self.state.value}")
        obstacle = self._seen.fault or self._seen.joints
        if obstacle:
            return Answer(False, f"the cause stands: {obstacle}")
        self._go(State.DISARMED, now, "reset by the operator")
        return Answer(True, "reset: disarmed")

    def _go(self, after: State, now: int, cause: str) -> None:
        transition = Transition(now, self.state, after, cause)
        self.state, self.cause, self.since = after, cause, now
        self.transitions.append(transition)
        if self._listener is not None:
            self._listener(transition)
