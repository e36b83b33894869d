"""A slider whose motion a model knows exactly, seen through noise: what is usual is known, and anything can be made to go wrong."""

from types import SimpleNamespace

import numpy as np

from conftest import slider_contract
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Applied, Measurement
from robot_wm.trust import Scale, Tail
from robot_wm.trust_file import Modality, TrustSpec
from robot_wm.trust_monitor import TrustMonitor

MS = 1_000_000
STEP = 20 * MS
DT = 0.02
SHAPE = (8, 8, 1)
NOISE = np.array([0.001, 0.01])  # of position [m] and velocity [m/s]
PUSH = 0.5  # change of velocity in one step under full action [m/s]
EYE = {"name": "eye", "topic": "eye", "shape": list(SHAPE), "rate_hz": 25, "delay_s": 0.04}


class SliderModel:
    """Latent (position, velocity, brightness of the scene), each replaced by its measurement; brightness follows the position."""

    def __init__(self, contract, bundle_id="slider"):
        self.bundle_id = bundle_id
        self.bundle = SimpleNamespace(contract=contract)
        self.initial_latent = np.zeros(3, np.float32)

    def encode(self, observation, mask, age):
        return observation

    def encode_image(self, name, image):
        return (image.mean((1, 2, 3))[:, None] / 255.0).astype(np.float32)

    def join(self, state, images):
        return np.concatenate([state, images.get("eye", np.zeros((len(state), 1)))], 1).astype(np.float32)

    def posterior(self, prior_latent, embedding, mask):
        size = embedding.shape[1]
        latent = prior_latent.copy()
        latent[:, :size] = np.where(mask > 0, embedding, prior_latent[:, :size])
        return latent

    def prior(self, latent, action):
        position, velocity, scene = latent.T
        after = [position + DT * velocity, velocity + PUSH * action[:, 0], scene + DT * velocity]
        return np.stack(after, axis=1).astype(np.float32)

    def readout(self, latent):
        return latent[:, :2]


class World:
    """Plays the slider against filter and monitor; `wrong(values, k)` is what becomes of each reading (2,)."""

    def __init__(self, spec, contract=None, seed=0):
        self.contract = contract or slider_contract()
        self.filter = LatentFilter(self.contract, SliderModel(self.contract), start=0)
        self.monitor = TrustMonitor(spec, 0)
        self.rng = np.random.default_rng(seed)
        self.state, self.k, self.push, self.source = np.zeros(2), 0, PUSH, "plan:0"
        self.statistics, self.levels, self.outliers_at = [], [], []

    def run(self, steps, wrong=lambda values, k: values, seen=True):
        """So many instants; returns the last verdict."""
        for _ in range(steps):
            now = self.k * STEP
            values = wrong(self.state + NOISE * self.rng.standard_normal(2), self.k) if seen else None
            if values is not None:
                self.hear(Measurement("position", now, values[:1]))
                self.hear(Measurement("velocity", now, values[1:]))
            verdict = self.monitor.judge(self.filter, now)
            self.statistics.append(dict(verdict.statistics))
            self.levels.append(verdict.level)
            self.outliers_at += [(now, source) for source in verdict.outliers]
            action = float(np.clip(self.rng.uniform(-0.5, 0.5) - 0.3 * self.state[1] - 0.1 * self.state[0], -1, 1))
            applied = Applied(now, np.array([10.0 * action]), self.source)
            self.filter.applied(applied)
            self.monitor.applied(applied)
            self.state = self.state + np.array([DT * self.state[1], self.push * action])
            self.k += 1
        return verdict

    def hear(self, measurement):
        self.monitor.heard(self.filter, [self.filter.observe(measurement)])

    def look(self, brightness, at=None):
        """A picture of one brightness, taken now or at an instant before."""
        pixels = np.full(SHAPE, brightness, np.uint8)
        self.hear(Measurement("eye", (self.k if at is None else at) * STEP, pixels))


def always(error):
    """The same error whatever moves."""
    return Scale((1.0,), ((float(error),),))


def usual(limit=9.0):
    """What is usual in this world: the noise of the reading and of the one that the prediction began from."""
    tail = Tail(1.2, limit, 15.0)  # of medians of a chi square with one degree of freedom
    overlapping = Tail(1.2, 2.5 * limit, 25.0)  # blind predictions share most of what happened
    position = np.hypot(NOISE[0], np.hypot(NOISE[0], DT * NOISE[1]))
    velocity = np.hypot(NOISE[1], NOISE[1])
    blind = 4
    far = np.hypot(NOISE[0], np.hypot(NOISE[0], blind * DT * NOISE[1]))
    return TrustSpec(
        {
            "position": Modality({1: always(position), blind: always(far)}, tail, 0.06, overlapping),
            "velocity": Modality({1: always(velocity), blind: always(velocity)}, tail, 0.06, overlapping),
        },
        blind,
    )


def usual_with_eye():
    spec = usual()
    eye = Modality({1: always(0.02), 2: always(0.02)}, Tail(2.7, 15.0, 15.0), 0.14, None, 1e-4, 3, 0.12)
    return TrustSpec({**spec.modalities, "eye": eye}, spec.blind_steps)
