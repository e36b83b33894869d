"""What trains the RSSM families: each term against a calculation by hand, and training as a whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.elbo import DECODED, ElboConfig, divergences, elbo_terms, filter_sampled, reconstruction_error
from models.families import make_model
from models.fused import kernels
from models.losses import compute_losses
from models.networks import Sizes
from models.rollout import roll_out
from models.stochastic import Categorical, Gaussian
from models.train import Trainer
from models.train_config import config_for, learns_motion_alone
from models.windows import draw_noise, draw_sequence
from robot_wm.errors import RunError
from seeing import SeeingWindows, seeing_contract
from synthetic_windows import PendulumWindows, pendulum_contract

SMALL = Sizes("small", latent=16, mlp=24, encoder=20, value_heads=2, encoder_layers=2)
FAMILIES = ["rssm-gaussian", "rssm-categorical"]


def make(family="rssm-gaussian", contract=None, windows=None, elbo=None, **changes):
    """A model, its configuration, a batch of windows and their noise."""
    contract = contract or pendulum_contract()
    torch.manual_seed(1)
    model = make_model(contract, SMALL, family)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    config = replace(config_for(contract, family=family, **changes), batch=6)
    if elbo:
        config = replace(config, loss=replace(config.loss, elbo=replace(config.loss.elbo, **elbo)))
    sequence = draw_sequence(windows or PendulumWindows(episodes=3), np.random.default_rng(0), config)
    noise = draw_noise(model, config.loss, config.batch, torch.Generator().manual_seed(0))
    return model, config.loss, sequence, noise


def filtered(model, config, sequence, noise):
    count = config.burn_in + config.starts
    mask = torch.cat([sequence.mask[:count] * noise.keep, sequence.mask[count:]])
    return mask, filter_sampled(model, config.burn_in, sequence, noise, mask, model.initial_latent.expand(6, -1))


@pytest.mark.parametrize("kind", [Gaussian(4), Categorical(16)], ids=["gaussian", "categorical"])
def test_both_sides_of_the_divergence_learn_at_their_own_weights(kind):
    posterior, prior = (3.0 * torch.randn(2, 5, kind.raw_size) for _ in range(2))
    sides = posterior.requires_grad_(), prior.requires_grad_()
    terms = divergences(kind, ElboConfig(dynamics=0.5, representation=0.1, free=0.0), *sides, torch.ones(2, 5))
    exact = kind.divergence(posterior, prior).mean()
    assert terms["dynamics"].item() == pytest.approx(0.5 * exact.item())
    assert terms["representation"].item() == pytest.approx(0.1 * exact.item())
    of_posterior, of_prior = torch.autograd.grad(sum(terms.values()), sides)
    full_posterior, full_prior = torch.autograd.grad(exact, sides)
    torch.testing.assert_close(of_posterior, 0.1 * full_posterior)
    torch.testing.assert_close(of_prior, 0.5 * full_prior)


def test_divergences_below_the_free_bits_cost_the_same_and_teach_nothing():
    kind, valid = Gaussian(2), torch.ones(1, 2)
    posterior = torch.tensor([[[0.5, 0.0, 0.0, 0.0], [3.3, 0.0, 0.0, 0.0]]], requires_grad=True)
    prior = torch.zeros(1, 2, 4, requires_grad=True)  # divergences 0.5 * (0.5 / 1.1)² = 0.103 and 0.5 * 3² = 4.5
    terms = divergences(kind, ElboConfig(dynamics=1.0, representation=1.0, free=1.0), posterior, prior, valid)
    assert terms["dynamics"].item() == pytest.approx((1.0 + 4.5) / 2)
    gradient, _ = torch.autograd.grad(sum(terms.values()), (posterior, prior))
    assert gradient[0, 0].abs().max() == 0
    assert gradient[0, 1].abs().max() > 0


def test_rows_behind_the_end_of_an_episode_teach_nothing():
    model, config, sequence, noise = make(elbo={"overshooting": 0.3})
    valid = sequence.valid.clone()
    valid[3:] = 0.0
    spoiled = sequence.target.clone()
    spoiled[3:] = 99.0
    rollout = roll_out(model, config, sequence, noise).latents
    one = elbo_terms(model, config, sequence._replace(valid=valid), noise, None, rollout)
    other = elbo_terms(model, config, sequence._replace(valid=valid, target=spoiled), noise, None, rollout)
    assert one.keys() == {"dynamics", "representation", "reconstruction", "overshooting"}
    assert {k: v.item() for k, v in one.items()} == {k: v.item() for k, v in other.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_that_pass_means_on_are_filtered_as_on_the_robot(family):
    model, config, sequence, noise = make(family, elbo={"sampled": 0.0}, burn_in=2, drop=0.5)
    mask, found = filtered(model, config, sequence, noise)
    latent = model.initial_latent.expand(6, -1)
    for t in range(config.length):
        prior = model.prior(latent, sequence.action[t - 1]) if t else latent
        if t == config.burn_in:
            prior = torch.where(noise.cold, model.initial_latent, prior)
        latent = model.posterior(prior, model.encode(sequence.observation[t], mask[t], sequence.age[t]), mask[t])
        torch.testing.assert_close(found.latents[t], latent, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_that_pass_samples_on_are_moved_by_the_noise_alone(family):
    model, config, sequence, noise = make(family, elbo={"sampled": 1.0})
    (_, one), (_, again) = (filtered(model, config, sequence, noise) for _ in range(2))
    assert torch.equal(one.latents, again.latents)
    other = noise._replace(latent=noise.latent._replace(draws=noise.latent.draws.flip(1)))
    assert not torch.allclose(one.latents, filtered(model, config, sequence, other)[1].latents)
    expected = model.distribution.sample(one.posteriors[0], noise.latent.draws[0])
    torch.testing.assert_close(one.latents[0][:, model.deterministic_size :], expected)


def test_without_an_observation_the_posterior_is_the_prior():
    model, config, sequence, noise = make()
    mask = torch.zeros_like(sequence.mask)
    found = filter_sampled(model, config.burn_in, sequence, noise, mask, model.initial_latent.expand(6, -1))
    assert torch.equal(found.priors, found.posteriors)


def test_the_reconstruction_is_half_the_squared_error_of_standardised_features():
    model, config, sequence, noise = make()
    model.standardise(sequence.observation[0], sequence.mask[0])
    mask, found = filtered(model, config, sequence, noise)
    features = (model.features(sequence.target) - model.input_mean) / model.input_scale
    errors = model.decoder.features(found.latents) - features
    expected = 0.5 * errors.square().sum(-1).mean()
    assert reconstruction_error(model, sequence, mask, found.latents).item() == pytest.approx(expected.item(), rel=1e-5)


def test_an_image_is_reconstructed_where_one_was_seen_and_unshifted():
    model, config, sequence, noise = make(contract=seeing_contract(), windows=SeeingWindows(episodes=3))
    mask, found = filtered(model, config, sequence, noise)
    blind = torch.cat([mask[..., :-1], 0 * mask[..., -1:]], -1)
    both = reconstruction_error(model, sequence, mask, found.latents)
    without = reconstruction_error(model, sequence, blind, found.latents)
    (decoder,) = model.decoder.images
    errors = (decoder(found.latents) - (sequence.images[0] / 255.0 - 0.5)).square().sum((-3, -2, -1))
    shown = errors * mask[..., -1]
    expected = 0.5 * DECODED * shown[::DECODED].sum() / shown.numel()
    assert (both - without).item() == pytest.approx(expected.item(), rel=1e-3)


def test_overshooting_compares_what_was_expected_from_afar_with_what_was_found():
    model, config, sequence, noise = make(elbo={"overshooting": 2.0, "free": 0.0}, starts=2)
    rollout = roll_out(model, config, sequence, noise).latents
    terms = elbo_terms(model, config, sequence, noise, None, rollout)
    _, found = filtered(model, config, sequence, noise)
    total = 0.0
    for k in range(1, config.horizon + 1):
        for s in range(2):
            ahead = model.prior_raw(model.state(rollout[k][6 * s : 6 * s + 6]))
            total += model.distribution.divergence(found.posteriors[config.burn_in + s + k], ahead).mean().item()
    assert terms["overshooting"].item() == pytest.approx(2.0 * total / (2 * config.horizon), rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loss_is_a_function_of_its_inputs_with_the_kernels_and_without(family):
    model, config, sequence, noise = make(family, elbo={"overshooting": 0.3})
    results = []
    for fused in (False, True):
        model.zero_grad()
        with kernels(fused):
            terms, *_ = compute_losses(model, config, sequence, noise, torch.ones(()))
            sum(terms.values()).backward()
        results.append(({k: v.item() for k, v in terms.items()}, {k: p.grad for k, p in model.named_parameters()}))
    (plain, gradients), (fast, others) = results
    assert "consistency" not in plain
    assert plain == pytest.approx(fast, rel=1e-4, abs=1e-6)
    for name, gradient in gradients.items():
        if gradient is not None and gradient.abs().max() > 0:
            torch.testing.assert_close(others[name], gradient, rtol=1e-2, atol=1e-4 * float(gradient.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_network_learns(family):
    model, config, sequence, noise = make(family, seeing_contract(), SeeingWindows(episodes=3), with_terminals=True)
    terms, *_ = compute_losses(model, config, sequence, noise, torch.ones(()))
    sum(terms.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def trainer(family, seed=0, **changes):
    torch.manual_seed(seed)
    contract = pendulum_contract()
    config = replace(config_for(contract, seed, family=family, **changes), batch=64)
    return Trainer(make_model(contract, "nano", family), PendulumWindows(), config)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_learns_the_pendulum(family):
    made, held_out = trainer(family), PendulumWindows(seed=7)
    made.standardise()
    before, first = made.evaluate(held_out, batches=2), made.update(1)
    made.update(98)
    after, last = made.evaluate(held_out, batches=2), made.update(1)
    assert last["reward"] < 0.6 * first["reward"]
    assert last["reconstruction"] < 0.5 * first["reconstruction"]
    assert after["probe_error"] < 0.8 * before["probe_error"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_resumes_exactly(family, tmp_path):
    unbroken, resumed = trainer(family), trainer(family, seed=5)
    unbroken.update(2)
    unbroken.save(tmp_path / "checkpoint.pt")
    expected = unbroken.update(2)
    resumed.config = unbroken.config
    resumed.load(tmp_path / "checkpoint.pt")
    assert resumed.update(2) == expected
    for ours, theirs in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    trainer("rssm-gaussian").save(tmp_path / "checkpoint.pt")
    for other in ("rssm-categorical", "tdmpc2"):
        with pytest.raises(RunError, match=f"is of family rssm-gaussian, not {other}"):
            trainer(other).load(tmp_path / "checkpoint.pt")


def test_logs_without_a_task_teach_the_motion_through_the_decoder():
    contract = pendulum_contract(reward=False)
    assert learns_motion_alone(contract, "rssm-gaussian") and not learns_motion_alone(contract)
    config = replace(config_for(contract, family="rssm-gaussian"), batch=4)
    assert config.loss.elbo.overshooting > 0
    made = Trainer(make_model(contract, SMALL, "rssm-gaussian"), PendulumWindows(), config)
    terms = made.update(1)
    assert "value" not in terms and terms["overshooting"] > 0
