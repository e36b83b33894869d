"""Training meets images as the robot does: rollouts start without the newest ones, and the filter has them later."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.late_images import arrived, draw_outage, draw_quantile, draw_shift, encode_all, encode_few, hide
from models.rollout import roll_out
from models.train import Trainer
from models.train_config import burn_in_for, config_for, delays_for
from models.windows import draw_noise, draw_sequence
from robot_wm.errors import RunError
from seeing import EYE, WRIST, SeeingWindows, seeing_contract, seeing_model
from synthetic_windows import PendulumWindows, pendulum_contract


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(batch=6, **changes):
    """Contract: 20 Hz, an image every second step, 0.1 s late: two steps."""
    model, contract = seeing_model(), seeing_contract()
    usual = {"drop": 0.0, "cold": 0.0, "shift": 0.0, "early": False, "starts": 1}
    config = replace(config_for(contract, **(usual | changes)), batch=batch)
    sequence = draw_sequence(SeeingWindows(episodes=4), np.random.default_rng(0), config)
    return model, config.loss, sequence, draw_noise(model, config.loss, batch, generator())


def by_hand(model, sequence, until, last=None, late=2.0):
    """The filter's posterior at the instant `until`, image by image; at `last` those younger than `late` are not there yet."""
    latent = model.initial_latent.expand(sequence.mask.shape[1], -1)
    for t in range(until + 1):
        if t:
            latent = model.prior(latent, sequence.action[t - 1])
        mask = sequence.mask[t].clone()
        if last is not None:
            mask[:, 2] *= (last - t + sequence.age[t, :, 2] >= late).float()
        view = model.encode_image("eye", sequence.images[0][t])
        embedding = model.join(model.encode(sequence.observation[t], mask, sequence.age[t]), [view], mask)
        latent = model.posterior(latent, embedding, mask)
    return latent


def test_a_rollout_starts_from_what_is_known_by_then():
    model, loss, sequence, noise = make()
    rollout = roll_out(model, loss, sequence, noise)
    assert torch.allclose(rollout.latents[0], by_hand(model, sequence, loss.burn_in, last=loss.burn_in), atol=1e-5)
    assert not torch.allclose(rollout.latents[0], by_hand(model, sequence, loss.burn_in), atol=1e-4)


def test_its_targets_are_what_the_filter_comes_to_once_every_image_is_there():
    model, loss, sequence, noise = make()
    rollout = roll_out(model, loss, sequence, noise)
    for k in range(loss.horizon):
        assert torch.allclose(rollout.posteriors[k], by_hand(model, sequence, loss.burn_in + 1 + k), atol=1e-5)
    prior = model.prior(by_hand(model, sequence, loss.burn_in), sequence.action[loss.burn_in])
    assert torch.allclose(rollout.priors[loss.burn_in], prior, atol=1e-5)  # where another window will start
    assert not rollout.posteriors.requires_grad and not rollout.priors.requires_grad


def test_pixels_that_are_still_on_their_way_change_no_prediction():
    model, loss, sequence, noise = make()
    later = [image.clone() for image in sequence.images]
    later[0][loss.burn_in - 1 :] = 255  # one step or less before the start
    before, after = (roll_out(model, loss, sequence._replace(images=tuple(i)), noise) for i in (sequence.images, later))
    assert torch.equal(before.latents, after.latents)
    assert not torch.allclose(before.posteriors, after.posteriors)


def test_a_dropped_image_is_missing_before_and_after():
    model, loss, sequence, noise = make()
    blind = noise._replace(keep=noise.keep * torch.tensor([1.0, 1.0, 0.0]))
    black = sequence._replace(images=tuple(torch.zeros_like(image) for image in sequence.images))
    seen, unseen = (roll_out(model, loss, s, blind) for s in (sequence, black))
    assert torch.equal(seen.latents, unseen.latents)


def test_what_is_late_is_told_from_its_age():
    age = torch.zeros(4, 2)
    age[:, 1] = torch.tensor([0.0, -0.5, 0.5, 0.4])
    there = [arrived(age[i : i + 1], since, torch.tensor([[1.5]]))[0] for i, since in enumerate((3, 2, 1, 0))]
    assert [t[0].item() for t in there] == [1.0] * 4
    assert [t[1].item() for t in there] == [1.0, 1.0, 1.0, 0.0]  # 3, 1.5, 1.5 and 0.4 steps since the capture


