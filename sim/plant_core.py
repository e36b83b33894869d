"""The real-time plant: a task whose physics follows the machine's clock and goes on whatever its clients do.

Physics advances in control steps that end on the grid `k * control_dt`. A step that is due is done before anything is answered,
so a reading taken at a grid instant is the state of that instant. The command over a step is the time average of what was
commanded during it, as an actuator with zero-order hold integrates it, so the phase between the clocks does not matter.
Like a servo, the plant has a watchdog: a command holds for `WATCHDOG_S`, after that the effort is zero.

Here is no socket and no clock: `sim/plant.py` is the process that serves this.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

import numpy as np

from robot_wm.contract import Contract
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S, Grid
from sim.plant_joints import JointReader
from sim.tasks import STATE_TOPIC, Task

WATCHDOG_S = 0.1
LONGEST_LAG_S = 0.5  # further behind the clock than this, time is skipped
REMEMBERED = 512  # commands


@dataclass(frozen=True)
class Sample:
    """One message of a sensor stream: a task observation or a reward, stamped at its capture [ns]."""

    stream: int
    stamp: int
    values: FloatArray


class CommandHold:
    """What was commanded, as a zero-order hold that the watchdog ends; None is no power."""

    def __init__(self, size: int, watchdog: int) -> None:
        self._size = size
        self._watchdog = watchdog
        self._held: deque[tuple[int, FloatArray | None]] = deque([(0, None)], maxlen=REMEMBERED)

    def add(self, stamp: int, values: FloatArray | None) -> None:
        """Hold `values` (action,) from `stamp` [ns] on, but never before what came last."""
        self._held.append((max(stamp, self._held[-1][0]), values))

    def mean(self, start: int, end: int) -> FloatArray:
        """Time average (action,) over [start, end) [ns]."""
        while len(self._held) > 1 and self._held[1][0] <= start:
            self._held.popleft()
        total = np.zeros(self._size)
        for i, (stamp, values) in enumerate(self._held):
            following = self._held[i + 1][0] if i + 1 < len(self._held) else end
            duration = min(following, stamp + self._watchdog, end) - max(stamp, start)
            if values is not None and duration > 0:
                total += values * duration
        mean: FloatArray = total / (end - start)
        return mean

    def tripped(self, now: int) -> bool:
        """Whether the watchdog holds the motors at zero."""
        stamp, values = self._held[-1]
        return values is not None and now - stamp > self._watchdog


class Plant:
    """One task in real time; `advance` brings it to `now`, everything else acts on the state reached."""

    def __init__(self, task: Task, seed: int, now: int) -> None:
        self.task = task
        self.contract: Contract = task.contract
        self.grid = Grid(1.0 / task.control_dt)
        self.streams = _streams(self.contract)
        self.samples: deque[Sample] = deque(maxlen=65536)  # new ones; whoever sends them takes them out
        self.enabled = False
        self.counts: Counter[str] = Counter()
        self._low, self._high = np.array(self.contract.action.low), np.array(self.contract.action.high)
        self._hold = CommandHold(self.contract.action.size, round(WATCHDOG_S * NS_PER_S))
        self._command: FloatArray | None = None
        self._effort: FloatArray = np.zeros(self.contract.action.size)
        self._k = self.grid.floor(now)
        self._joints = JointReader(task)
        task.run_on()
        self.reset(seed, now)

    @property
    def stamp(self) -> int:
        """The instant that physics has reached [ns]."""
        return self.grid.stamp(self._k)

    @property
    def due(self) -> int:
        """When the next step ends [ns]."""
        return self.grid.stamp(self._k + 1)

    def advance(self, now: int) -> None:
        """Do every step that ends by `now`, late ones too: physics keeps the clock's time."""
        behind = self.grid.floor(now) - self._k
        surplus = behind - self.grid.floor(round(LONGEST_LAG_S * NS_PER_S))
        if surplus > 0:
            self._k += surplus
            self.counts["skipped_steps"] += surplus
        self.counts["late_steps"] += max(0, behind - 1)
        while self.due <= now:
            self._step()

    def command(self, stamp: int, values: FloatArray, now: int) -> str:
        """Take a command sent at `stamp`; returns why it is refused, or nothing."""
        if values.shape != self._low.shape or not np.isfinite(values).all():
            self.counts["refused_commands"] += 1
            return f"a command must be {self._low.size} finite numbers"
        self.counts["commands"] += 1
        if self.enabled:
            sent = stamp if now - round(WATCHDOG_S * NS_PER_S) <= stamp <= now else now
            self._hold.add(max(sent, self.stamp), np.clip(values, self._low, self._high))
        return ""

    def enable(self, now: int) -> None:
        """Power the motors; they get zero until a command comes."""
        self.enabled = True
        self._hold.add(now, None)

    def disable(self, now: int) -> None:
        """Cut the motors' power: zero effort."""
        self.enabled = False
        self._hold.add(now, None)

    def tripped(self) -> bool:
        """Whether the command watchdog has fired."""
        return self._hold.tripped(self.stamp)

    def joints(self) -> JointState:
        """Every joint at the instant that physics has reached."""
        names, position, velocity = self._joints.read()
        effort = np.zeros(len(names))
        effort[: self._effort.size] = self._effort  # the actuated joints come first
        return JointState(self.stamp, names, position, velocity, effort)

    def reset(self, seed: int, now: int) -> None:
        """Start a new episode from the task's initial distribution; power and commands stay as they are."""
        self._k = max(self._k, self.grid.floor(now))
        self.task.reset(seed)
        self.seed, self.steps, self.reward_sum, self.began = seed, 0, 0.0, self.stamp
        self._sense()

    def status(self) -> dict[str, float | int | bool | str]:
        """Figures since the last reset, and counters since the start."""
        mean = self.reward_sum / self.steps if self.steps else 0.0
        return {
            "task": self.contract.name,
            "seed": self.seed,
            "began": self.began,
            "stamp": self.stamp,
            "steps": self.steps,
            "reward_mean": mean,
            "enabled": self.enabled,
            "watchdog_tripped": self.tripped(),
            **self.counts,
        }

    def _step(self) -> None:
        start, end = self.stamp, self.due
        self._effort = self._hold.mean(start, end)
        reward = float(self.task.step(self._effort))
        self._k += 1
        self.steps += 1
        self.reward_sum += reward
        self._sense()
        self.samples.append(Sample(0, end, np.array([reward])))

    def _sense(self) -> None:
        """Leave what the task observes at this instant, one sample per topic."""
        measured = {m.name: np.asarray(m.values, np.float64) for m in self.task.read()}
        for stream, topic in enumerate(self.streams[1:], start=1):
            if topic == STATE_TOPIC:
                self.samples.append(Sample(stream, self.stamp, self.task.qpos()))
                continue
            parts = [measured[o.name] for o in self.contract.observations if o.topic == topic and o.field == "data"]
            self.samples.append(Sample(stream, self.stamp, np.concatenate(parts)))


def _streams(contract: Contract) -> tuple[str, ...]:
    """Topics of the sensor streams: the reward first, then every topic of observations that are no joints, and the state of the
    scene where somebody has to draw images of it."""
    topics = [o.topic for o in contract.observations if o.field == "data"]
    drawn = [STATE_TOPIC] if contract.images else []
    return tuple(dict.fromkeys([contract.reward.topic or "reward", *topics, *drawn]))
