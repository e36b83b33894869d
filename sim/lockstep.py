"""A closed loop in one process on a virtual clock: the runtime's own filter, planner and safety filter against a task.

Deterministic per seed. Perception may be late, jittery or lost and commands may take effect late, as `Disturbance` says. Images are
as late as the contract expects, unless it says otherwise.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np

from robot_wm.backend import Model
from robot_wm.bags.types import Info
from robot_wm.bags.writer import BagWriter
from robot_wm.contract import Contract
from robot_wm.contract_images import ImageObservation
from robot_wm.info import CorrectionInfo
from robot_wm.messages import Applied, Event, FloatArray, JointState, Measurement, Plan
from robot_wm.planner import Planner
from robot_wm.replanner import COMMITTED, NoTrust, Replanner
from robot_wm.safety import SafetyFilter
from robot_wm.search import Search
from robot_wm.timebase import NS_PER_S, Grid, VirtualClock
from robot_wm.trust_file import TrustSpec
from robot_wm.trust_ladder import Answers
from robot_wm.trust_monitor import TrustMonitor
from sim.corrections import Exact
from sim.plant_joints import JointReader
from sim.tasks import STATE_TOPIC, SeeingTask, Task

START = 1_000 * NS_PER_S  # of the virtual clock: a stamp of zero means "not stamped" in ROS
FOREVER_S = 1e9  # lockstep plans from any latent, however old: seeing what then happens is what it is for


@dataclass(frozen=True)
class Disturbance:
    """What goes wrong on purpose; times in seconds."""

    perception_delay_s: float = 0.0  # from capture to arrival, of all but images
    jitter_s: float = 0.0  # standard deviation of that delay
    dropout: float = 0.0  # chance that a reading never arrives
    actuation_delay_s: float = 0.0  # from sending a command to its effect
    planning_delay_s: float = 0.0  # from the latent that is planned from to the plan
    image_delay_s: float | None = None  # of images, from capture to arrival; None: the contract's delay_s
    image_jitter_s: float = 0.0
    image_dropout: float = 0.0
    occlude_s: float = 0.0  # every camera is hidden for so long, from a random moment of the episode on: no image comes


class Agent(Protocol):
    """Whoever chooses the actions."""

    def reset(self, start: int, seed: int) -> None: ...

    def observe(self, measurement: Measurement, now: int) -> None: ...

    def request(self, now: int) -> FloatArray:
        """The action (A,) to send now, SI units."""
        ...

    def applied(self, applied: Applied) -> None: ...

    def published(self) -> list[tuple[str, object]]:
        """What the robot's nodes would have published since the last call, by topic."""
        ...


