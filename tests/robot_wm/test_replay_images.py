"""A replayed episode with images leads to the latents that the robot's filter came to."""

from types import SimpleNamespace

import numpy as np
import pytest

from conftest import slider_contract
from linear_model import LinearModel
from robot_wm.bags.align import Episode
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Applied, Measurement
from robot_wm.replay import filter_episode

STEP, SHAPE, ROWS = 20_000_000, (8, 8, 1), 9
CONTRACT = slider_contract(images=[{"name": "eye", "topic": "eye", "shape": list(SHAPE)}])


class SeeingModel(LinearModel):
    bundle = SimpleNamespace(contract=CONTRACT)

    def encode(self, observation, mask, age):
        return np.stack([observation.sum(1), age.sum(1)], axis=1)

    def encode_image(self, name, image):
        return np.stack([image.mean((1, 2, 3)) / 255.0, np.ones(len(image))], axis=1).astype(np.float32)

    def pair(self, name, view, before=None, gap=0):
        return view

    def join(self, state, images):
        return (state + images.get("eye", 0.0)).astype(np.float32)


def episode(seen):
    """Position at every instant, an image at the instants `seen`, 2 ms before each."""
    rng = np.random.default_rng(1)
    mask, age = np.zeros((ROWS, 3), np.float32), np.zeros((ROWS, 3), np.float32)
    mask[:, 0], mask[seen, 2], age[seen, 2] = 1.0, 1.0, 0.1
    pixels = rng.integers(0, 256, (ROWS, *SHAPE)).astype(np.uint8) * mask[:, 2, None, None, None].astype(np.uint8)
    observation = np.stack([rng.standard_normal(ROWS), np.zeros(ROWS)], axis=1).astype(np.float32)
    action = rng.uniform(-1, 1, (ROWS, 1)).astype(np.float32)
    empty = np.zeros(ROWS)
    return Episode(0, STEP, observation, mask, age, action, empty, observation, (), False, "bag", (pixels,))


@pytest.mark.parametrize("seen", [[1, 3, 5, 8], []])
def test_replay_is_the_filter(seen):
    recorded = episode(seen)
    filter_ = LatentFilter(CONTRACT, SeeingModel(), start=0)
    for k in range(ROWS):
        filter_.observe(Measurement("position", k * STEP, recorded.observation[k, :1]))
        filter_.applied(Applied(k * STEP, 10.0 * recorded.action[k], "command"))
    for k in reversed(seen):
        filter_.observe(Measurement("eye", k * STEP - STEP // 10, recorded.images[0][k]))
    latents = filter_episode(SeeingModel(), recorded).posteriors
    np.testing.assert_allclose(latents[-1], filter_.latent().values, atol=1e-6)
