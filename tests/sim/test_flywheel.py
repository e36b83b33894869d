"""A tiny flywheel, killed and resumed, and the bundle it leaves: evaluated to the same bytes, replayed to the same plans."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.export import BundleTemplate, load_world_model
from robot_wm.backend import Model
from robot_wm.bags.reader import open_bag
from robot_wm.bundle import load_bundle
from robot_wm.errors import BagError, RunError
from robot_wm.replay_latents import replay_latents
from robot_wm.replay_plans import replay_plans
from sim.commands import evaluate
from sim.flywheel import Flywheel, FlywheelConfig

RELEASED = Path(__file__).parents[2] / "models" / "zoo" / "cartpole_swingup"
TINY = replace(load_bundle(RELEASED).manifest.planner, samples=16, elites=4, refinements=1)
CONFIG = FlywheelConfig(
    "cartpole_swingup",
    minutes=30.0,
    batch=8,
    random_episodes=1,
    updates_per_decision=0.01,
    evaluate_every=2,
    selection_episodes=1,
    final_episodes=1,
    planner=TINY,
)
UPDATES = 5  # per round: 500 decisions


class Killed(Exception):
    """Stands for a kill between two rounds."""


class Clock:
    """Time stands still until the test moves it."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module", autouse=True)
def light():
    """The released bundle's graphs take any weights of the same size, and tracing others takes a while."""

    def load(model, contract, planner):
        template = BundleTemplate.load(RELEASED, contract)
        template.manifest = replace(template.manifest, planner=planner)
        return template

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BundleTemplate, "trace", load)
        patch.setattr(os, "sched_getaffinity", lambda process: {0})  # other tests need the other cores
        yield


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The directory and the figures of three rounds: two, a kill, a resumption, one more until the frames are there."""
    out = tmp_path_factory.mktemp("flywheel") / "wheel"
    with pytest.raises(Killed):
        Flywheel(CONFIG, out, resume=False, clock=Clock()).run(_kill_after(2))
    clock = Clock()

    def a_second_passes(row):
        clock.now = 1.0

    return out, Flywheel(replace(CONFIG, frames=3000), out, resume=True, clock=clock).run(a_second_passes)


def _kill_after(count):
    rows = []

    def report(row):
        rows.append(row)
        if len(rows) == count:
            raise Killed

    return report


def test_a_resumed_flywheel_goes_on_where_it_was_killed(wheel):
    out, figures = wheel
    curve = json.loads((out / "curve.json").read_text())

    assert [row["episode"] for row in curve] == [0, 1, 2]
    assert [row["updates"] for row in curve] == [0, UPDATES, 2 * UPDATES]
    assert figures["frames"] == curve[-1]["frames"] == 3000
    assert curve[0]["losses"] == {} and curve[1]["losses"] and "evaluation" in curve[1]
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_bundle_it_leaves_says_what_made_it(wheel):
    out, figures = wheel
    bundle = load_bundle(out / "final")

    assert figures["bundle_id"] == bundle.bundle_id and figures["episodes"] == 1
    assert bundle.manifest.metrics["return_mean"] == figures["return_mean"]
    said = bundle.manifest.provenance
    assert "robot-wm flywheel --task cartpole_swingup" in said["command"] and "--seed 0" in said["command"]
    newest = load_bundle(out / "bundle").manifest.provenance
    assert "--frames 3000" in newest["command"]
    assert said["bags"] and all(open_bag(out / "bags" / name).hash == digest for name, digest in said["bags"].items())


def test_one_seed_evaluates_to_the_same_bytes_and_leaves_a_run_that_replays(wheel, tmp_path, capsys):
    final = wheel[0] / "final"
    printed = []
    for name in ("a", "b"):
        evaluate(final, episodes=1, seed=3, runs=tmp_path / name, video=False, json_=True)
        printed.append(capsys.readouterr())

    assert printed[0].out == printed[1].out and json.loads(printed[0].out)["seed"] == 3
    (run,) = (tmp_path / "a").iterdir()
    assert str(run) in printed[0].err
    assert {"config.yaml", "versions.json", "figures.json", "report.html", "bag"} <= {f.name for f in run.iterdir()}
    model = Model(load_bundle(final), "cpu")
    replayed = replay_plans([run / "bag"], {model.bundle_id: model})
    assert replayed["plans"] == replayed["identical"] == 500
    latents = replay_latents([run / "bag"], {model.bundle_id: model})
    assert latents["latents"] == latents["reproduced"] == latents["identical"] == 500


def test_it_goes_on_from_a_bundle_and_learns_from_given_bags_as_well(wheel, tmp_path):
    out, _ = wheel
    given = str(out / "bags" / "episode_0000")
    config = replace(CONFIG, seed=1, from_bundle=str(out / "final"), bags=(given,))
    clock = Clock()
    rows = []

    def two_rounds(row):
        rows.append(row)
        clock.now = 3600.0 * (len(rows) == 2)

    second = Flywheel(config, tmp_path / "second", resume=False, clock=clock)
    before = {name: weight.clone() for name, weight in second.model.state_dict().items()}
    assert all(torch.equal(before[name], w) for name, w in load_world_model(out / "final").state_dict().items())
    second.run(two_rounds)
    assert rows[1]["updates"] == UPDATES
    said = load_bundle(tmp_path / "second" / "final").manifest.provenance
    assert f"--bags {given}" in said["command"] and f"--from-bundle {out / 'final'}" in said["command"]
    assert set(said["bags"]) == {given, "episode_0000"}
    assert said["from"] == load_bundle(out / "final").manifest.provenance
    again = Flywheel(config, tmp_path / "second", resume=True, clock=Clock())
    assert len(again._state["curve"]) == 2


def test_a_directory_that_does_not_fit_is_refused(wheel, tmp_path):
    out = wheel[0]
    with pytest.raises(RunError, match="not empty"):
        Flywheel(CONFIG, out, resume=False)
    with pytest.raises(RunError, match="nothing to resume"):
        Flywheel(CONFIG, tmp_path, resume=True)
    with pytest.raises(RunError, match="another configuration"):
        Flywheel(FlywheelConfig("cartpole_swingup", seed=1), out, resume=True)


def test_a_torn_bag_is_told_before_anything_is_played(wheel, tmp_path):
    out = wheel[0]
    torn = tmp_path / "torn"
    shutil.copytree(next((out / "bags").iterdir()), torn)
    (recording,) = torn.glob("*.mcap")
    os.truncate(recording, recording.stat().st_size // 2)
    with pytest.raises(BagError, match=r"torn.*cut off"):
        Flywheel(replace(CONFIG, bags=(str(torn),)), tmp_path / "out", resume=False)


def test_too_little_time_to_train_even_once_is_said(tmp_path):
    with pytest.raises(RunError, match="more --minutes"):
        Flywheel(FlywheelConfig("cartpole_swingup", minutes=0.0), tmp_path / "out", resume=False, clock=Clock()).run()
