"""A robot that sees: contracts and models with images, small enough for a test."""

import torch

from models.networks import Sizes
from models.world_model import WorldModel
from robot_wm.contract import parse_contract
from synthetic_windows import pendulum_contract

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
