"""A run keeps its report whatever goes wrong with it."""

import builtins
from pathlib import Path

import numpy as np
import pytest

from bag_tools import drive, record, robot
from robot_wm.evidence import film_of, leave_evidence, leave_report
from robot_wm.report import Line, Panel
from robot_wm.runs import RunFolder

PANEL = Panel("speed", "[m/s]", [Line("", np.arange(3.0), np.arange(3.0))])


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create("sim", {}, root=tmp_path)


@pytest.fixture
def no_plots(monkeypatch):
    original = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)


def filmed(bag, video):
    video.write_bytes(b"film")
    return ""


def test_the_report_holds_plots_figures_and_video(folder, tmp_path):
    bag = record(tmp_path / "bag", drive(0.5), robot())

    found = leave_evidence(folder, bag, robot(), {"return": 812.0}, "sim arm", filmed)

    page = Path(found["report"]).read_text()
    assert Path(found["report"]).parent == folder.path.resolve()
    assert page.count("<svg") >= 4 and "812" in page and "video/mp4" in page
    assert Path(found["video"]).read_bytes() == b"film" and found["notes"] == []


def test_a_video_that_cannot_be_made_is_a_note_in_figures_and_report(folder, tmp_path):
    bag = record(tmp_path / "bag", drive(0.5), robot())

    found = leave_evidence(folder, bag, robot(), {}, "sim arm", lambda bag, video: "no video: OpenGL cannot draw here")

    assert found["video"] is None and found["notes"] == ["no video: OpenGL cannot draw here"]
    assert "OpenGL cannot draw here" in Path(found["report"]).read_text()


def test_without_the_plot_library_figures_and_video_remain(folder, tmp_path, no_plots):
    bag = record(tmp_path / "bag", drive(0.5), robot())

    found = leave_evidence(folder, bag, robot(), {"return": 812.0}, "sim arm", filmed)

    page = Path(found["report"]).read_text()
    assert "<svg" not in page and "812" in page and "video/mp4" in page
    assert any("pip install 'robot-wm[report]'" in note for note in found["notes"])


def test_a_bag_that_cannot_be_read_is_a_note(folder, tmp_path):
    found = leave_evidence(folder, tmp_path / "nowhere", robot(), {"return": None}, "run arm")

    assert found["report"] and any("nowhere" in note for note in found["notes"])


def test_a_full_disk_leaves_no_report_and_says_so(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)

    path, notes = leave_report(folder, "train arm", {}, [PANEL])

    assert path is None and any("No space left" in note for note in notes)


def test_only_a_simulated_bus_can_be_filmed():
    assert film_of("loopback") is None
