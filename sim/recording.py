"""An episode as the robot itself would record it, and as the robot would that has every state measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_wm.bags.writer import BagWriter
from robot_wm.contract import Contract
from robot_wm.messages import Applied, Event, JointState, Measurement
from sim.plant_joints import JointReader
from sim.tasks import STATE_TOPIC, SeeingTask, Task, contract_of


class Everything:
    """A task that sees, as its sibling: the same scene at the same time, every state measured, no images."""

    def __init__(self, task: SeeingTask) -> None:
        self.contract: Contract = contract_of(task.sibling)
        self.model: Any = task.model
        self.data: Any = task.data
        self.qpos = task.qpos
        self._task = task

    def read(self, stamp: int = 0) -> list[Measurement]:
        """Every observation of the sibling's contract, now."""
        return self._task.read_all(stamp)


class Recorder:
    """Writes control steps into a bag: joint states, one tensor per tensor topic, images, and what came of them."""

    def __init__(self, writer: BagWriter, task: Task | Everything) -> None:
        self._writer = writer
        self._task = task
        self._contract = task.contract
        self._joints = JointReader(task)
        self._pose = Measurement("qpos", 0, np.zeros(0))

    def begin(self, stamp: int, seed: int) -> None:
        self._writer.write("event", Event(stamp, "start", f"seed {seed}"))

    def image(self, topic: str, image: Measurement, now: int) -> None:
        self._writer.write(topic, image, now)

    def measured(self, now: int) -> None:
        """What is measured before the step that begins now."""
        for topic, message in self._readings(now):
            self._writer.write(topic, message)
        self._pose = Measurement("qpos", now, self._task.qpos())

    def acted(self, applied: Applied, reward: float, after: int, published: list[tuple[str, object]]) -> None:
        """What was sent in that step, what it brought by its end, and what the agent published."""
        for topic, message in published:
            self._writer.write(topic, message, applied.stamp)
        self._writer.write(STATE_TOPIC, self._pose)
        self._writer.write(self._contract.action.topic, applied)
        self._writer.write(self._contract.reward.topic, Measurement("reward", after, np.array([reward])))

    def end(self, stamp: int, failed: bool) -> None:
        self.measured(stamp)
        self._writer.write("event", Event(stamp, "failure" if failed else "end"))

    def _readings(self, now: int) -> list[tuple[str, object]]:
        messages: list[tuple[str, object]] = []
        tensors: dict[str, list[Any]] = {}
        for item, reading in zip(self._contract.observations, self._task.read(now), strict=True):
            if item.field == "data":
                tensors.setdefault(item.topic, []).append(reading.values)
        names, position, velocity = self._joints.read()
        state = JointState(now, names, position, velocity, np.zeros(0))
        for topic in dict.fromkeys(o.topic for o in self._contract.observations if o.field != "data"):
            messages.append((topic, state))
        messages += [(topic, Measurement(topic, now, np.concatenate(parts))) for topic, parts in tensors.items()]
        return messages