class RandomAgent:
    """Uniform actions within the limits, a new one per model step: the first episodes of a flywheel."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._grid = Grid(contract.model_hz)

    def reset(self, start: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._step, self._action = -1, np.zeros(self._contract.action.size)

    def observe(self, measurement: Measurement, now: int) -> None:
        pass

    def request(self, now: int) -> FloatArray:
        if self._grid.floor(now) != self._step:
            self._step = self._grid.floor(now)
            action = self._contract.action
            self._action = self._rng.uniform(action.limit_low, action.limit_high)
        return self._action

    def applied(self, applied: Applied) -> None:
        pass

    def published(self) -> list[tuple[str, object]]:
        return []


class WorldModelAgent:
    """Latent filter and replanner of one bundle, as on the robot, planning at every grid instant."""

    def __init__(
        self,
        contract: Contract,
        model: Model,
        explore: bool = False,
        refinements: int | None = None,
        publish: bool = False,
        planning_delay_s: float = 0.0,
        compensate: bool = True,
        search: Search | None = None,
        planner: type[Planner] = Planner,
        trust: TrustSpec | None = None,
        answers: Answers | None = None,
        correction: type[Exact] = Exact,
    ) -> None:
        """`contract` may know of an actuation delay that the model's own does not.

        Args:
            publish: keep what the robot's nodes would publish, for the bag.
            planning_delay_s: a plan can be played so long after the latent it is made from.
            compensate: plan for the time at which a plan takes effect; otherwise for now, as if planning took no time.
            search: how a plan is improved (default: MPPI).
            planner: what plans, made anew for each episode.
            trust: judge every correction by it; None: do not.
            answers: of the planner to falling trust (default: those of planner_node).
            correction: how a late observation corrects the latent (default: as on the robot).
        """
        self.trust = None if trust is None else TrustMonitor(trust)
        self._answers = answers
        self.contract = contract
        self.model = model
        self._planner = planner
        self.refinements: list[int] = []
        self._explore = explore
        self._budget = refinements
        self._publish = publish
        self._delay = round(contract.action.delay_s * NS_PER_S)
        self._planning = round(planning_delay_s * NS_PER_S)
        self._compensate = compensate
        self._search = search
        self._correcting = correction(contract, model)
        self._filter = self._correcting.filter
        self._grid = self._filter.grid

    def reset(self, start: int, seed: int) -> None:
        self._correcting.reset(start)
        self._clock = VirtualClock(start)
        planner = self._planner(self.contract, self.model, seed, self._clock, self._search)
        self._replanner = Replanner(
            self.contract, planner, self._clock, latent_stale_s=FOREVER_S, answers=self._answers
        )
        self._plans: deque[Plan] = deque(maxlen=COMMITTED)  # newest first
        self._said: list[tuple[str, object]] = []
        self._late_steps, self._newest = 0, start
        if self.trust is not None:
            self.trust.restart(start)
            self.trust.take_changes()

    def observe(self, measurement: Measurement, now: int) -> None:
        correction = self._correcting.observe(measurement, now)
        self._late_steps += correction.late_steps
        self._newest = measurement.stamp
        if self.trust is not None:
            self.trust.heard(self._filter, [correction])

    def request(self, now: int) -> FloatArray:
        """Replan at a grid instant; the plan starts when the first command that can come from it takes effect."""
        self._clock.sleep_until(now)
        effect = now + self._delay
        if now == self._grid.stamp(self._grid.nearest(now)):
            ready = effect + self._planning
            self._replan(self._grid.stamp(self._grid.ceil(ready if self._compensate else effect)))
        return self._planned(effect)

    def applied(self, applied: Applied) -> None:
        self._filter.applied(applied)
        self._replanner.applied(applied)

    def published(self) -> list[tuple[str, object]]:
        said, self._said = self._said, []
        return said

    def _replan(self, start: int) -> None:
        latent = self._correcting.latent(self._clock.now())
        self._replanner.latent(latent)
        judged = self._judge()
        if self._publish:
            self._said += [("latent", latent), ("correction_info", Info(latent.stamp, self._correction(judged)))]
        try:
            plan, info = self._replanner.plan(start, None, self._budget, self._explore)
        except NoTrust:
            return
        self._plans.appendleft(plan if self._compensate else replace(plan, start=plan.start + self._planning))
        self.refinements.append(plan.stats.refinements)
        if self._publish:
            self._said += [("plan", plan), ("plan_info", Info(start, info))]

    def _judge(self) -> dict[str, Any]:
        """Judge what was heard, tell the planner, and return what goes into `correction_info`."""
        if self.trust is None:
            return {}
        verdict = self.trust.judge(self._filter, self._clock.now())
        self._replanner.trust(verdict.standing)
        if self.trust.take_changes() and self._publish:
            self._said.append(("trust", self.trust.event(self._clock.now())))
        return verdict.said()

    def _correction(self, judged: dict[str, Any]) -> CorrectionInfo:
        """What posterior_node would say of the newest correction; virtual time takes none."""
        late, self._late_steps = self._late_steps, 0
        return CorrectionInfo(
            bundle_id=self.model.bundle_id,
            innovation=self._filter.innovation(),
            late_steps=late,
            delay_s=(self._clock.now() - self._newest) / NS_PER_S,
            seconds=0.0,
            outcomes=dict(self._filter.outcomes),
            **judged,
        )

    def _planned(self, effect: int) -> FloatArray:
        for plan in self._plans:
            values = plan.action_at(effect)
            if values is not None:
                return values
        action = self.contract.action
        neutral: FloatArray = np.clip(np.zeros(action.size), action.limit_low, action.limit_high)
        return neutral


@dataclass(frozen=True)
class EpisodeResult:
    """What one episode came to."""

    seed: int
    rewards: FloatArray  # (control steps,), fewer than `length` where the episode terminated
    length: int  # control steps of a whole episode
    clips: int  # commands that the safety filter changed
    terminated: bool
    start: int = 0  # stamp of the first control step [ns]

    @property
    def score(self) -> float:
        """Mean reward x 1000 over the whole episode, the suite's scale; after a terminal state there is none."""
        return 1000.0 * float(np.sum(self.rewards)) / self.length


