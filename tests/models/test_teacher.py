"""A model with a camera learns from a bundle that has every state measured to know what it knows; all else it takes over."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.dataset import Dataset
from models.export import load_world_model
from models.families import make_model
from models.losses import divergence
from models.teacher import TAKEN_OVER, Teacher
from models.train import Trainer
from models.train_config import config_for, taught
from models.train_run import TrainJob, train_bags
from robot_wm.backend import Model
from robot_wm.bundle import load_bundle
from robot_wm.contract import load_contract
from robot_wm.errors import BagError, ContractError, RunError
from sim.collect import Recipe, play

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "models" / "zoo" / "cartpole_swingup"
CONTRACT = ROOT / "sim" / "contracts" / "cartpole_camera.yaml"


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags")
    recipe = Recipe("cartpole_camera", ZOO, planner="policy", seconds=0.8)
    return tuple(play(recipe, folder / f"episode_000{i}", i).bag for i in range(2))


@pytest.fixture
def contract():
    return load_contract(CONTRACT)


def test_its_latents_are_those_of_its_robots_filter_at_every_instant(bags, contract, tmp_path):
    dataset = Dataset(bags[::-1], contract, cache_dir=tmp_path)
    teacher = Teacher(ZOO, contract)
    teacher.watch(dataset, bags[::-1])
    model = Model(load_bundle(ZOO), "cpu", graphs=("encode", "posterior", "prior"))
    for bag, episode in zip(bags[::-1], dataset.episodes, strict=True):
        full = Dataset([bag.parent / "full" / bag.name], model.bundle.contract, cache_dir=tmp_path)
        rows = full.window(np.array([full.episodes[0].start]), episode.length)
        prior = model.initial_latent[None]
        for t in range(episode.length):
            seen = rows.mask[:, t]
            latent = model.posterior(prior, model.encode(rows.observation[:, t], seen, rows.age[:, t]), seen)
            (known,) = teacher.latents(torch.tensor([episode.start + t])).numpy()
            np.testing.assert_allclose(known, latent[0], atol=1e-4)
            prior = model.prior(latent, rows.action[:, t])


def test_what_perceives_learns_and_the_rest_stays_the_teachers(bags, contract, tmp_path):
    dataset, teacher = Dataset(bags, contract, cache_dir=tmp_path), Teacher(ZOO, contract)
    teacher.watch(dataset, bags)
    torch.manual_seed(0)
    model = make_model(contract, "nano", "tdmpc2")
    teacher.hand_over(model)
    config = taught(config_for(contract, offline=True))
    config = replace(
        config, batch=8, loss=replace(config.loss, hidden=0.0, late=((4.0,),), outage=(1.0,), starts=2, burn_in=8)
    )
    trainer = Trainer(model, dataset, config, teacher)
    trainer.standardise()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, last = trainer.update(1), [trainer.update(10) for _ in range(4)][-1]
    assert last["late"] < 0.5 * first["late"] and last["seen"] < 0.5 * first["seen"]
    own = load_world_model(ZOO).state_dict()
    for name, value in model.state_dict().items():
        part = name.split(".")[0]
        if part in TAKEN_OVER and part != "target_heads":
            assert torch.equal(value, own[name])
        elif "encoder" in name or "posterior" in name:
            assert not torch.equal(value, before[name])


def test_the_divergence_is_zero_where_both_know_the_same():
    true = torch.softmax(torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(0)), -1).flatten(1)
    assert divergence(true, true).abs().max() < 1e-6
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(true.unflatten(1, (2, 8))), torch.distributions.Categorical(torch.full((5, 2, 8), 0.125))
    ).mean(1)  # fmt: skip
    torch.testing.assert_close(divergence(true, torch.full_like(true, 0.125)), expected)


def test_a_bag_without_its_full_twin_or_with_another_episode_is_refused(bags, contract, tmp_path):
    moved = tmp_path / "episode_0000"
    shutil.copytree(bags[0], moved)
    dataset = Dataset([moved], contract, cache_dir=tmp_path / "cache")
    teacher = Teacher(ZOO, contract)
    with pytest.raises(
        BagError, match=r"full/episode_0000: is missing: a teacher needs .* as `robot-wm collect` writes it"
    ):
        teacher.watch(dataset, [moved])
    shutil.copytree(bags[1].parent / "full" / bags[1].name, tmp_path / "full" / "episode_0000")
    with pytest.raises(BagError, match="is not the same episode as .*; collect both in one run"):
        teacher.watch(dataset, [moved])


def test_a_teacher_that_acts_otherwise_or_does_not_fit_is_refused(bags, contract, tmp_path):
    with pytest.raises(ContractError, match="reacher_easy: acts as dmc:reacher-easy .* cartpole_camera as"):
        Teacher(ZOO.parent / "reacher_easy", contract)
    job = TrainJob(bags=bags, contract=CONTRACT, out=tmp_path / "bundle", teacher=ZOO, steps=1, runs=tmp_path)
    with pytest.raises(RunError, match="is of size nano: give --size nano"):
        train_bags(replace(job, size="1M"))
    with pytest.raises(RunError, match="--teacher needs --family tdmpc2"):
        train_bags(replace(job, family="rssm-gaussian"))
