"""The motor loop, the hard real-time part: it waits for nobody and keeps the robot safe when every other process dies.

One tick: read the bus, see what is asked for (the newest plan, command or excitation, by time), judge the state, pass the
request through the safety filter, write the bus, publish what was *really* sent. The ladder: play, hold, damp, e-stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from robot_wm.arming import Seen, examine
from robot_wm.arming_files import Papers
from robot_wm.buses.base import MotorBus, ReportingBus
from robot_wm.checks import Check, first_failure, warnings
from robot_wm.contract import Contract
from robot_wm.errors import BusError, ContractError, MessageError
from robot_wm.estop_input import EstopInput
from robot_wm.excitation import Excitation
from robot_wm.mailbox import Mailbox
from robot_wm.messages import Applied, Command, FloatArray, JointState, Plan
from robot_wm.motor_health import Health, health_of
from robot_wm.pacing import Deadlines, RateMeter, TickStats
from robot_wm.playback import PENDING, CommandPlayer, PlanPlayer
from robot_wm.realtime import RealtimeOptions, RealtimeReport, go_realtime
from robot_wm.safety import SafetyFilter
from robot_wm.state_machine import POWERED, Answer, Conditions, State, StateMachine, Transition
from robot_wm.timebase import NS_PER_S, Clock, MonotonicClock

WRITE_FAILURES = 5  # in a row: e-stop
OVERRUN = 0.5  # of a second's deadlines missed: hold
FUTURE_TOLERANCE_S = 0.005  # a joint state further ahead of the clock is refused

Publish = Callable[[Applied | None, JointState | None, State], None]
Asked = tuple[FloatArray, str]  # values (action,) and who asks


class MotorLoop:
    """Drives one bus by one contract. `tick` is one turn; `run` paces it until told to stop.

    Other threads leave plans and commands in `plans` and `commands` and may call the operator's verbs at any time.

    Args:
        publish: called every tick with what was really sent (None: nothing new reached the motors), the joint state
            read (None: no new one) and the state. It runs in the loop and must not wait.
        listener: called in the loop with every change of state, at the tick that sees it.
        excitation: played whenever neither a command nor a plan is there, from each arming on.
        papers: the files it is started with, for the checks before arming; another thread may replace `papers`.
        estop_input: what must keep saying that all is clear; None: nothing.
    """

    def __init__(
        self,
        contract: Contract,
        bus: MotorBus,
        clock: Clock | None = None,
        publish: Publish | None = None,
        listener: Callable[[Transition], None] | None = None,
        excitation: Excitation | None = None,
        papers: Papers | None = None,
        estop_input: EstopInput | None = None,
    ) -> None:
        self.contract = contract
        self.bus = bus
        self.clock = clock or MonotonicClock()
        self.plans: Mailbox[Plan] = Mailbox(PENDING)
        self.commands: Mailbox[Command] = Mailbox()
        self.plan_player = PlanPlayer(contract)
        self.command_player = CommandPlayer(contract)
        self.excitation = excitation
        self.papers = papers
        self.estop_input = estop_input
        self.safety = SafetyFilter(contract)
        self._changes: Mailbox[Transition] = Mailbox(64)  # not reported yet
        self.machine = StateMachine(contract.safety, self.clock.now(), self._changes.put)
        self.stats = TickStats()
        self.rate = RateMeter()  # of new joint states
        self.deadlines = Deadlines(contract)
        self.realtime = RealtimeReport()
        self.read_failures = 0
        self.write_failures = 0
        self._publish = publish
        self._listener = listener
        self._lock = threading.Lock()  # only around the state machine, never across a call that waits
        self._period_s = 1.0 / contract.motor_hz
        self._stale = round(contract.safety.joint_stale_s * NS_PER_S)
        self._hold_effort = _per_action(contract, contract.safety.hold_effort, "safety.hold_effort")
        self._damping = _per_action(contract, contract.safety.damping, "safety.damping")
        self._joints: JointState | None = None
        self._read_error = ""
        self._write_error = ""
        self._failed_writes = 0  # in a row
        self._powered: bool | None = None  # None: not known yet
        self._excited_since: int | None = None

    def tick(self, deadline: int | None = None) -> State:
        """One turn of the loop; `deadline` [ns] is when it should have begun. Bad input never raises from here."""
        began = self.clock.now()
        fresh_joints = self._read()
        now = self.clock.now()
        asked = self._asked(now)
        state = self._judge(now, asked is not None)
        state = self._set_power(state, now)
        applied = self._send(state, asked, now) if state in POWERED else self._unpowered(state, now)
        if self._publish is not None:
            self._publish(applied, fresh_joints, state)
        self._report_changes()
        self.stats.done(began if deadline is None else deadline, began, self.clock.now())
        return state

    def run(self, stop: threading.Event, realtime: RealtimeOptions | None = None) -> None:
        """Tick on absolute deadlines until `stop` is set; however it ends, the power is cut and the state is disarmed.

        A deadline that passes while a tick still runs is skipped and counted, so that the loop never runs behind.
        """
        try:
            self.tick()  # what is loaded on first use is loaded before the garbage collector is frozen
            self.realtime = go_realtime(realtime) if realtime is not None else RealtimeReport()
            k = self.deadlines.floor(self.clock.now()) + 1
            while not stop.is_set():
                self.clock.sleep_until(self.deadlines.stamp(k))
                self.tick(self.deadlines.stamp(k))
                k = self._next(k)
        finally:
            try:
                self._cut_power()
            finally:
                with self._lock:
                    self.machine.disarm(self.clock.now(), "the motor loop has ended")
                self._report_changes()

    def arm(self) -> Answer:
        """Power the motors; see `StateMachine.arm`. Refused with the sentence of the first arming check that fails."""
        checks = self.arming_checks()
        with self._lock:
            return self.machine.arm(self.clock.now(), first_failure(checks), warnings(checks))

    def arming_checks(self) -> list[Check]:
        """Whether the robot may be armed now, check by check (robot_wm/arming.py)."""
        joints, conditions = self._joints, self.machine.seen
        waiting = self.machine.state is State.DISARMED  # powered, it holds what it was clamped to
        seen = Seen(
            fault=conditions.fault,
            joints=conditions.joints,
            breach=conditions.breach,
            outside=self.safety.outside(joints) if joints is not None and waiting else "",
            age_s=(self.clock.now() - joints.stamp) / NS_PER_S if joints is not None else None,
            heard_s=self.rate.heard_s,
            rate_hz=self.rate.hz,
            figures=self.bus.figures() if isinstance(self.bus, ReportingBus) else {},
        )
        return examine(self.contract, self.papers, seen)

    def disarm(self) -> Answer:
        with self._lock:
            return self.machine.disarm(self.clock.now())

    def estop(self, cause: str = "operator") -> Answer:
        with self._lock:
            return self.machine.estop(self.clock.now(), cause)

    def reset(self) -> Answer:
        with self._lock:
            return self.machine.reset(self.clock.now())

    def health(self) -> Health:
        """What diagnostics say about the loop now."""
        return health_of(self)

    def joints_defect(self, now: int) -> str:
        """Why the newest joint state cannot be trusted at `now` [ns], or nothing."""
        because = f": {self._read_error}" if self._read_error else ""
        if self._joints is None:
            return f"no joint state yet{because}"
        age = now - self._joints.stamp
        return f"no joint state for {age / NS_PER_S:.3f} s{because}" if age > self._stale else ""

    def _read(self) -> JointState | None:
        """Read the bus; return the joints if they are new and sound."""
        began = self.clock.now()
        try:
            joints = self.bus.read()
            self.stats.read.add(self.clock.now() - began)
            self.safety.require_state(joints)
            before = self._joints.stamp if self._joints is not None else joints.stamp
            if joints.stamp < before:
                raise MessageError(f"joint state: its stamp goes back by {(before - joints.stamp) / 1e6:.3f} ms")
            ahead = joints.stamp - self.clock.now()
            if ahead > FUTURE_TOLERANCE_S * NS_PER_S:
                raise MessageError(f"joint state: its stamp is {ahead / 1e6:.3f} ms ahead of the clock")
        except (BusError, MessageError) as error:
            self.read_failures += 1
            self._read_error = str(error)
            return None
        self._read_error = ""
        new = self._joints is None or joints.stamp > before
        self._joints = joints
        if not new:
            return None
        self.rate.add(joints.stamp)
        return joints

    def _asked(self, now: int) -> Asked | None:
        """What to play now: an operator's command, else the plan, else the excitation."""
        for plan in self.plans.drain():
            self.plan_player.offer(plan, now)
        for command in self.commands.drain():
            self.command_player.offer(command, now)
        commanded = self.command_player.action(now)
        if commanded is not None:
            self._excited_since = None
            return commanded, "command"
        planned = self.plan_player.action(now)
        if planned is not None:
            self._excited_since = None
            return planned[0], f"plan:{planned[1]}"
        return self._excite(now)

    def _excite(self, now: int) -> Asked | None:
        if self.excitation is None or self.machine.state not in (State.HOLD, State.ARMED):
            self._excited_since = None
            return None
        if self._excited_since is None:
            self._excited_since = now
            self.excitation.restart(self._rest())
        values = self.excitation.action((now - self._excited_since) / NS_PER_S)
        return None if values is None else (values, "excite")

    def _judge(self, now: int, playable: bool) -> State:
        breach = self.safety.breach(self._joints) if self._joints is not None else ""
        fault = self.bus.fault() or ""
        if self.estop_input is not None:
            fault = self.estop_input.fault(now) or fault
        if not fault and self._failed_writes >= WRITE_FAILURES:
            fault = f"{self._failed_writes} writes in a row failed: {self._write_error}"
        with self._lock:
            return self.machine.update(
                now, Conditions(playable, self.joints_defect(now), breach, fault, self._overrun(now))
            )

    def _overrun(self, now: int) -> str:
        """Why the loop is too slow to play anything, or nothing. What is skipped now and then is only counted."""
        missed = self.stats.missed_lately(now)
        due = self.contract.motor_hz
        return f"{missed} of {due:.0f} deadlines missed within a second" if missed >= OVERRUN * due else ""

    def _set_power(self, state: State, now: int) -> State:
        """Make the motors' power what the state says; power that cannot be switched on is an e-stop."""
        if state in POWERED and not self._powered:
            try:
                self.bus.enable()
            except BusError as error:
                with self._lock:
                    self.machine.estop(now, f"cannot power the motors: {error}")
                state = State.ESTOP
            else:
                self._powered = True
                self.safety.resume_from(self._rest())
        if state not in POWERED and (self._powered is not False or state is State.ESTOP):
            self._cut_power()  # repeated in e-stop: it also shows when the bus can be written again
        return state

    def _cut_power(self) -> None:
        try:
            self.bus.disable()
        except BusError as error:
            self._failed_writes += 1
            self._write_error = str(error)
        else:
            self._powered = False
            self._failed_writes = 0

    def _send(self, state: State, asked: Asked | None, now: int) -> Applied | None:
        """Filter and write; returns what was really sent, or None when the write failed."""
        assert self._joints is not None  # nothing arms without
        before = self.safety.last
        request, source = self._hold()
        if state is State.DAMPED:
            request, source = self._damp(now)
        elif state is State.ARMED and asked is not None:
            request, source = asked
        try:
            checked = self.safety.filter(request, self._joints, now, self._period_s)
        except MessageError:  # the players have refused it before; still nothing but a hold may come of it
            request, source = self._hold()
            checked = self.safety.filter(request, self._joints, now, self._period_s)
        stamp = self.clock.now()
        try:
            self.bus.write(checked.values)
            self.stats.write.add(self.clock.now() - stamp)
        except BusError as error:
            self.write_failures += 1
            self._failed_writes += 1
            self._write_error = str(error)
            self.safety.resume_from(before)
            return None
        self._failed_writes = 0
        return Applied(stamp, checked.values, source)

    def _hold(self) -> Asked:
        """Stay: the last position, no velocity, or the contract's holding effort."""
        if self.contract.action.mode == "position" and self.safety.last is not None:
            return self.safety.last, "hold"
        return (self._hold_effort if self.contract.action.mode == "effort" else self._rest()), "hold"

    def _damp(self, now: int) -> Asked:
        """Come to rest: as hold, but in effort mode against the measured velocity."""
        if self.contract.action.mode != "effort":
            return self._hold()[0], "damp"
        if self._joints is None or self.joints_defect(now):
            return self._rest(), "damp"
        return -self._damping * self.safety.select(self._joints, self._joints.velocity), "damp"

    def _unpowered(self, state: State, now: int) -> Applied:
        self.safety.resume_from(None)
        return Applied(now, self._rest(), "estop" if state is State.ESTOP else "disarmed", driven=False)

    def _rest(self) -> FloatArray:
        """What asks for no motion: the measured position in position mode, else zero."""
        if self.contract.action.mode == "position" and self._joints is not None:
            return self.safety.select(self._joints, self._joints.position)
        return np.zeros(self.contract.action.size)

    def _report_changes(self) -> None:
        for change in self._changes.drain():
            if self._listener is not None:
                self._listener(change)

    def _next(self, k: int) -> int:
        """The deadline to wait for after tick `k`; those that have passed meanwhile are counted as missed."""
        now = self.clock.now()
        due = self.deadlines.floor(now)
        if due > k + 1:
            self.stats.missed(due - k - 1, now)
        return max(k + 1, due)


def _per_action(contract: Contract, values: tuple[float, ...], name: str) -> FloatArray:
    """One number per action: as given, one for all, or zero when empty."""
    if len(values) not in (0, 1, contract.action.size):
        raise ContractError(
            f"contract {contract.name}: {name} has {len(values)} entries for {contract.action.size} actions"
        )
    result: FloatArray = np.zeros(contract.action.size) + np.array(values or (0.0,))
    return result
