"""`robot-wm train` from bags to a bundle, its resumption, and what it refuses."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from models import bench, train_run
from models.train import read_checkpoint
from models.train_run import TrainJob, train_bags
from models.world_model import WorldModel
from robot_wm.bags.writer import BagWriter
from robot_wm.contract import Contract, load_contract
from robot_wm.errors import BagError, RunError
from robot_wm.messages import Applied, JointState, Latent
from robot_wm.timebase import NS_PER_S
from synthetic_windows import PendulumWindows, pendulum_contract


def write_bag(path: Path, seed: int) -> Path:
    contract, windows = pendulum_contract(), PendulumWindows(episodes=1, steps=60, seed=seed)
    step = round(NS_PER_S / contract.model_hz)
    with BagWriter(path, contract, sync=False) as writer:
        for k, (state, action, reward) in enumerate(
            zip(windows.state[0], windows.action[0], windows.reward[0], strict=True)
        ):
            writer.write("joint_states", JointState(k * step, ("hinge",), state[:1], state[1:], np.zeros(0)))
            writer.write("applied", Applied(k * step, 3.0 * action, "teleop"))
            writer.write("reward", Latent((k + 1) * step, reward.reshape(1), ""))
    return path


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    pendulum_contract().save(tmp_path / "contract.yaml")
    return TrainJob(
        bags=(write_bag(tmp_path / "a", 0),),
        contract=tmp_path / "contract.yaml",
        out=tmp_path / "bundle",
        steps=2,
        batch=8,
        runs=tmp_path / "runs",
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def exported(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would have been exported: tracing graphs takes longer than training here, and has tests of its own."""
    given: dict[str, Any] = {}

    def export(model: WorldModel, contract: Contract, path: Path, **options: Any) -> SimpleNamespace:
        given.update(options, weights=model.state_dict())
        return SimpleNamespace(path=path, bundle_id="0")

    monkeypatch.setattr(train_run, "export_bundle", export)
    return given


def test_bags_become_weights_with_their_provenance(job: TrainJob, exported: dict[str, Any], tmp_path: Path) -> None:
    figures = train_bags(replace(job, validation=(write_bag(tmp_path / "b", 1),)))
    assert figures["steps"] == exported["provenance"]["steps"] == 2
    assert list(exported["provenance"]["bags"]) == [str(tmp_path / "a")]
    assert figures["held_out"]["reward_error"] > 0
    run = Path(figures["run"])
    assert (run / "figures.json").is_file()
    trained = read_checkpoint(run / "checkpoint.pt")["model"]
    assert all(torch.equal(trained[name], value) for name, value in exported["weights"].items())


def test_a_run_resumes_where_it_stopped(job: TrainJob, exported: dict[str, Any]) -> None:
    train_bags(replace(job, steps=4))
    whole = {name: value.clone() for name, value in exported["weights"].items()}
    half = Path(train_bags(job)["run"])
    assert train_bags(replace(job, steps=4, resume=half))["steps"] == 4
    assert all(torch.equal(whole[name], value) for name, value in exported["weights"].items())
    other = write_bag(job.runs.parent / "other", 5)
    with pytest.raises(RunError, match="was trained on other bags"):
        train_bags(replace(job, bags=(other,), resume=half))


def test_training_without_bags_is_refused(job: TrainJob) -> None:
    with pytest.raises(BagError, match="no bags given"):
        train_bags(replace(job, bags=()))


def test_a_contract_that_gives_nothing_to_learn_is_refused(job: TrainJob, tmp_path: Path) -> None:
    contract = load_contract(job.contract)
    replace(contract, reward=replace(contract.reward, topic="", function="")).save(tmp_path / "bare.yaml")
    with pytest.raises(RunError, match=r"nothing to learn: name a reward.topic or a reward.function, or mark"):
        train_bags(replace(job, contract=tmp_path / "bare.yaml"))


def test_a_run_starts_from_one_thing(job: TrainJob) -> None:
    with pytest.raises(RunError, match="give one of them"):
        train_bags(replace(job, resume=Path("x"), from_bundle=Path("y")))


def test_the_benchmark_says_where_the_time_goes() -> None:
    figures = bench.measure("nano", batch=8, threads=1, seconds=0.5)
    assert figures["ratio_to_eager"] == pytest.approx(figures["updates_per_s"] / figures["eager_updates_per_s"])
    fractions = [value for name, value in figures.items() if name.startswith("fraction_")]
    assert sum(fractions) == pytest.approx(1.0)
    assert {"fraction_python", "fraction_data_loading", "fraction_matrix_products"} <= figures.keys()
