"""The losses against the plain reference, number by number, and what each of them means."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eager_reference import EagerTrainer
from models.fused import kernels
from models.losses import compute_losses, percentile_range, td_target
from models.networks import Sizes
from models.rollout import roll_out
from models.train_config import LossConfig, TrainConfig, config_for
from models.windows import Noise, Sequence, draw_noise, draw_sequence, sparse_dropout
from models.world_model import WorldModel
from synthetic_windows import PendulumWindows, pendulum_contract

SMALL = Sizes("small", latent=32, mlp=48, encoder=40, value_heads=3, encoder_layers=2)


def make(config: TrainConfig, sizes: Sizes = SMALL) -> tuple[WorldModel, Sequence, Noise]:
    """A model away from its zero-initialised heads, one batch and its noise."""
    torch.manual_seed(1)
    model = WorldModel(pendulum_contract(), sizes)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    sequence = draw_sequence(PendulumWindows(episodes=4), np.random.default_rng(0), config)
    return model, sequence, draw_noise(model, config.loss, config.batch, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("changes", [{}, {"burn_in": 3, "horizon": 4, "behaviour_cloning": 0.4}])
def test_losses_and_gradients_equal_the_plain_reference(fused: bool, changes: dict) -> None:
    config = replace(config_for(pendulum_contract(), **changes), batch=32)
    model, sequence, noise = make(config)
    sequence = sequence._replace(
        mask=(torch.rand_like(sequence.mask) > 0.2).float(),
        terminal=(torch.rand_like(sequence.terminal) > 0.9).float(),
        valid=(torch.arange(config.loss.length)[:, None] < torch.randint(4, 9, (32,))).float(),
    )
    plain = EagerTrainer(model, PendulumWindows(episodes=1), config)
    expected = plain.backward(sequence, noise)
    with kernels(fused):
        terms, scale, _ = compute_losses(model, config.loss, sequence, noise, torch.ones(()))
        sum(terms.values()).backward()
    assert terms.keys() == expected.keys()
    for name, term in terms.items():
        assert term.item() == pytest.approx(expected[name].item(), rel=1e-4, abs=1e-6), name
    assert scale.item() == pytest.approx(plain.scale.item(), rel=1e-5)
    for name, parameter in plain.model.named_parameters():
        if parameter.grad is not None:
            close(dict(model.named_parameters())[name].grad, parameter.grad, name)
    for q, head in enumerate(plain.heads):
        close(model.value_heads.weights[1].grad[q], head.second.linear.weight.grad.T, "second layer")
        close(model.value_heads.gains[0].grad[q, 0], head.first.norm.weight.grad, "gain")
        close(model.value_heads.biases[2].grad[q, 0], head.last.bias.grad, "last bias")


def close(ours: torch.Tensor, theirs: torch.Tensor, name: str) -> None:
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()) + 1e-8), name


def test_the_filter_in_training_is_the_filter_at_run_time() -> None:
    config = config_for(pendulum_contract(), burn_in=2, drop=0.0, cold=0.0)
    model, sequence, noise = make(replace(config, batch=4))
    rollout = roll_out(model, config.loss, sequence, noise)
    latent = model.initial_latent.expand(4, -1)
    for t in range(config.loss.length):
        if t:
            latent = model.prior(latent, sequence.action[t - 1])
        embedding = model.encode(sequence.observation[t], sequence.mask[t], sequence.age[t])
        latent = model.posterior(latent, embedding, sequence.mask[t])
        if t >= 2:
            known = rollout.latents[0] if t == 2 else rollout.posteriors[t - 3]
            assert torch.allclose(known, latent, atol=1e-6)


def test_no_gradient_reaches_the_posteriors_that_are_targets() -> None:
    config = replace(config_for(pendulum_contract()), batch=4)
    model, sequence, noise = make(config)
    rollout = roll_out(model, config.loss, sequence, noise)
    assert not rollout.posteriors.requires_grad
    assert rollout.latents.requires_grad


def test_nothing_follows_a_terminal_state() -> None:
    config = replace(config_for(pendulum_contract()), batch=4)
    model, sequence, noise = make(config)
    first = config.loss.burn_in
    sequence = sequence._replace(terminal=torch.ones_like(sequence.terminal))
    rollout = roll_out(model, config.loss, sequence, noise)
    target = td_target(model, config.loss, rollout.sequence, noise, rollout.posteriors)
    assert torch.equal(target, sequence.reward[first : first + config.loss.horizon])


def test_rows_behind_the_end_of_an_episode_teach_nothing() -> None:
    config = replace(config_for(pendulum_contract()), batch=8)
    model, sequence, noise = make(config)
    valid = sequence.valid.clone()
    valid[3:] = 0.0
    spoiled = sequence.reward.clone()
    spoiled[3:] = 99.0
    one, *_ = compute_losses(model, config.loss, sequence._replace(valid=valid), noise, torch.ones(()))
    other, *_ = compute_losses(
        model, config.loss, sequence._replace(valid=valid, reward=spoiled), noise, torch.ones(())
    )
    assert one["reward"].item() == other["reward"].item()


def test_behaviour_cloning_pulls_the_policy_towards_logged_actions() -> None:
    config = replace(config_for(pendulum_contract(), behaviour_cloning=100.0), batch=64)
    model, sequence, noise = make(config)
    sequence = sequence._replace(action=torch.full_like(sequence.action, 0.7))
    optimiser = torch.optim.Adam(model.policy_head.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        terms, *_ = compute_losses(model, config.loss, sequence, noise, torch.ones(()))
        terms["policy"].backward()
        optimiser.step()
    latents = roll_out(model, config.loss, sequence, noise).latents
    assert model.policy(latents).mean.mean().item() == pytest.approx(0.7, abs=0.05)


def test_the_first_instant_is_never_dropped_nor_a_cold_start() -> None:
    config = LossConfig(burn_in=2, drop=0.9, cold=0.5)
    model = WorldModel(pendulum_contract(), SMALL)
    noise = draw_noise(model, config, 100, torch.Generator().manual_seed(0))
    assert noise.keep[0].all()
    assert noise.keep[-1][noise.cold[:, 0]].all()
    assert 0.0 < noise.keep[1].mean() < 0.2


def test_sparse_dropout_drops_independently_with_the_right_chance() -> None:
    factors = sparse_dropout((2, 500, 400), torch.Generator().manual_seed(0))
    dropped = (factors == 0).float()
    assert dropped.mean().item() == pytest.approx(0.01, abs=5e-4)
    assert dropped.mean((0, 1)).var().item() == pytest.approx(0.01 * 0.99 / 1000, rel=0.3)
    assert factors.max().item() == pytest.approx(1 / 0.99)


def test_percentile_range_is_that_of_numpy() -> None:
    values = torch.randn(77)
    low, high = np.percentile(values.numpy(), [5, 95])
    assert percentile_range(values).item() == pytest.approx(high - low, rel=1e-5)


def test_traced_targets_are_the_returns_of_the_recorded_rewards_as_far_as_the_window_reaches():
    config = replace(config_for(pendulum_contract(), starts=4, trace=0.8), batch=5)
    model, sequence, noise = make(config)
    sequence = sequence._replace(terminal=(torch.rand_like(sequence.terminal) > 0.8).float())
    rollout = roll_out(model, config.loss, sequence, noise)
    found = td_target(model, config.loss, rollout.sequence, noise, rollout.posteriors)
    once = replace(config.loss, trace=0.0)
    plain = td_target(model, once, rollout.sequence, noise, rollout.posteriors)
    assert found.shape == plain.shape == (3, 20)
    assert torch.allclose(found[2, 15:], plain[2, 15:], atol=1e-6)  # the window's last step
    first, gamma = config.loss.burn_in, config.loss.discount

    def target(t, b):  # of the step from the window's instant t
        k, start = (0, t - first) if t - first < 4 else (t - first - 3, 3)
        reward, alive = sequence.reward[t, b], 1.0 - sequence.terminal[t + 1, b]
        value = (plain[k, 5 * start + b] - reward) / gamma if alive else torch.tensor(0.0)
        if t - first == 5:  # the last
            return reward + gamma * alive * value
        return reward + gamma * alive * (0.2 * value + 0.8 * target(t + 1, b))

    for b in range(5):
        for start in range(4):
            for k in range(3):
                assert found[k, 5 * start + b].item() == pytest.approx(target(first + start + k, b).item(), abs=1e-4), (
                    k,
                    start,
                    b,
                )