def run_episode(
    task: Task, agent: Agent, seed: int, disturbance: Disturbance | None = None, writer: BagWriter | None = None
) -> EpisodeResult:
    """One episode: read → observe → plan → filter → send → step, a control step at a time.

    `writer` records it as the robot would: readings, what was really sent, rewards, the episode's marks and what the agent
    publishes.
    """
    disturbance = disturbance or Disturbance()
    link = _Link(disturbance, seed)
    hidden = _hidden(task, disturbance.occlude_s, seed)
    cameras = [_Camera(task, item, disturbance, hidden, seed + i) for i, item in enumerate(task.contract.images)]
    joints = JointReader(task)
    safety = SafetyFilter(task.contract)
    grid = Grid(1.0 / task.control_dt)
    first = grid.nearest(Grid(task.contract.model_hz).stamp(Grid(task.contract.model_hz).ceil(START)))
    task.reset(seed)
    agent.reset(grid.stamp(first), seed)
    rewards, clips = [], 0
    if writer is not None:
        writer.write("event", Event(grid.stamp(first), "start", f"seed {seed}"))
    for n in range(task.length):
        now, after = grid.stamp(first + n), grid.stamp(first + n + 1)
        readings = task.read(now)
        state, pose = _joint_state(joints, now), Measurement("qpos", now, task.qpos())
        for measurement in link.arrivals(readings, now):
            agent.observe(measurement, now)
        for camera in cameras:
            for image in camera.arrivals(n, now):
                agent.observe(image, now)
                if writer is not None:
                    writer.write(camera.topic, image, now)
        checked = safety.filter(agent.request(now), state, now, task.control_dt)
        clips += checked.clipped
        applied = Applied(now, checked.values, "plan")
        agent.applied(applied)
        reward = task.step(link.effective(applied, now))
        rewards.append(reward)
        if writer is not None:
            for topic, message in agent.published():
                writer.write(topic, message, now)
            writer.write(STATE_TOPIC, pose)
            _record(writer, task.contract, state, readings, applied, reward, after)
        if task.terminated:
            break
    if writer is not None:
        end = grid.stamp(first + len(rewards))
        _record(writer, task.contract, _joint_state(joints, end), task.read(end))
        writer.write("event", Event(end, "failure" if task.terminated else "end"))
    return EpisodeResult(seed, np.array(rewards), task.length, clips, task.terminated, grid.stamp(first))


def with_actuation_delay(contract: Contract, delay_s: float) -> Contract:
    """The contract of a robot whose commands take effect `delay_s` later than sent; same hash."""
    return replace(contract, action=replace(contract.action, delay_s=delay_s))


class _Delayed:
    """Measurements on their way: late, jittery, or lost."""

    def __init__(self, rng: np.random.Generator, delay_s: float, jitter_s: float, dropout: float) -> None:
        self._rng = rng
        self._delay, self._jitter, self._dropout = delay_s, jitter_s, dropout
        self._queue: list[tuple[int, int, Measurement]] = []
        self._count = 0

    def send(self, readings: list[Measurement], now: int) -> None:
        """Put readings on their way, together."""
        lost = self._rng.random() < self._dropout
        late = self._delay + self._jitter * self._rng.standard_normal()
        arrival = now + round(max(late, 0.0) * NS_PER_S)
        for reading in () if lost else readings:
            self._count += 1
            heapq.heappush(self._queue, (arrival, self._count, reading))

    def arrived(self, now: int) -> list[Measurement]:
        """Those that have arrived by `now`, in order of arrival, once."""
        result = []
        while self._queue and self._queue[0][0] <= now:
            result.append(heapq.heappop(self._queue)[2])
        return result


