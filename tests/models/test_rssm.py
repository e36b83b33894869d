"""The RSSM families have the verbs of the default one, and a latent of a recurrent state and a mean."""

import pytest
import torch

from models.families import FAMILIES, make_model
from models.networks import BINS, Sizes
from models.rssm import CategoricalRssm, GaussianRssm, Rssm
from models.stochastic import CLASSES
from robot_wm.errors import ContractError
from seeing import SHAPE, seeing_contract
from synthetic_windows import pendulum_contract

SMALL = Sizes("small", latent=16, mlp=24, encoder=20, value_heads=2, encoder_layers=2)
EXACT = {"rtol": 0, "atol": 0}


def make(family, contract=None, seed=0):
    """A model away from its zero-initialised heads."""
    torch.manual_seed(seed)
    model = make_model(contract or pendulum_contract(), SMALL, family).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(params=["rssm-gaussian", "rssm-categorical"])
def model(request):
    return make(request.param)


def observe(model, latent, mask, angle=0.4):
    observation = torch.tensor([[angle, -2.0]]).expand(len(latent), -1)
    return model.posterior(latent, model.encode(observation, mask, torch.zeros_like(mask)), mask)


def test_a_family_is_made_by_its_name_and_an_unknown_one_refused():
    assert set(FAMILIES) == {"tdmpc2", "rssm-gaussian", "rssm-categorical"}
    for name, kind in FAMILIES.items():
        made = make_model(pendulum_contract(), SMALL, name)
        assert type(made) is kind and made.family == name
    with pytest.raises(
        ContractError, match="unknown model family 'dreamer'; known are tdmpc2, rssm-gaussian, rssm-cat"
    ):
        make_model(pendulum_contract(), SMALL, "dreamer")


def test_the_latent_is_the_state_and_the_mean_of_what_is_stochastic():
    assert GaussianRssm(pendulum_contract(), SMALL).latent_size == 16 + 8
    categorical = CategoricalRssm(pendulum_contract(), SMALL)
    assert categorical.latent_size == 16 + 16
    assert categorical.initial_latent.tolist() == [0.0] * 16 + [1.0 / CLASSES] * 16


def test_every_verb_keeps_leading_dimensions(model):
    latent, action = model.initial_latent.expand(3, 5, -1), torch.rand(3, 5, 1)
    assert model.prior(latent, action).shape == latent.shape
    mask = torch.ones(3, 5, 2)
    assert model.posterior(latent, model.encode(torch.rand(3, 5, 2), mask, mask), mask).shape == latent.shape
    assert model.reward(latent, action).shape == (3, 5, BINS)
    assert model.values(latent, action).shape == (2, 3, 5, BINS)
    assert model.policy(latent).action.shape == (3, 5, 1)
    assert model.terminated(latent).shape == (3, 5)
    assert model.readout(latent).shape == (3, 5, 2)


def test_an_instant_without_observations_leaves_the_latent_exactly_as_it_was(model):
    latent = torch.rand(4, model.latent_size)
    mask = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    corrected = observe(model, latent, mask)
    torch.testing.assert_close(corrected[[0, 3]], latent[[0, 3]], **EXACT)
    assert not torch.allclose(corrected[[1, 2]], latent[[1, 2]])


def test_an_observation_corrects_the_stochastic_part_and_reaches_the_state_one_step_later(model):
    latent, mask = torch.rand(2, model.latent_size), torch.ones(2, 2)
    one, other = observe(model, latent, mask, angle=0.4), observe(model, latent, mask, angle=-1.0)
    torch.testing.assert_close(model.state(one), model.state(latent), **EXACT)
    assert not torch.allclose(one, other)
    action = torch.zeros(2, 1)
    assert not torch.allclose(model.state(model.prior(one, action)), model.state(model.prior(other, action)))


def test_the_prior_of_a_latent_is_what_its_state_expects(model):
    latent = model.prior(torch.rand(3, model.latent_size), torch.rand(3, 1))
    h = model.state(latent)
    expected = torch.cat([h, model.distribution.mean(model.prior_raw(h))], -1)
    torch.testing.assert_close(latent, expected, **EXACT)


def test_the_means_of_categoricals_sum_to_one():
    model = make("rssm-categorical")
    z = model.prior(torch.rand(3, model.latent_size), torch.rand(3, 1))[:, 16:]
    torch.testing.assert_close(z.reshape(3, -1, CLASSES).sum(-1), torch.ones(3, 2))


def test_the_state_stays_bounded_however_long_nothing_is_seen(model):
    latent = 5.0 * torch.randn(8, model.latent_size)
    latent[:, :16] = torch.tanh(latent[:, :16])
    for _ in range(200):
        latent = model.prior(latent, torch.ones(8, 1))
    assert model.state(latent).abs().max() <= 1.0
    assert latent.isfinite().all()


def test_anchored_observations_are_nothing_special():
    model = make("rssm-gaussian", pendulum_contract(anchored=True, reward=False))
    assert model.anchors is None
    assert model.latent_size == 24


def test_the_decoder_gives_back_features_and_images_of_any_shape():
    model = make("rssm-gaussian", seeing_contract())
    assert isinstance(model, Rssm)
    latent = torch.rand(3, 2, model.latent_size)
    assert model.decoder.features(latent).shape == (3, 2, model.features.size)
    (image,) = model.decoder.images
    assert image(latent).shape == (3, 2, *SHAPE)
