"""A run can be told apart and repeated from its folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from robot_wm.errors import RunError
from robot_wm.runs import RunFolder, versions


def test_two_runs_in_the_same_second_get_folders_of_their_own(tmp_path):
    folders = [RunFolder.create("eval", {"seed": 1}, root=tmp_path, name="dmc:reacher-easy") for _ in range(3)]
    assert len({folder.path for folder in folders}) == 3
    assert all("eval-dmc_reacher-easy" in folder.path.name for folder in folders)


def test_the_configuration_and_the_versions_are_recorded(tmp_path):
    folder = RunFolder.create("train", {"bags": [Path("a"), Path("b")], "rate": np.float32(0.5)}, root=tmp_path)
    config = yaml.safe_load((folder.path / "config.yaml").read_text())
    assert config["bags"] == ["a", "b"] and config["rate"] == 0.5 and config["command"]
    recorded = json.loads((folder.path / "versions.json").read_text())
    assert recorded == versions() and recorded["robot_wm"] and recorded["numpy"] == np.__version__


def test_figures_are_plain_json_even_when_something_was_not_finite(tmp_path):
    folder = RunFolder.create("sim", {}, root=tmp_path)
    folder.figures({"return": np.float64(812.5), "plan_ms": np.array([1.0, np.nan])})
    assert json.loads((folder.path / "figures.json").read_text()) == {"return": 812.5, "plan_ms": [1.0, None]}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(RunError, match="file.*cannot be written"):
        RunFolder.create("sim", {}, root=blocked)
