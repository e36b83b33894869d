"""A closed loop in one process on a virtual clock: the runtime's own filter, planner and safety filter against a task.

Deterministic per seed. Perception may be late, jittery or lost and commands may take effect late, as `Disturbance` says. Images are
as late as the contract expects, unless it says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from robot_wm.bags.writer import BagWriter
from robot_wm.contract import Contract
from robot_wm.messages import Applied, Event, FloatArray, JointState, Measurement
from robot_wm.safety import SafetyFilter
from robot_wm.timebase import NS_PER_S, Grid
from sim.agents import Agent
from sim.disturbance import Camera, Disturbance, Link, hidden_steps
from sim.plant_joints import JointReader
from sim.tasks import STATE_TOPIC, Task

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
    task: Task, agent: Agent, seed: int, disturbance: Disturbance | None = None, writer: BagWriter | None = None
) -> EpisodeResult:
    """One episode: read → observe → plan → filter → send → step, a control step at a time.

    `writer` records it as the robot would: readings, what was really sent, rewards, the episode's marks and what the agent
    publishes.
    """
    disturbance = disturbance or Disturbance()
    link = Link(disturbance, seed)
    hidden = hidden_steps(task, disturbance.occlude_s, seed)
    cameras = [Camera(task, item, disturbance, hidden, seed + i) for i, item in enumerate(task.contract.images)]
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
