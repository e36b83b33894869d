"""A world model in five lines of numpy, for tests that need thousands of evaluations with answers known exactly."""

import numpy as np


class LinearModel:
    """Latent (2,): prior rotates and adds the action, posterior blends in the embedding (= masked observation, age)."""

    def __init__(self, bundle_id="linear", gain=0.5, actions=1, observations=1):
        self.bundle_id = bundle_id
        self.gain = gain
        self.initial_latent = np.zeros(2, np.float32)
        self._mix = np.linspace(1.0, 2.0, 2 * actions).reshape(actions, 2)
        self.encoded = 0

    def encode(self, observation, mask, age):
        self.encoded += 1
        return np.concatenate([observation.sum(1, keepdims=True) * mask.max(), age.sum(1, keepdims=True)], 1)

    def posterior(self, prior_latent, embedding, mask):
        gain = self.gain * (mask.max() > 0)
        return ((1 - gain) * prior_latent + gain * embedding).astype(np.float32)

    def prior(self, latent, action):
        turned = 0.9 * latent[:, ::-1] * np.array([1.0, -1.0])
        return (turned + action @ self._mix).astype(np.float32)
