"""Images in the model: their own encoder, no influence where there is none, shifts of a whole sequence at once."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.export import load_world_model
from models.images import ImageEncoder, largest_shift, random_shift
from models.optimiser import Optimiser, OptimiserConfig
from seeing import EYE, SHAPE, WRIST, pictures, seeing_contract, seeing_model

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo"


@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 10, 3), (48, 48, 3), (33, 65, 1)])
def test_an_encoder_takes_any_shape_and_keeps_leading_dimensions(shape):
    encoder = ImageEncoder(shape, 16)
    images = pictures(2, 5, shape=shape)
    embedding = encoder(images)
    assert embedding.shape == (2, 5, 16)
    assert torch.allclose(embedding[1, 3], encoder(images[1, 3]), atol=1e-6)


def test_each_image_has_an_encoder_of_its_own():
    model = seeing_model(seeing_contract(EYE, WRIST))
    assert model.encode_image("eye", pictures(3)).shape == (3, 16)
    assert model.encode_image("wrist", pictures(3, shape=(9, 16, 1))).shape == (3, 16)


def correct(model, latent, mask, images, age=0.0):
    observation, ages = torch.tensor([[0.4, -2.0]]).expand(len(latent), -1), torch.full_like(mask, age)
    embedded = [model.encode_image(item.name, image) for item, image in zip(model.images, images, strict=True)]
    return model.posterior(latent, model.join(model.encode(observation, mask, ages), embedded, mask), mask)


@pytest.mark.parametrize("anchored", [False, True])
def test_an_image_corrects_the_latent_alone_and_only_where_its_mask_says_so(anchored):
    model = seeing_model(seeing_contract(anchored=anchored))
    latent = model.initial_latent.expand(3, -1)
    mask = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    one, other = (correct(model, latent, mask, [pictures(3, seed=seed)]) for seed in (1, 2))
    assert torch.equal(one[0], latent[0])
    assert torch.equal(one[2], other[2])
    assert not torch.allclose(one[1], other[1])
    assert not torch.allclose(one[1], latent[1])


def test_the_age_of_an_image_matters():
    model = seeing_model()
    latent, mask = model.initial_latent.expand(1, -1), torch.tensor([[0.0, 0.0, 1.0]])
    early, late = (correct(model, latent, mask, [pictures(1)], age) for age in (-0.5, 0.5))
    assert not torch.allclose(early, late)


def test_every_weight_of_the_image_encoders_is_trained():
    model = seeing_model(seeing_contract(EYE, WRIST))
    optimiser = Optimiser(model, OptimiserConfig())
    trained = {id(p) for p in optimiser.parameters}
    assert {id(p) for p in model.image_encoders.parameters()} <= trained


def test_a_contract_without_images_makes_the_model_it_always_made():
    model = load_world_model(ZOO / "cartpole_swingup")  # its weights fit exactly
    assert not [name for name in model.state_dict() if "image" in name]
    state = model.encode(torch.zeros(1, 4), torch.ones(1, 2), torch.zeros(1, 2))
    assert model.join(state, [], torch.ones(1, 2)) is state


@given(st.integers(-4, 4), st.integers(-4, 4))
def test_a_shift_moves_a_picture_and_repeats_its_border(down, right):
    images = pictures(2, 1)
    shifted = random_shift(images, torch.tensor([[down, right]]))
    height, width, _ = SHAPE
    for row in range(height):
        for column in range(width):
            source = min(max(row - down, 0), height - 1), min(max(column - right, 0), width - 1)
            assert torch.equal(shifted[:, 0, row, column], images[:, 0, source[0], source[1]])


def test_each_sequence_has_one_shift_of_its_own():
    images = pictures(1, 1).expand(4, 3, -1, -1, -1)
    shifted = random_shift(images, torch.tensor([[0, 0], [2, -1], [-3, 1]]))
    assert torch.equal(shifted[:, 0], images[:, 0])
    assert all(torch.equal(shifted[0], shifted[t]) for t in range(4))
    assert not torch.equal(shifted[0, 1], shifted[0, 2])
    assert shifted.dtype == torch.uint8


def test_the_largest_shift_is_four_pixels_of_sixty_four():
    assert largest_shift((64, 64, 3), 4.0) == (4, 4)
    assert largest_shift((48, 96, 1), 4.0) == (3, 6)
    assert largest_shift((48, 96, 1), 0.0) == (0, 0)
