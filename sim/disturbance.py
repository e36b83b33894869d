"""What lies between robot and computer: measurements late, jittery or lost, commands late, cameras hidden; drawn from a seed."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass
from typing import cast

import numpy as np

from robot_wm.contract_images import ImageObservation
from robot_wm.messages import Applied, FloatArray, Measurement
from robot_wm.timebase import NS_PER_S
from sim.tasks import SeeingTask, Task


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


class Delayed:
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


class Camera:
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
        self._way = Delayed(rng, delay, disturbance.image_jitter_s, disturbance.image_dropout)

    def arrivals(self, step: int, now: int) -> list[Measurement]:
        """Take a picture if it is time, and return those that have arrived by `now`."""
        if step % self._period == self._first and step not in self._hidden:
            taken = self._task.capture(self._name, now)
            self._way.send([] if taken is None else [taken], now)
        return self._way.arrived(now)


def hidden_steps(task: Task, seconds: float, seed: int) -> range:
    """The control steps of one occlusion, wholly within the episode where that is long enough."""
    steps = round(seconds / task.control_dt)
    first = int(np.random.default_rng([seed, 3]).integers(max(1, task.length - steps + 1)))
    return range(first, first + steps)


class Link:
    """What lies between plant and computer: delays, jitter and loss, drawn from the episode's seed."""

    def __init__(self, disturbance: Disturbance, seed: int) -> None:
        self._disturbance = disturbance
        rng = np.random.default_rng([seed, 1])
        self._way = Delayed(rng, disturbance.perception_delay_s, disturbance.jitter_s, disturbance.dropout)
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