def test_what_was_never_taken_is_hidden():
    shown = torch.tensor([[[1.0]], [[0.0]]])
    assert hide(torch.ones(2, 1, 3), shown).tolist() == [[[1.0, 1.0, 1.0]], [[1.0, 1.0, 0.0]]]


def test_every_start_of_a_window_knows_what_has_arrived_by_then():
    model, many, sequence, noise = make(starts=3)
    rollout = roll_out(model, many, sequence, noise)
    for i in range(3):
        one = replace(many, starts=1, burn_in=many.burn_in + i)
        window = noise._replace(keep=noise.keep[: one.burn_in + 1], shown=noise.shown[: one.burn_in + 1])
        alone = roll_out(model, one, sequence, window)
        rows = slice(6 * i, 6 * i + 6)
        assert torch.allclose(rollout.latents[:, rows], alone.latents, atol=1e-5)
        assert torch.allclose(rollout.posteriors[:, rows], alone.posteriors, atol=1e-5)
        known = by_hand(model, sequence, one.burn_in, last=one.burn_in)
        assert torch.allclose(rollout.latents[0, rows], known, atol=1e-5)


def test_a_rollout_may_start_after_a_time_without_images_that_its_targets_have():
    model, loss, sequence, noise = make()
    hidden = torch.zeros_like(noise.shown)
    blind = roll_out(model, loss, sequence, noise._replace(shown=hidden))
    seeing = roll_out(model, loss, sequence, noise._replace(shown=torch.ones_like(hidden)))
    numb = sequence._replace(mask=sequence.mask * torch.tensor([1.0, 1.0, 0.0]))
    assert torch.allclose(blind.latents[0], roll_out(model, loss, numb, noise).latents[0], atol=1e-6)
    assert not torch.allclose(blind.latents[0], seeing.latents[0], atol=1e-4)
    assert torch.allclose(blind.posteriors, seeing.posteriors, atol=1e-6)


def test_outages_strike_their_share_and_last_no_longer_than_the_longest():
    shown = draw_outage(5.0, 0.3, 40, 4000, generator())
    assert set(shown.unique().tolist()) == {0.0, 1.0}
    assert (shown.amin(0) == 0).float().mean() == pytest.approx(0.3, abs=0.05)
    assert (1.0 - shown).sum(0).max() == 5.0
    assert (shown.diff(dim=0) != 0).sum(0).max() == 2  # one outage a window
    assert draw_outage(0.0, 1.0, 40, 10, generator()).all()


def test_a_window_that_begins_before_its_episode_filters_from_the_first_row_on():
    model, loss, sequence, noise = make(batch=200, early=True)
    begins = sequence.begins.argmax(0)
    late = [b for b in range(200) if sequence.begins[:, b].any() and 0 < begins[b] < loss.burn_in]
    assert late
    started = roll_out(model, loss, sequence, noise, start=torch.randn(200, model.latent_size))
    anew = roll_out(model, loss, sequence, noise)
    assert torch.equal(started.latents[:, late], anew.latents[:, late])  # whatever was remembered
    assert (sequence.valid[0, late] == 0).all() and not sequence.mask[0, late].any()
    assert torch.equal(started.priors[begins[late[0]] - 1, late[0]], model.initial_latent)


