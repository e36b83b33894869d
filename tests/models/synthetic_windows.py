"""A dataset for trainer tests: windows of a damped, torque-driven pendulum, simulated in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot_wm.contract import Contract, parse_contract

HZ = 20.0


def pendulum_contract(anchored: bool = False, reward: bool = True) -> Contract:
    return parse_contract(
        {
            "name": "pendulum",
            "model_hz": HZ,
            "observations": [
                {
                    "name": "position",
                    "topic": "joint_states",
                    "field": "position",
                    "names": ["hinge"],
                    "encoding": "angle",
                    "anchored": anchored,
                },
                {
                    "name": "velocity",
                    "topic": "joint_states",
                    "field": "velocity",
                    "names": ["hinge"],
                    "scale": 4.0,
                    "anchored": anchored,
                },
            ],
            "action": {"names": ["hinge"], "mode": "effort", "low": -3.0, "high": 3.0},
            "reward": {"topic": "reward" if reward else ""},
        }
    )


@dataclass(frozen=True)
class Batch:
    observation: np.ndarray
    mask: np.ndarray
    age: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    target: np.ndarray
    terminal: np.ndarray
    valid: np.ndarray
    begins: np.ndarray
    rows: np.ndarray
    images: tuple[np.ndarray, ...] = ()


class PendulumWindows:
    """Episodes (episodes, steps) under random torque; `sample` as models.dataset.Dataset.sample."""

    def __init__(self, episodes: int = 32, steps: int = 100, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.action = np.clip(0.9 * rng.standard_normal((episodes, steps, 1)), -1, 1).astype(np.float32)
        angle, speed = rng.uniform(-3, 3, episodes), rng.uniform(-4, 4, episodes)
        states = []
        for t in range(steps):
            states.append(np.stack([angle, speed], -1))
            for _ in range(10):
                speed = speed + (9.81 * np.sin(angle) - 0.3 * speed + 3 * self.action[:, t, 0]) / (10 * HZ)
                angle = angle + speed / (10 * HZ)
        self.state = np.stack(states, 1).astype(np.float32)
        self.reward = (0.5 + 0.5 * np.cos(self.state[..., 0])).astype(np.float32)

    def sample(self, rng: np.random.Generator, batch: int, length: int, lead: int = 0) -> Batch:
        episode = rng.integers(len(self.state), size=(batch, 1))
        place = rng.integers(self.state.shape[1] + lead - length + 1, size=(batch, 1)) - lead + np.arange(length)
        begun, index = (place >= 0).astype(np.float32), np.maximum(place, 0)
        observation = self.state[episode, index]
        ones = np.ones((batch, length), np.float32)
        return Batch(
            observation=observation,
            mask=np.repeat(begun[..., None], 2, -1),
            age=np.zeros((batch, length, 2), np.float32),
            action=self.action[episode, index],
            reward=self.reward[episode, index],
            target=observation,
            terminal=0 * ones,
            valid=begun,
            begins=(place == 0).astype(np.float32),
            rows=episode * self.state.shape[1] + index,
        )
