"""A closed loop in one process on a virtual clock: the runtime's own filter, planner and safety filter against a task.

Deterministic per seed. Perception may be late, jittery or lost and commands may take effect late, as `Disturbance` says. Images are
as late as the contract expects, unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from robot_wm.bags.writer import BagWriter
from robot_wm.contract import Contract
from robot_wm.messages import Applied, FloatArray, JointState
from robot_wm.safety import SafetyFilter
from robot_wm.timebase import NS_PER_S, Grid
from sim.agents import Agent
from sim.disturbance import Camera, Disturbance, Link, hidden_steps
from sim.plant_joints import JointReader
from sim.recording import Everything, Recorder
from sim.tasks import SeeingTask, Task

START = 1_000 * NS_PER_S  # of the virtual clock: a stamp of zero means "not stamped" in ROS


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
    task: Task,
    agent: Agent,
    seed: int,
    disturbance: Disturbance | None = None,
    writer: BagWriter | None = None,
    full: BagWriter | None = None,
) -> EpisodeResult:
    """One episode: read → observe → plan → filter → send → step, a control step at a time.

    `writer` records it as the robot would: readings, what was really sent, rewards, the episode's marks and what the agent
    publishes; `full`, of a task that sees, as its sibling would, which has every state measured.
    """
    disturbance = disturbance or Disturbance()
    link = Link(disturbance, seed)
    hidden = hidden_steps(task, disturbance.occlude_s, seed)
    cameras = [Camera(task, item, disturbance, hidden, seed + i) for i, item in enumerate(task.contract.images)]
    joints = JointReader(task)
    own = [] if writer is None else [Recorder(writer, task)]
    others = [] if full is None else [Recorder(full, Everything(cast("SeeingTask", task)))]
    recorders = own + others
    safety = SafetyFilter(task.contract)
    grid = Grid(1.0 / task.control_dt)
    first = grid.nearest(Grid(task.contract.model_hz).stamp(Grid(task.contract.model_hz).ceil(START)))
    task.reset(seed)
    agent.reset(grid.stamp(first), seed)
    rewards, clips = [], 0
    for recorder in recorders:
        recorder.begin(grid.stamp(first), seed)
    for n in range(task.length):
        now, after = grid.stamp(first + n), grid.stamp(first + n + 1)
        readings = task.read(now)
        state = JointState(now, *joints.read(), np.zeros(0))
        for recorder in recorders:
            recorder.measured(now)
        for measurement in link.arrivals(readings, now):
            agent.observe(measurement, now)
        for camera in cameras:
            for image in camera.arrivals(n, now):
                agent.observe(image, now)
                for recorder in own:
                    recorder.image(camera.topic, image, now)
        checked = safety.filter(agent.request(now), state, now, task.control_dt)
        clips += checked.clipped
        applied = Applied(now, checked.values, "plan")
        agent.applied(applied)
        reward = task.step(link.effective(applied, now))
        rewards.append(reward)
        for recorder in own:
            recorder.acted(applied, reward, after, agent.published())
        for recorder in others:
            recorder.acted(applied, reward, after, [])
        if task.terminated:
            break
    for recorder in recorders:
        recorder.end(grid.stamp(first + len(rewards)), task.terminated)
    return EpisodeResult(seed, np.array(rewards), task.length, clips, task.terminated, grid.stamp(first))


def with_actuation_delay(contract: Contract, delay_s: float) -> Contract:
    """The contract of a robot whose commands take effect `delay_s` later than sent; same hash."""
    return replace(contract, action=replace(contract.action, delay_s=delay_s))
