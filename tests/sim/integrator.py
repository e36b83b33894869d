"""A plant that integrates its command, and a model that knows it exactly: every prediction can be compared with the truth."""

from types import SimpleNamespace

import numpy as np

from robot_wm.backend import Refinement
from robot_wm.bundle import PlannerDefaults
from robot_wm.contract import parse_contract
from robot_wm.messages import Measurement

LIMIT = 2.0  # of the command [m/s]
TENDON = 3  # mjtTrn: the belt moves no joint


def integrator_contract(control_dt=0.01, **changes):
    data = {
        "name": "integrator",
        "model_hz": 1.0 / (2 * control_dt),
        "motor_hz": 1.0 / control_dt,
        "observations": [{"name": "x", "topic": "task_observation", "field": "data", "names": ["x"], "unit": "m"}],
        "action": {"names": ["belt"], "mode": "velocity", "unit": "m/s", "low": [-LIMIT], "high": [LIMIT]},
    }
    return parse_contract({**data, **changes})


class IntegratorTask:
    """x' = command; the reward is the command's size, so that a bag can be checked against it."""

    def __init__(self, length=60, control_dt=0.01, fails_after=None, **changes):
        self.contract = integrator_contract(control_dt, **changes)
        self.control_dt, self.length, self.fails_after = control_dt, length, fails_after
        self.terminated = False
        self.model = SimpleNamespace(actuator_trntype=[TENDON])
        self.data = None
        self.commands, self.states, self.stamps = [], [], []

    def reset(self, seed):
        self.x = np.random.default_rng(seed).uniform(-1.0, 1.0)
        self.terminated = False
        self.commands, self.states, self.stamps = [], [self.x], []

    def step(self, action):
        self.commands.append(float(action[0]))
        self.x += float(action[0]) * self.control_dt
        self.states.append(self.x)
        self.terminated = len(self.commands) == self.fails_after
        return abs(float(action[0])) / LIMIT

    def read(self, stamp=0):
        self.stamps.append(stamp)
        return [Measurement("x", stamp, np.array([self.x]))]

    def qpos(self):
        return np.array([self.x])


class IntegratorModel:
    """Latent (x,): the prior integrates, the posterior believes the measurement. Plans are noise, and where each began is kept."""

    def __init__(self, contract):
        self.bundle_id = "integrator"
        self.bundle = SimpleNamespace()
        self.budget = PlannerDefaults(samples=8, refinements=2)
        self.initial_latent = np.zeros(1, np.float32)
        self.planned_from = []
        self._gain = LIMIT / contract.model_hz

    def encode(self, observation, mask, age):
        return observation

    def posterior(self, prior_latent, embedding, mask):
        return np.where(mask > 0, embedding, prior_latent).astype(np.float32)

    def prior(self, latent, action):
        return (latent + self._gain * action).astype(np.float32)

    def with_samples(self, samples):
        assert samples == self.budget.samples
        return self

    def propose(self, latent, noise):
        self.planned_from.append(float(latent[0, 0]))
        return np.clip(noise, -1.0, 1.0)

    def refine(self, *, mean, std, noise, **_):
        return Refinement(np.clip(0.7 * noise[0], -1.0, 1.0), 0.1 * np.ones_like(mean), mean, 0.0, 0.0)
