"""What pip and colcon see: an ament_python package, and entry points that lead somewhere."""

import itertools
import re
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
GROUPS = (
    "robot_wm.commands",
    "robot_wm.commands.bench",
    "robot_wm.buses",
    "robot_wm.sensors",
    "robot_wm.cameras",
    "robot_wm.plants",
    "robot_wm.films",
    "robot_wm.monitors",
)


def test_colcon_takes_it_for_an_ament_python_package(tmp_path):
    """An invalid package.xml would make colcon build a plain Python package without a word."""
    colcon = Path(sys.executable).with_name("colcon")
    if not colcon.exists():
        pytest.skip("colcon is not installed: make setup")
    for name in ("package.xml", "setup.py", "setup.cfg", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    listing = subprocess.run([colcon, "list"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert listing.stdout.split() == ["robot_wm", ".", "(ros.ament_python)"]


@pytest.mark.parametrize("entry", [e for group in GROUPS for e in entry_points(group=group)], ids=str)
def test_every_entry_point_leads_somewhere(entry):
    assert callable(entry.load()), entry.value


@pytest.fixture(scope="module")
def arguments():
    """What setup.py passes to setup()."""
    caught = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr("setuptools.setup", lambda **given: caught.update(given))
        runpy.run_path(str(ROOT / "setup.py"))
    return caught


def test_installed_entry_points_are_those_of_setup_py(arguments):
    """A stale installation would test yesterday's commands."""
    for group in GROUPS:
        installed = sorted(f"{entry.name} = {entry.value}" for entry in entry_points(group=group))
        assert installed == sorted(arguments["entry_points"][group]), "run make setup again"


def test_every_entry_point_group_is_checked_here(arguments):
    assert set(arguments["entry_points"]) == {"console_scripts", *GROUPS}


def test_every_requirement_has_its_reason_in_the_docs(arguments):
    reasons = (ROOT / "docs" / "dependencies.md").read_text().lower()
    required = [*arguments["install_requires"], *itertools.chain.from_iterable(arguments["extras_require"].values())]
    for requirement in required:
        name = re.split(r"[\[<>=~;]", requirement)[0].lower()
        assert name.startswith("ros-") or re.search(rf"\b{re.escape(name)}\b", reasons), name


def test_every_module_and_every_file_beside_it_is_packaged(arguments):
    for package in {name.partition(".")[0] for name in arguments["packages"]}:
        shipped = {
            path for pattern in arguments["package_data"].get(package, []) for path in (ROOT / package).glob(pattern)
        }
        for file in (ROOT / package).rglob("*"):
            if "__pycache__" in file.parts or not file.is_file():
                continue
            if file.suffix == ".py":
                assert ".".join(file.parent.relative_to(ROOT).parts) in arguments["packages"], file
            else:
                assert file in shipped, f"{file}: no pattern of package_data matches it"


def test_workflows_and_parameters_are_yaml():
    for file in [ROOT / ".pre-commit-config.yaml", *ROOT.glob("ros_nodes/params/*.yaml")]:
        assert yaml.safe_load(file.read_text()), file
