import pytest
import torch

from models.networks import BINS
from models.world_model import WorldModel
from synthetic_windows import pendulum_contract


@pytest.fixture
def model() -> WorldModel:
    torch.manual_seed(0)
    made = WorldModel(pendulum_contract(), "nano").eval()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def observe(model: WorldModel, latent: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    observation = torch.tensor([[0.4, -2.0]]).expand(len(latent), -1)
    return model.posterior(latent, model.encode(observation, mask, torch.zeros_like(mask)), mask)


def test_every_verb_keeps_leading_dimensions(model: WorldModel) -> None:
    latent, action = model.initial_latent.expand(3, 5, -1), torch.rand(3, 5, 1)
    assert model.prior(latent, action).shape == latent.shape
    assert model.reward(latent, action).shape == (3, 5, BINS)
    assert model.values(latent, action).shape == (2, 3, 5, BINS)
    assert model.value(latent, action).shape == (3, 5)
    assert model.policy(latent).action.shape == (3, 5, 1)
    assert model.terminated(latent).shape == (3, 5)
    assert model.readout(latent).shape == (3, 5, 2)


def test_an_instant_without_observations_leaves_the_latent_exactly_as_it_was(model: WorldModel) -> None:
    latent = torch.softmax(torch.randn(4, 8, 8), -1).flatten(1)
    mask = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    corrected = observe(model, latent, mask)
    assert torch.equal(corrected[[0, 3]], latent[[0, 3]])
    assert not torch.allclose(corrected[[1, 2]], latent[[1, 2]])


def test_what_is_masked_has_no_influence(model: WorldModel) -> None:
    mask = torch.tensor([[1.0, 0.0]])
    one, other = torch.tensor([[0.4, 0.0]]), torch.tensor([[0.4, 77.0]])
    age = torch.tensor([[0.1, 0.3]]), torch.tensor([[0.1, -0.2]])
    assert torch.equal(model.encode(one, mask, age[0]), model.encode(other, mask, age[1]))


def test_the_age_of_a_measurement_matters(model: WorldModel) -> None:
    mask, observation = torch.ones(1, 2), torch.tensor([[0.4, 1.0]])
    early, late = (model.encode(observation, mask, torch.full((1, 2), age)) for age in (-0.5, 0.5))
    assert not torch.allclose(early, late)


def test_the_posterior_remembers_through_the_prior_latent(model: WorldModel) -> None:
    mask = torch.ones(2, 2)
    before = torch.softmax(torch.randn(2, 8, 8), -1).flatten(1)
    corrected = observe(model, before, mask)
    assert not torch.allclose(corrected[0], corrected[1])


def test_the_policy_without_noise_is_its_mean_within_limits(model: WorldModel) -> None:
    latent = torch.softmax(torch.randn(64, 8, 8), -1).flatten(1)
    sample = model.policy(latent)
    assert torch.equal(sample.action, sample.mean)
    assert model.policy(latent, 5 * torch.randn(64, 1)).action.abs().max() <= 1.0


def test_entropy_is_that_of_the_gaussian(model: WorldModel) -> None:
    latent = model.initial_latent.expand(20000, -1)
    sample = model.policy(latent, torch.randn(20000, 1, generator=torch.Generator().manual_seed(0)))
    exact = torch.distributions.Normal(0.0, sample.log_std[0].exp()).entropy().sum()
    assert float(sample.entropy.mean()) == pytest.approx(float(exact), abs=0.03)


def test_the_probe_sends_no_gradient_into_the_latent(model: WorldModel) -> None:
    latent = model.initial_latent.expand(2, -1).clone().requires_grad_()
    model.readout_features(latent).sum().backward()
    assert latent.grad is None


def test_target_heads_start_equal_and_are_not_trained() -> None:
    model = WorldModel(pendulum_contract(), "nano")
    latent, action = model.initial_latent.expand(2, -1), torch.zeros(2, 1)
    assert torch.equal(model.values(latent, action), model.target_values(latent, action))
    assert not any(p.requires_grad for p in model.target_heads.parameters())


def test_standardising_counts_only_what_was_seen_and_leaves_a_constant_alone(model: WorldModel) -> None:
    observation = torch.tensor([[0.3, 10.0], [0.3, 14.0], [0.3, 999.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    model.standardise(observation, mask)
    *angle, speed = zip(model.input_mean.tolist(), model.input_scale.tolist(), strict=True)
    assert speed == pytest.approx((3.0, 0.5))  # the contract divides by 4
    assert [scale for _, scale in angle] == [1.0, 1.0]
    zero = model.encode(torch.tensor([[0.3, 12.0]]), torch.ones(1, 2), torch.zeros(1, 2))
    assert torch.allclose(zero, model.encoder(torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])), atol=1e-5)
