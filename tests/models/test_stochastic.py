"""The stochastic latents: divergences by hand and by torch, samples, and the gradients that samples let through."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, OneHotCategorical, kl_divergence

from models.stochastic import CLASSES, UNIMIX, Categorical, Gaussian

KINDS = [Gaussian(6), Categorical(3 * CLASSES)]


@pytest.fixture(params=KINDS, ids=["gaussian", "categorical"])
def kind(request):
    return request.param


def raws(kind, *shape, seed=0):
    return 2.0 * torch.randn(*shape, kind.raw_size, generator=torch.Generator().manual_seed(seed))


def plain(kind, raw):
    """The same distribution in torch.distributions."""
    if isinstance(kind, Gaussian):
        return Independent(Normal(kind.mean(raw), kind.deviation(raw)), 1)
    probabilities = kind.mean(raw).reshape(*raw.shape[:-1], -1, CLASSES)
    return Independent(OneHotCategorical(probs=probabilities), 1)


def test_the_divergence_of_gaussians_by_hand():
    """N(1, 1.1²) from N(0, 1.1²): (1 / 1.1)² / 2; sigmoid2 gives 0.1 + 2 / 2 at a raw deviation of 0."""
    kind = Gaussian(1)
    got = kind.divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]))
    assert got.item() == pytest.approx(0.5 / 1.21, rel=1e-5)


def test_the_divergence_of_categoricals_by_hand():
    """Nearly certain against uniform: log(classes), less what the one per cent of the uniform leaves open."""
    kind = Categorical(CLASSES)
    certain = torch.zeros(CLASSES)
    certain[2] = 50.0
    rest = UNIMIX / CLASSES
    chosen = 1.0 - UNIMIX + rest
    expected = chosen * math.log(chosen * CLASSES) + (CLASSES - 1) * rest * math.log(rest * CLASSES)
    assert kind.divergence(certain, torch.zeros(CLASSES)).item() == pytest.approx(expected, rel=1e-4)


def test_the_divergence_is_that_of_torch(kind):
    ours, theirs = raws(kind, 4, 3), raws(kind, 4, 3, seed=1)
    expected = kl_divergence(plain(kind, ours), plain(kind, theirs))
    torch.testing.assert_close(kind.divergence(ours, theirs), expected, rtol=1e-4, atol=1e-5)
    assert kind.divergence(ours, ours).abs().max() < 1e-5


def test_every_class_keeps_its_share_of_the_uniform_distribution():
    kind = Categorical(CLASSES)
    raw = torch.full((CLASSES,), -1e4)
    raw[5] = 1e4
    assert kind.mean(raw).min().item() == pytest.approx(UNIMIX / CLASSES)
    assert kind.mean(raw).sum().item() == pytest.approx(1.0)
    assert torch.isfinite(kind.divergence(raw, -raw))


def test_samples_have_the_mean_that_deterministic_graphs_pass_on(kind):
    raw = raws(kind)
    samples = kind.sample(raw.expand(40_000, -1), kind.draw((40_000,), torch.Generator().manual_seed(0)))
    torch.testing.assert_close(samples.mean(0), kind.mean(raw), atol=0.06, rtol=0)


def test_a_categorical_sample_is_one_hot_with_the_gradient_of_its_probabilities():
    """Straight through: the sample's value, the probabilities' gradient."""
    kind = Categorical(2 * CLASSES)
    raw = raws(kind, 5).requires_grad_()
    sample = kind.sample(raw, kind.draw((5,), torch.Generator().manual_seed(0)))
    groups = sample.detach().reshape(5, 2, CLASSES)
    assert torch.equal(groups.sort(-1).values[..., :-1], torch.zeros(5, 2, CLASSES - 1))
    assert torch.equal(groups.amax(-1), torch.ones(5, 2))
    weights = torch.randn(2 * CLASSES)
    (ours,) = torch.autograd.grad((sample * weights).sum(), raw)
    (theirs,) = torch.autograd.grad((kind.mean(raw) * weights).sum(), raw)
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().max() > 0


def test_a_gaussian_sample_is_reparametrised():
    kind = Gaussian(2)
    raw = torch.zeros(1, 4, requires_grad=True)
    sample = kind.sample(raw, torch.tensor([[1.0, -2.0]]))
    assert sample.tolist() == [[pytest.approx(1.1), pytest.approx(-2.2)]]
    (gradient,) = torch.autograd.grad(sample.sum(), raw)
    assert gradient.tolist() == [[1.0, 1.0, pytest.approx(0.25), pytest.approx(-0.5)]]  # sigmoid' / 2 * 2 = 1/4


def test_the_same_generator_draws_the_same_noise(kind):
    one, other = (kind.draw((3, 4), torch.Generator().manual_seed(5)) for _ in range(2))
    assert one.shape == (3, 4, kind.size)
    assert torch.equal(one, other)
    assert one.isfinite().all()