def test_delays_are_drawn_as_they_were_measured():
    drawn = draw_quantile((1.0, 2.0, 4.0), 4000, generator())
    assert drawn.min() >= 1.0
    assert drawn.max() <= 4.0
    assert (drawn < 2.0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert draw_quantile((2.5,), 3, generator()).tolist() == [2.5] * 3


def test_shifts_reach_as_far_either_way():
    shifts = draw_shift((64, 32, 3), 4.0, 2000, generator())
    assert sorted(set(shifts[:, 0].tolist())) == list(range(-4, 5))
    assert sorted(set(shifts[:, 1].tolist())) == list(range(-2, 3))
    assert not draw_shift((64, 32, 3), 0.0, 5, generator()).any()


def test_measured_delays_count_and_the_contracts_where_no_bag_tells():
    contract = seeing_contract(EYE, WRIST)
    assert delays_for(contract) == ((2.0,), (4.0,))
    assert delays_for(contract, [[0.05, 0.1], [0.0, 0.0]]) == ((1.0, 2.0), (4.0,))
    ranged = seeing_contract(EYE | {"delay_range_s": [0.0, 0.25]}, WRIST)
    assert delays_for(ranged, [[0.05, 0.1], [0.2, 0.3]]) == ((0.0, 5.0), (4.0, 6.0))


def test_a_window_is_long_enough_for_the_latest_image():
    contract = seeing_contract(EYE, WRIST)
    assert burn_in_for(contract, delays_for(contract)) == 8  # 4 steps late, every 4 steps
    assert config_for(contract).loss.burn_in == 8
    assert config_for(contract, delays=[[0.1], [0.5]]).loss.burn_in == 14
    assert config_for(seeing_contract(EYE | {"outage_s": 0.5})).loss.burn_in == 4 + 10
    assert config_for(contract).loss.lead == 8  # so that an episode's first instants are learned from, too
    assert config_for(pendulum_contract()).loss.burn_in == 1
    assert config_for(pendulum_contract()).loss.lead == 0


def test_nothing_more_is_drawn_for_a_robot_without_images():
    config = config_for(pendulum_contract())
    noise = draw_noise(seeing_model(pendulum_contract()), config.loss, 4, generator())
    assert noise.late is None and noise.shifts == ()
    sequence = draw_sequence(PendulumWindows(episodes=2), np.random.default_rng(0), replace(config, batch=4))
    assert sequence.images == ()


@pytest.mark.parametrize("fused", [False, True])
def test_the_image_encoder_learns(fused):
    contract = seeing_contract()
    trainer = Trainer(
        seeing_model(contract), SeeingWindows(episodes=4), replace(config_for(contract), batch=16, fused=fused)
    )
    before = [p.detach().clone() for p in trainer.model.image_encoders.parameters()]
    figures = trainer.update(3)
    assert all(np.isfinite(list(figures.values())))
    assert all(not torch.equal(p, q) for p, q in zip(before, trainer.model.image_encoders.parameters(), strict=True))
    assert set(trainer.evaluate(SeeingWindows(episodes=2), batches=1)) == {
        "consistency", "probe_error", "reward_error", "value_error",
    }  # fmt: skip


def test_windows_without_any_image_are_learned_from_too():
    class Blind(SeeingWindows):
        def sample(self, rng, batch, length, lead=0):
            drawn = super().sample(rng, batch, length)
            drawn.mask[..., 2] = 0.0
            return drawn

    contract = seeing_contract()
    trainer = Trainer(seeing_model(contract), Blind(episodes=2), replace(config_for(contract), batch=8))
    assert all(np.isfinite(list(trainer.update(1).values())))


def test_shapes_of_the_noise():
    _, loss, _, noise = make(batch=5)
    assert noise.late.shape == (5, 1)
    assert noise.shifts[0].shape == (5, 2)
    assert noise.keep.shape == (loss.burn_in + 1, 5, 3)


def test_a_checkpoint_tells_how_late_images_were(tmp_path):
    contract = seeing_contract()
    expected, late = config_for(contract), config_for(contract, delays=[[0.1, 0.3]])
    trainers = [
        Trainer(seeing_model(contract), SeeingWindows(episodes=2), replace(c, batch=4)) for c in (expected, late)
    ]
    trainers[0].save(tmp_path / "checkpoint.pt")
    with pytest.raises(RunError, match=r"loss.burn_in: 4 != 8; loss.late: \(\(2.0,\),\) != "):
        trainers[1].load(tmp_path / "checkpoint.pt")
    trainers[0].load(tmp_path / "checkpoint.pt")


def test_a_checkpoint_of_a_robot_without_images_says_nothing_of_them(tmp_path):
    trainer = Trainer(seeing_model(pendulum_contract()), PendulumWindows(episodes=2), config_for(pendulum_contract()))
    trainer.save(tmp_path / "checkpoint.pt")
    assert not {"late", "shift", "outage", "hidden", "early"} & set(
        torch.load(tmp_path / "checkpoint.pt")["config"]["loss"]
    )


def test_every_image_encoded_is_as_the_wanted_ones_encoded():
    model, _, sequence, _ = make()
    wanted = sequence.mask[..., 2] > 0
    shifts = draw_shift(model.images[0].shape, 20.0, 6, generator())
    few, every = (f(model, "eye", sequence.images[0], shifts, wanted) for f in (encode_few, encode_all))
    assert torch.allclose(few, every, atol=1e-6)
    assert few.any() and not few[~wanted].any()
