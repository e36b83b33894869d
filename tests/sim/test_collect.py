"""Exploring episodes become bags that a model with images can be trained from, the same for the same seed."""

import json
from pathlib import Path

import numpy as np
import pytest

from camera_task import camera_task
from robot_wm.bags.align import align
from robot_wm.errors import BagError, ContractError, RunError
from sim.collect import Recipe, collect, play
from sim.commands import collect as command
from sim.disturbance import Disturbance
from sim.tasks import make_task

ZOO = Path(__file__).parents[2] / "models" / "zoo"
LATE = Disturbance(image_jitter_s=0.02, image_dropout=0.1)
SHORT = Recipe("cartpole_camera", ZOO / "cartpole_swingup", planner="policy", seconds=0.8, disturbance=LATE)


@pytest.fixture(scope="module")
def contract():
    return camera_task().contract


def content(bag, contract):
    (episode,) = align(bag, contract)
    return [episode.observation, episode.action, episode.reward, *episode.images, *episode.delays]


def test_episodes_become_bags_with_late_images_the_same_in_any_process(contract, tmp_path):
    seen = []
    figures = collect(SHORT, tmp_path / "many", 2, 7, jobs=1, report=seen.append)
    assert figures["bags"] == [tmp_path / "many" / f"episode_000{index}" for index in range(2)]
    assert (figures["episodes"], figures["frames"], len(seen)) == (2, 160, 2)
    assert figures["return_mean"] == pytest.approx(np.mean(figures["returns"])) and len(set(figures["returns"])) == 2
    assert figures["bytes"] > 10_000
    first, second = (align(bag, contract)[0] for bag in figures["bags"])
    assert figures["images"] == len(first.delays[0]) + len(second.delays[0]) < 38
    assert first.delays[0].std() > 0.005 and first.delays[0].mean() == pytest.approx(0.085, abs=0.02)
    assert first.images[0].max() > 100

    alone = play(SHORT, tmp_path / "alone", 8)
    assert alone.score == figures["returns"][1]
    assert all(map(np.array_equal, content(alone.bag, contract), content(figures["bags"][1], contract)))


def test_random_actions_alone_need_no_bundle(tmp_path):
    task = make_task("cartpole_swingup")
    played = play(Recipe("cartpole_swingup", None, seconds=0.5), tmp_path / "bag", 0)
    (episode,) = align(played.bag, task.contract)
    assert (played.frames, played.images, len(episode)) == (50, 0, 26)
    assert len(np.unique(episode.action)) > 1


def test_a_bundle_for_another_task_is_refused_and_leaves_nothing(tmp_path):
    wrong = Recipe("reacher_camera", ZOO / "cartpole_swingup")
    with pytest.raises(ContractError, match="choose one for reacher_camera or for its sibling dmc:reacher-easy"):
        play(wrong, tmp_path / "bag", 0)
    assert not list(tmp_path.iterdir())


def test_no_bag_is_written_over(tmp_path):
    (tmp_path / "episode_0001").mkdir()
    with pytest.raises(BagError, match="episode_0001: exists already; .* another --out"):
        collect(SHORT, tmp_path, 2, 0)
    assert len(list(tmp_path.iterdir())) == 1


def test_an_interrupted_collection_goes_on_where_it_stopped(tmp_path):
    recipe = Recipe("cartpole_swingup", None, seconds=0.1)
    whole = play(recipe, tmp_path / "episode_0000", 3)
    (tmp_path / ".unfinished" / "episode_0001").mkdir()  # of a worker that was killed
    before = {file.name: file.stat().st_mtime_ns for file in whole.bag.iterdir()}
    assert collect(recipe, tmp_path, 2, 3, resume=True)["bags"] == [tmp_path / "episode_0001"]
    assert {file.name: file.stat().st_mtime_ns for file in whole.bag.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episode_0000", "episode_0001"]
    with pytest.raises(BagError, match="all 2 episodes are there already"):
        collect(recipe, tmp_path, 2, 3, resume=True)


def test_images_of_a_robot_without_a_camera_cannot_be_late(tmp_path):
    with pytest.raises(RunError, match="cartpole_swingup has no camera to delay"):
        collect(Recipe("cartpole_swingup", None, disturbance=LATE), tmp_path, 1, 0)
    with pytest.raises(RunError, match="cartpole_swingup has no camera to delay"):
        command("cartpole_swingup", tmp_path, episodes=1, image_delay_ms=200.0)


def test_the_command_prints_its_figures(tmp_path, capsys):
    command("cartpole_swingup", tmp_path, episodes=1, seed=4, seconds=0.2, jobs=1, json_=True)
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["task"], figures["bundle_id"], figures["frames"], figures["seed"]) == (
        "cartpole_swingup",
        None,
        20,
        4,
    )
    assert figures["bags"] == [str(tmp_path / "episode_0000")]
