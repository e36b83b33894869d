from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from eager_reference import EagerTrainer
from models.optimiser import AVERAGED, falling
from models.train import Trainer
from models.train_config import TrainConfig, config_for, discount_for
from models.world_model import WorldModel
from robot_wm.errors import RunError
from synthetic_windows import PendulumWindows, pendulum_contract


def make(seed: int = 0, batch: int = 32, **changes: object) -> Trainer:
    torch.manual_seed(seed)
    config = replace(config_for(pendulum_contract(), seed, **changes), batch=batch)
    return Trainer(WorldModel(pendulum_contract(), "nano"), PendulumWindows(), config)


def test_training_learns_the_pendulum() -> None:
    trainer = make()
    held_out = PendulumWindows(seed=7)
    before, first = trainer.evaluate(held_out, batches=2), trainer.update(1)
    trainer.update(98)
    after, last = trainer.evaluate(held_out, batches=2), trainer.update(1)
    assert last["reward"] < 0.6 * first["reward"]
    assert last["value"] < 0.6 * first["value"]
    assert after["probe_error"] < 0.9 * before["probe_error"]
    assert after["consistency"] < 0.2 * before["consistency"]


def test_resuming_continues_bit_for_bit(tmp_path: Path) -> None:
    unbroken = make()
    unbroken.update(3)
    unbroken.save(tmp_path / "checkpoint.pt", {"bags": ["abc"]})
    expected = unbroken.update(3)
    resumed = make(seed=5)
    resumed.config = unbroken.config
    resumed.update(1)
    assert resumed.load(tmp_path / "checkpoint.pt") == {"bags": ["abc"]}
    assert resumed.step == 3
    assert resumed.update(3) == expected
    for ours, theirs in zip(resumed.model.parameters(), unbroken.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_same_seed_trains_the_same_model() -> None:
    assert make(seed=3).update(4) == make(seed=3).update(4)
    assert make(seed=3).update(1) != make(seed=4).update(1)


def test_the_rate_can_be_scaled_while_training() -> None:
    trainer = make()
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.scale_rate(0.0)
    trainer.update(1)
    assert all(torch.equal(p, q) for p, q in zip(trainer.model.parameters(), before, strict=True))
    trainer.scale_rate(falling(0.5, floor=0.5))
    trainer.update(1)
    moved = [(p - q).abs().max() for p, q in zip(trainer.model.parameters(), before, strict=True)]
    assert 0.7 * 3e-4 < max(moved) < 0.8 * 3e-4  # Adam's second step


def test_several_updates_follow_the_plain_reference() -> None:
    fast = make(offline=True)
    plain = EagerTrainer(fast.model, PendulumWindows(), fast.config)
    for _ in range(5):
        expected, figures = plain.update(), fast.update()
        assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=2e-3, abs=1e-5)
    target = fast.model.target_heads.weights[0][1]
    assert torch.allclose(target, plain.target_heads[1].first.linear.weight.T, atol=1e-5)


def test_a_loss_that_is_not_finite_is_named() -> None:
    class Spoiled(PendulumWindows):
        def sample(self, *arguments: object) -> object:
            batch = super().sample(*arguments)
            batch.reward[0, 2] = float("nan")
            return batch

    trainer = make()
    trainer.dataset = Spoiled()
    weights = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(RunError, match=r"training step 0: the reward and value loss is not finite"):
        trainer.update()
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.model.parameters(), strict=True))


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path / "checkpoint.pt")
    with pytest.raises(RunError, match=r"another configuration: loss\.horizon: 3 != 5"):
        make(horizon=5).load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", b"PK\x03\x04 half of a zip"])
def test_a_missing_or_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "checkpoint.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"checkpoint\.pt: (there is no such|is not a readable) checkpoint"):
        make().load(path)


def test_the_discount_follows_the_episode_length() -> None:
    contract = pendulum_contract()
    assert discount_for(replace(contract, episode_s=50.0)) == 0.995
    assert discount_for(replace(contract, episode_s=15.0)) == pytest.approx(59 / 60)
    assert discount_for(replace(contract, episode_s=1.0)) == 0.95


def test_offline_training_stays_near_the_data_and_online_does_not() -> None:
    assert config_for(pendulum_contract(), offline=True).loss.behaviour_cloning == pytest.approx(0.4)
    assert config_for(pendulum_contract()).loss.behaviour_cloning == 0.0


def test_logs_without_a_task_train_the_dynamics_alone() -> None:
    contract = pendulum_contract(anchored=True, reward=False)
    config = config_for(contract)
    assert not config.loss.with_reward
    trainer = Trainer(WorldModel(contract, "nano"), PendulumWindows(), replace(config, batch=4))
    assert "value" not in trainer.update(1)


def test_target_heads_follow_slowly() -> None:
    trainer = make()
    trainer.update(2)
    values, targets = trainer.model.value_heads.weights[1], trainer.model.target_heads.weights[1]
    assert (values - targets).abs().max() > 0
    assert isinstance(trainer.config, TrainConfig)


def test_bundles_are_made_of_the_average_of_the_weights_so_far() -> None:
    trainer = make()
    weights = trainer.model.policy_head[0].linear.weight
    trainer.update(1)
    seen = [weights.detach().clone()]
    expected = seen[0]
    for update in range(1, 5):
        trainer.update(1)
        seen.append(weights.detach().clone())
        expected = expected + (seen[-1] - expected) / (1.0 + AVERAGED * update)
    with trainer.averaged():
        assert torch.allclose(weights, expected, atol=1e-7)
        assert not torch.equal(weights, seen[-1])
    assert torch.equal(weights, seen[-1])


def test_the_average_survives_a_resumption(tmp_path: Path) -> None:
    trainer, resumed = make(), make()
    trainer.update(3)
    trainer.save(tmp_path / "checkpoint.pt")
    resumed.load(tmp_path / "checkpoint.pt")
    with trainer.averaged(), resumed.averaged():
        for ours, theirs in zip(resumed.model.parameters(), trainer.model.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_a_checkpoint_says_nothing_of_the_device() -> None:
    optimiser = make()._optimiser
    on_cpu = optimiser.state_dict()["adam"]["param_groups"]
    for group in optimiser._adam.param_groups:  # as on a GPU
        group["lr"], group["capturable"] = torch.tensor(group["lr"], dtype=torch.float64), True
    assert optimiser.state_dict()["adam"]["param_groups"] == on_cpu


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_the_same_model_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    def on(device: str) -> Trainer:
        torch.manual_seed(0)
        model = WorldModel(pendulum_contract(), "nano").to(device)
        return Trainer(model, PendulumWindows(), replace(config_for(pendulum_contract()), batch=32))

    gpu, cpu = on("cuda"), on("cpu")
    for _ in range(3):  # the second is captured, the third replayed
        assert gpu.update(3) == pytest.approx(cpu.update(3), rel=1e-2)
    gpu.save(tmp_path / "checkpoint.pt")
    cpu.load(tmp_path / "checkpoint.pt")
    gpu.load(tmp_path / "checkpoint.pt")
    assert gpu.update(5) == pytest.approx(cpu.update(5), rel=1e-2)


def test_inputs_are_standardised_by_the_data() -> None:
    trainer = make()
    trainer.standardise()
    batch = PendulumWindows(seed=3).sample(np.random.default_rng(5), 2000, 1)
    features = trainer.model.features(torch.from_numpy(batch.observation[:, 0]).float())
    inputs = (features - trainer.model.input_mean) / trainer.model.input_scale
    assert inputs.mean(0).abs().max() < 0.2
    assert (inputs.std(0) - 1.0).abs().max() < 0.2
