"""A calibration file is written whole or not at all, and read again as it was."""

import os

import pytest
import yaml

from calibration.files import write
from calibration_samples import made
from robot_wm.calibration_file import BOUNDS, read, require_fit
from robot_wm.errors import CalibrationError


@pytest.mark.parametrize("kind", BOUNDS)
def test_what_is_written_is_read(kind, tmp_path):
    original = made(kind, date="2026-11-21T02:00:00+00:00", unit=BOUNDS[kind].unit)
    path = write(tmp_path / "new" / "folder" / "file.yaml", original)
    assert read(path) == original
    assert require_fit(path, kind, "arm-7") == original


def test_a_person_can_read_it(tmp_path):
    data = yaml.safe_load(write(tmp_path / "f.yaml", made()).read_text())
    assert list(data) == ["schema", "kind", "serial", "date", "method", "residual", "unit", "values"]
    assert (data["schema"], data["unit"]) == (1, "deg")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = write(tmp_path / "f.yaml", made())
    before = path.read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CalibrationError, match=r"f\.yaml: cannot be written: No space left"):
        write(path, made(residual=0.02))
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["f.yaml"]
