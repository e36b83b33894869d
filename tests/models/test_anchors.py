"""Anchored coordinates: what they are, how they move, how they are corrected, and what is learned from."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.anchors import RATE_S, Anchors
from models.losses import anchor_loss
from models.networks import Sizes
from models.rollout import from_starts, mirror, roll_out
from models.train import Trainer
from models.train_config import LossConfig, config_for
from models.windows import draw_noise, draw_sequence
from models.world_model import WorldModel
from robot_wm.contract import parse_contract
from robot_wm.errors import ContractError
from synthetic_windows import HZ, PendulumWindows, pendulum_contract

CONTRACT = pendulum_contract(anchored=True, reward=False)
ANCHORS = Anchors(CONTRACT)  # an angle, and a velocity with scale 4


def part(anchor, rate=(0.0, 0.0), known=(1.0, 1.0)):
    return torch.tensor([[*anchor, *rate, *known]])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return WorldModel(CONTRACT, "nano")


def test_an_anchor_is_the_measurement_in_the_contracts_scale():
    assert ANCHORS.normalised(torch.tensor([[2.0, 6.0]])).tolist() == [[2.0, 1.5]]


def test_angles_differ_the_short_way_round_and_other_quantities_do_not():
    got = ANCHORS.difference(torch.tensor([3.1, 3.1]), torch.tensor([-3.1, -3.1]))

    torch.testing.assert_close(got, torch.tensor([6.2 - 2 * math.pi, 6.2]))


def test_without_moves_an_anchor_follows_its_rate():
    steps = round(RATE_S * HZ)
    z = part((0.0, 1.0), rate=(0.5, -0.25))
    for _ in range(steps):
        z = ANCHORS.advance(z, torch.zeros(1, 4))

    torch.testing.assert_close(z, part((0.5, 0.75), rate=(0.5, -0.25)))


def test_a_changing_rate_moves_the_anchor_by_its_mean_over_the_step():
    z = ANCHORS.advance(part((0.0, 0.0)), torch.tensor([[0.4, 0.0, 0.0, 0.0]]))

    torch.testing.assert_close(z, part((0.2 * ANCHORS.step, 0.0), rate=(0.4, 0.0)))


def test_the_first_measurement_is_taken_as_it_is_and_later_ones_by_a_gain():
    measured = ANCHORS.measured(torch.tensor([[2.0, 6.0]]), torch.zeros(1, 2))
    seen, moves = torch.ones(1, 2), torch.zeros(1, 6)

    first = ANCHORS.correct(part((0.0, 0.0), known=(0.0, 0.0)), moves, measured, seen)
    later = ANCHORS.correct(part((1.0, 1.0)), moves, measured, seen)

    torch.testing.assert_close(first, part((2.0, 1.5)))
    assert 1.0 < later[0, 0] < 2.0


def test_a_late_measurement_is_brought_to_the_instant_by_the_rate():
    measured = ANCHORS.measured(torch.tensor([[2.0, 0.0]]), torch.full((1, 2), 0.5))

    z = ANCHORS.correct(
        part((0.0, 0.0), rate=(1.0, 0.0), known=(0.0, 0.0)), torch.zeros(1, 6), measured, torch.ones(1, 2)
    )

    assert z[0, 0].item() == pytest.approx(2.0 + 0.5 * ANCHORS.step)


def test_an_unseen_observation_leaves_its_anchors_alone(model):
    latent = model.prior(model.initial_latent.expand(1, -1), torch.zeros(1, 1))
    mask = torch.tensor([[0.0, 1.0]])

    z = model.posterior(latent, model.encode(torch.tensor([[0.0, 4.0]]), mask, torch.zeros(1, 2)), mask)

    before, after = model.split(latent)[1], model.split(z)[1]
    assert after[0, [0, 2, 4]].tolist() == before[0, [0, 2, 4]].tolist()
    assert after[0, [1, 5]].tolist() == pytest.approx([1.0, 1.0], abs=0.05)


def test_the_readout_of_an_anchor_is_exact_and_whole_turns_do_not_matter(model):
    observation, mask = torch.tensor([[2.0 + 4 * math.pi, 3.0]]), torch.ones(1, 2)

    z = model.posterior(model.initial_latent.expand(1, -1), model.encode(observation, mask, torch.zeros(1, 2)), mask)

    # The first correction adds at most SHIFT times what an untrained network says.
    torch.testing.assert_close(model.readout(z), torch.tensor([[2.0, 3.0]]), atol=0.05, rtol=0.0)
    torch.testing.assert_close(model.readout(z)[0, 0], torch.atan2(torch.sin(z[0, 64]), torch.cos(z[0, 64])))


def test_a_rollout_is_compared_at_the_stamps_of_the_measurements():
    t = torch.arange(6.0)
    curve = 0.3 + 0.2 * t - 0.05 * t**2
    rate = (0.2 - 0.1 * t) / ANCHORS.step
    parts = torch.zeros(6, 1, 6)
    parts[:, 0, 0], parts[:, 0, 2] = curve, rate
    age = torch.tensor([0.0, 0.5, -0.5, 0.25, 0.1, 0.0])
    at = t - age

    got = ANCHORS.at_stamps(parts, age[:, None, None].expand(6, 1, 2))

    torch.testing.assert_close(got[:, 0, 0], 0.3 + 0.2 * at - 0.05 * at**2)


def test_only_what_was_measured_counts_and_the_tolerance_grows_with_time():
    windows = PendulumWindows(episodes=2, steps=20)
    config = replace(config_for(CONTRACT), batch=4, loss=LossConfig(horizon=4, with_reward=False))
    sequence = from_starts(config.loss, draw_sequence(windows, np.random.default_rng(0), config))
    parts = torch.cat([ANCHORS.normalised(sequence.observation), torch.zeros(5, 4, 4)], dim=-1)
    off = parts.clone()
    off[..., 0] += 0.1

    def error(parts, sequence):
        return float(anchor_loss(ANCHORS, config.loss, parts, sequence))

    unseen = sequence._replace(mask=sequence.mask * torch.tensor([0.0, 1.0]))
    ahead = torch.arange(5) / HZ
    expected = (0.1 / (0.01 + 0.15 * ahead)).square().mean() / 2

    assert error(parts, sequence) == pytest.approx(0.0, abs=1e-6)
    assert error(off, sequence) == pytest.approx(float(expected), rel=1e-3)
    assert error(off, unseen) == pytest.approx(0.0, abs=1e-6)


def test_several_starts_of_one_window_equal_as_many_windows_with_one(model):
    many = LossConfig(horizon=3, burn_in=2, starts=4, drop=0.0, cold=0.0, with_reward=False)
    config = replace(config_for(CONTRACT), batch=2, loss=many)
    sequence = draw_sequence(PendulumWindows(), np.random.default_rng(1), config)
    noise = draw_noise(model, many, 2, torch.Generator().manual_seed(0))

    rollout = roll_out(model, many, sequence, noise)

    for start in range(4):
        one = replace(many, burn_in=2 + start, starts=1)
        ends = type(sequence)(*(x[: one.length] for x in sequence))
        alone = roll_out(model, one, ends, noise._replace(keep=noise.keep[: 3 + start]))
        rows = slice(2 * start, 2 * start + 2)
        torch.testing.assert_close(rollout.latents[:, rows], alone.latents)
        torch.testing.assert_close(rollout.posteriors[:, rows], alone.posteriors)
        assert torch.equal(rollout.sequence.action[:, rows], alone.sequence.action)


def test_a_mirrored_window_is_negated_as_a_whole():
    config = config_for(CONTRACT)
    sequence = draw_sequence(PendulumWindows(), np.random.default_rng(0), replace(config, batch=2))

    got = mirror(sequence, torch.tensor([[1.0], [-1.0]]))

    assert torch.equal(got.observation[:, 0], sequence.observation[:, 0])
    assert torch.equal(got.observation[:, 1], -sequence.observation[:, 1])
    assert torch.equal(got.action[:, 1], -sequence.action[:, 1])
    assert torch.equal(got.mask, sequence.mask)


def test_a_mirrored_robot_needs_centred_observations_and_a_symmetric_action():
    data = CONTRACT.to_dict() | {"mirrored": True}
    assert parse_contract(data).mirrored
    with pytest.raises(ContractError, match="action.low: must be minus action.high for a mirrored robot"):
        parse_contract(data | {"action": {**data["action"], "low": [-1.0], "limit_low": []}})
    data["observations"][1]["mean"] = [0.5]
    with pytest.raises(ContractError, match=r"observations\[1\].mean: must be 0 for a mirrored robot"):
        parse_contract(data)


def test_logs_without_a_task_teach_the_motion():
    """A quarter of a second ahead, open loop: far better than a constant rate, which the model starts from."""
    torch.manual_seed(0)
    config = config_for(CONTRACT, burn_in=3, starts=4, horizon=5)
    optimiser = replace(config.optimiser, rate=5e-3, decay=80)
    model = WorldModel(CONTRACT, Sizes("tiny", latent=8, mlp=32, encoder=32, value_heads=1, encoder_layers=1))
    trainer = Trainer(model, PendulumWindows(), replace(config, batch=32, optimiser=optimiser))
    before = trainer.evaluate(PendulumWindows(seed=1), batches=1)

    trainer.update(80)

    assert trainer.evaluate(PendulumWindows(seed=1), batches=1)["anchor"] < 0.1 * before["anchor"]