class _Camera:
    """One camera of a task: free-running from a moment of its own, its images as late as the disturbance or the contract says."""

    def __init__(self, task: Task, item: ImageObservation, disturbance: Disturbance, hidden: range, seed: int) -> None:
        """`hidden`: control steps at which it takes no picture."""
        rng = np.random.default_rng([seed, 2])
        delay = item.delay_s if disturbance.image_delay_s is None else disturbance.image_delay_s
        self.topic = item.topic
        self._task = cast("SeeingTask", task)
        self._name = item.name
        self._period = max(1, round(1.0 / (item.rate_hz * task.control_dt))) if item.rate_hz else 1  # control steps
        self._first = int(rng.integers(self._period))
        self._hidden = hidden
        self._way = _Delayed(rng, delay, disturbance.image_jitter_s, disturbance.image_dropout)

    def arrivals(self, step: int, now: int) -> list[Measurement]:
        """Take a picture if it is time, and return those that have arrived by `now`."""
        if step % self._period == self._first and step not in self._hidden:
            self._way.send([self._task.capture(self._name, now)], now)
        return self._way.arrived(now)


def _hidden(task: Task, seconds: float, seed: int) -> range:
    """The control steps of one occlusion, wholly within the episode where that is long enough."""
    steps = round(seconds / task.control_dt)
    first = int(np.random.default_rng([seed, 3]).integers(max(1, task.length - steps + 1)))
    return range(first, first + steps)


class _Link:
    """What lies between plant and computer: delays, jitter and loss, drawn from the episode's seed."""

    def __init__(self, disturbance: Disturbance, seed: int) -> None:
        self._disturbance = disturbance
        rng = np.random.default_rng([seed, 1])
        self._way = _Delayed(rng, disturbance.perception_delay_s, disturbance.jitter_s, disturbance.dropout)
        self._sent: deque[tuple[int, FloatArray]] = deque()
        self._held: FloatArray | None = None

    def arrivals(self, readings: list[Measurement], now: int) -> list[Measurement]:
        """Put the new readings on their way and return those that have arrived by `now`, in order of arrival."""
        self._way.send(readings, now)
        return self._way.arrived(now)

    def effective(self, applied: Applied, now: int) -> FloatArray:
        """Send a command and return the one that has effect over the control step from `now` on."""
        self._sent.append((now + round(self._disturbance.actuation_delay_s * NS_PER_S), applied.values))
        while self._sent and self._sent[0][0] <= now:
            self._held = self._sent.popleft()[1]
        return np.zeros_like(applied.values) if self._held is None else self._held


def _joint_state(joints: JointReader, stamp: int) -> JointState:
    names, position, velocity = joints.read()
    return JointState(stamp, names, position, velocity, np.zeros(0))


def _record(
    writer: BagWriter,
    contract: Contract,
    state: JointState,
    readings: list[Measurement],
    applied: Applied | None = None,
    reward: float = 0.0,
    after: int = 0,
) -> None:
    """Write one control step: joint states, one tensor per tensor topic, and what came of it."""
    fields = {o.topic: o.field for o in contract.observations}
    tensors: dict[str, list[FloatArray]] = {}
    for item, reading in zip(contract.observations, readings, strict=True):
        if item.field == "data":
            tensors.setdefault(item.topic, []).append(reading.values)
    for topic, kind in fields.items():
        if kind != "data":
            writer.write(topic, state)
    for topic, parts in tensors.items():
        writer.write(topic, Measurement(topic, state.stamp, np.concatenate(parts)))
    if applied is not None:
        writer.write(contract.action.topic, applied)
        writer.write(contract.reward.topic, Measurement("reward", after, np.array([reward])))
