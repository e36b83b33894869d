"""Evaluation: one seed per episode, the same figures for the same seed, bags that replay to the same plans."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from integrator import IntegratorModel, IntegratorTask, integrator_contract
from robot_wm.bags.reader import open_bag
from robot_wm.errors import ContractError, RunError
from robot_wm.info import PlanInfo
from robot_wm.replay_plans import innovation_over_time, replay_plans
from sim import evaluate as evaluation
from sim.disturbance import Disturbance
from sim.lockstep import EpisodeResult

LENGTH = 60


@pytest.fixture
def bundle(monkeypatch):
    """A bundle of the integrator that needs no graphs."""
    contract = integrator_contract()

    def model(bundle, provider, threads, samples=0):
        known = IntegratorModel(contract)
        known.bundle.contract, known.provider = contract, provider
        return known

    monkeypatch.setattr(evaluation, "make_task", lambda name: IntegratorTask(length=LENGTH))
    monkeypatch.setattr(evaluation, "Model", model)
    manifest = SimpleNamespace(files={})
    names = {"path": Path("bundle"), "contract": contract, "manifest": manifest, "bundle_id": "integrator"}
    return SimpleNamespace(**names, model=model(None, "cpu", 1))


def test_one_seed_gives_one_set_of_figures_and_each_episode_has_a_seed_of_its_own(bundle):
    disturbance = Disturbance(0.03, 0.02, 0.2, 0.02)

    first = evaluation.evaluate(bundle, "integrator", 3, 5, disturbance)
    again = evaluation.evaluate(bundle, "integrator", 3, 5, disturbance)
    last = evaluation.evaluate(bundle, "integrator", 1, 7, disturbance)

    assert first == again and first["seed"] == 5
    assert len(set(first["returns"])) == 3 and last["returns"] == first["returns"][2:]
    assert first["disturbance"]["dropout"] == 0.2


def test_the_budget_is_the_manifests_unless_another_is_given(bundle):
    assert evaluation.evaluate(bundle, "integrator", 1, 0)["refinements"] == 2.0
    assert evaluation.evaluate(bundle, "integrator", 1, 0, refinements=1)["refinements"] == 1.0


def test_late_observations_correct_as_asked_and_the_figures_say_how(bundle):
    late = Disturbance(0.06)
    ways = {name: evaluation.evaluate(bundle, "integrator", 1, 5, late, correction=name) for name in ("exact", "naive")}
    assert {name: figures["correction"] for name, figures in ways.items()} == {"exact": "exact", "naive": "naive"}
    with pytest.raises(RunError, match="there are exact, naive, hold"):
        evaluation.evaluate(bundle, "integrator", 1, 5, correction="best")


@pytest.mark.parametrize("option", ["image_delay_s", "image_jitter_s", "image_dropout", "occlude_s"])
def test_images_that_are_not_there_cannot_be_disturbed(bundle, option):
    with pytest.raises(RunError, match="integrator has no camera"):
        evaluation.evaluate(bundle, "integrator", 1, 5, Disturbance(**{option: 0.1}))


def test_recording_changes_no_figure(bundle, tmp_path):
    recorded = evaluation.evaluate(bundle, "integrator", 2, 5, bag_of=lambda index: tmp_path / str(index))

    assert recorded == evaluation.evaluate(bundle, "integrator", 2, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


@pytest.mark.parametrize("disturbance", [Disturbance(), Disturbance(0.05, 0.02, 0.3, 0.03)])
def test_the_bag_of_an_episode_replays_to_the_same_plans(bundle, tmp_path, disturbance):
    evaluation.evaluate(bundle, "integrator", 1, 5, disturbance, bag_of=lambda index: tmp_path / "bag")

    figures = replay_plans([tmp_path / "bag"], {"integrator": bundle.model})

    assert figures["plans"] == figures["identical"] == LENGTH // 2
    assert figures["max_difference"] == 0.0
    assert len(innovation_over_time([tmp_path / "bag"], bin_s=0.1)[0]["innovation"]) == LENGTH // 10


@pytest.mark.parametrize(("compensate", "ahead_s"), [(True, 0.04), (False, 0.0)])
def test_plans_start_when_they_take_effect_unless_nobody_told_of_the_delay(bundle, tmp_path, compensate, ahead_s):
    late = Disturbance(actuation_delay_s=0.04)

    evaluation.evaluate(bundle, "integrator", 1, 5, late, compensate, bag_of=lambda index: tmp_path / "bag")

    infos = [info for _, info in open_bag(tmp_path / "bag").infos("plan_info", PlanInfo)]
    assert {info.latent_age_s for info in infos} == {ahead_s}
    assert {info.slack_s for info in infos} == {0.0}  # sent at once, on virtual time


def test_a_bundle_of_another_task_is_refused(bundle):
    bundle.contract = integrator_contract(control_dt=0.02)
    with pytest.raises(ContractError, match="model_hz"):
        evaluation.evaluate(bundle, "integrator", 1, 0)


def test_a_summary_holds_mean_deviation_and_interval():
    results = [EpisodeResult(seed, np.full(10, 0.1 * seed), 10, seed, False) for seed in (1, 3)]

    figures = evaluation.summarise(results)

    assert figures["returns"] == [pytest.approx(100.0), pytest.approx(300.0)]
    assert figures["return_mean"] == pytest.approx(200.0) and figures["return_std"] == pytest.approx(100.0)
    low, high = figures["return_interval_95"]
    assert (low + high) / 2 == pytest.approx(200.0) and high - low == pytest.approx(2 * 1.96 * 100.0)
    assert figures["clips"] == 4
