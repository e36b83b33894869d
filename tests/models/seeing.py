"""A robot that sees: contracts and models with images, small enough for a test."""

from dataclasses import replace

import numpy as np
import torch

from models.networks import Sizes
from models.world_model import WorldModel
from robot_wm.contract import parse_contract
from synthetic_windows import PendulumWindows, pendulum_contract

TINY = Sizes("tiny", latent=16, mlp=24, encoder=16, value_heads=2, encoder_layers=2)
SHAPE = (12, 10, 3)
EYE = {"name": "eye", "topic": "camera/image_raw", "shape": list(SHAPE), "rate_hz": 10.0, "delay_s": 0.1}
WRIST = {"name": "wrist", "topic": "wrist/image_raw", "shape": [9, 16, 1], "rate_hz": 5.0, "delay_s": 0.2}


def seeing_contract(*images, **options):
    data = pendulum_contract(**options).to_dict()
    return parse_contract(data | {"images": list(images or (EYE,))})


def seeing_model(contract=None, seed=0):
    """A model away from its zero-initialised heads."""
    torch.manual_seed(seed)
    model = WorldModel(contract or seeing_contract(), TINY).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def pictures(*leading, shape=SHAPE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*leading, *shape), dtype=torch.uint8, generator=generator)


class SeeingWindows(PendulumWindows):
    """The pendulum with a camera at half the model's rate: a bright spot where its tip is, on a noisy ground."""

    def __init__(self, **options):
        super().__init__(**options)
        episodes, steps = self.state.shape[:2]
        height, width, channels = SHAPE
        shape = (episodes, steps, height, width, channels)
        self.images = np.random.default_rng(7).integers(0, 60, shape).astype(np.uint8)
        angle = self.state[..., 0]
        row = np.rint((0.5 - 0.4 * np.cos(angle)) * (height - 1)).astype(int)
        column = np.rint((0.5 + 0.4 * np.sin(angle)) * (width - 1)).astype(int)
        episode, step = np.indices((episodes, steps))
        self.images[episode, step, row, column] = 255

    def sample(self, rng, batch, length, lead=0):
        drawn = super().sample(rng, batch, length, lead)
        episode, step = np.divmod(drawn.rows, self.state.shape[1])
        seen = ((step % 2 == 0) * drawn.valid).astype(np.float32)[..., None]
        return replace(
            drawn,
            mask=np.concatenate([drawn.mask, seen], -1),
            age=np.concatenate([drawn.age, 0.2 * seen], -1),
            images=(self.images[episode, step] * seen[..., None, None].astype(np.uint8),),
        )
