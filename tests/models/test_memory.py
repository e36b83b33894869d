"""Windows start where the filter had come to, as on the robot, and leave their own priors behind."""

from pathlib import Path

import torch

from models import memory
from models.memory import PriorMemory
from models.train import Trainer
from models.train_config import config_for
from models.world_model import WorldModel
from synthetic_windows import PendulumWindows, pendulum_contract

INITIAL = torch.tensor([0.5, 0.5])


def test_what_was_kept_is_recalled_and_the_rest_is_the_initial_latent():
    known = PriorMemory(INITIAL)
    priors = torch.tensor([[[0.25, 0.75], [0.125, 0.875]], [[1.0, 0.0], [0.0, 1.0]]])
    known.keep(torch.tensor([[3, 9], [4, 10]]), priors, torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
    recalled = known.recall(torch.tensor([3, 4, 9, 10, 11]))
    assert recalled.tolist() == [[0.25, 0.75], [1.0, 0.0], [0.125, 0.875], [0.5, 0.5], [0.5, 0.5]]
    assert recalled.dtype is torch.float32


def test_rows_that_share_a_place_never_get_each_other_s_prior(monkeypatch):
    monkeypatch.setattr(memory, "BYTES", 2 * 2 * 8)  # eight places
    known = PriorMemory(INITIAL)
    for row in (1, 9):
        known.keep(torch.tensor([[row]]), torch.tensor([[[1.0 / row, 0.0]]]), torch.ones(1, 1))
    assert known.recall(torch.tensor([1, 9]))[:, 0].tolist()[0] == 0.5
    assert abs(known.recall(torch.tensor([9]))[0, 0].item() - 1 / 9) < 1e-3


def test_it_survives_a_checkpoint():
    known, other = PriorMemory(INITIAL), PriorMemory(INITIAL)
    other.keep(torch.tensor([[7]]), torch.ones(1, 1, 2), torch.ones(1, 1))
    known.keep(torch.tensor([[3]]), torch.ones(1, 1, 2), torch.ones(1, 1))
    other.load_state_dict(known.state_dict())
    assert other.recall(torch.tensor([3, 7])).tolist() == [[1.0, 1.0], [0.5, 0.5]]


def make(**changes: object) -> Trainer:
    torch.manual_seed(0)
    config = config_for(pendulum_contract(), 0, **changes)
    return Trainer(WorldModel(pendulum_contract(), "nano"), PendulumWindows(), config)


def test_a_trainer_leaves_the_filter_s_prior_at_every_row_it_passes(tmp_path: Path):
    trainer = make()
    trainer.update(1)
    state = trainer._memory.state_dict()
    assert len(state["rows"]) > 256 and torch.isfinite(state["priors"]).all()
    sums = state["priors"].float().reshape(len(state["rows"]), -1, 8).sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), atol=5e-3, rtol=0)  # SimNorm latents
    started = trainer._memory.recall(state["rows"])
    assert not torch.equal(started, trainer.model.initial_latent.expand_as(started))


def test_without_it_every_window_starts_from_the_initial_latent():
    trainer = make(remember=False)
    trainer.update(1)
    assert len(trainer._memory.state_dict()["rows"]) == 0


def test_a_long_filter_stays_near_a_short_one():
    """What it is for: after training, the latent hardly depends on how long the filter has run."""
    trainer = make()
    trainer.update(150)
    model, windows = trainer.model, PendulumWindows(seed=5)
    with torch.no_grad():
        observation = torch.from_numpy(windows.state)
        mask, age = torch.ones(*observation.shape[:2], 2), torch.zeros(*observation.shape[:2], 2)
        embedding = model.encode(observation, mask, age)
        z = model.initial_latent.expand(len(observation), -1)
        for t in range(observation.shape[1]):
            z = model.posterior(z, embedding[:, t], mask[:, t])
            last = z
            z = model.prior(z, torch.from_numpy(windows.action[:, t]))
        cold = model.posterior(model.initial_latent.expand_as(z), embedding[:, -1], mask[:, -1])
    apart = (last - cold).square().mean().sqrt()
    others = (last - last.roll(1, 0)).square().mean().sqrt()
    assert apart < 0.5 * others
