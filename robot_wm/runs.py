"""The run folder: what one run leaves behind, so that it can be told apart and repeated."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from robot_wm import __version__
from robot_wm.errors import RunError
from robot_wm.plain import plain

PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "mujoco", "torch", "mcap", "rosbags")


@dataclass(frozen=True)
class RunFolder:
    """A directory `<root>/<UTC time>-<kind>[-<name>]`: configuration, versions, figures and what the run adds."""

    path: Path

    @classmethod
    def create(cls, kind: str, config: Mapping[str, Any], root: Path | str = "runs", name: str = "") -> RunFolder:
        """Make the folder and record the resolved configuration and the versions in use.

        Raises:
            RunError: the folder cannot be written.
        """
        stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
        label = "-".join(part for part in (stamp, kind, name.replace(":", "_").replace("/", "_")) if part)
        try:
            path = _unused(Path(root) / label)
            path.mkdir(parents=True)
            (path / "config.yaml").write_text(yaml.safe_dump({"command": sys.argv, **plain(config)}, sort_keys=False))
            (path / "versions.json").write_text(json.dumps(versions(), indent=1) + "\n")
        except OSError as error:
            why = f"{root}: the run folder cannot be written: {error.strerror}; choose another --runs"
            raise RunError(why) from error
        return cls(path)

    def figures(self, figures: Mapping[str, Any]) -> None:
        """Write `figures.json`, whole or not at all."""
        temporary = self.path / ".figures.json"
        temporary.write_text(json.dumps(plain(figures), indent=1) + "\n")
        os.replace(temporary, self.path / "figures.json")


def versions() -> dict[str, str]:
    """Versions of this code, Python, the platform and the packages that decide results."""
    found = {"robot_wm": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    revision = code_version()
    return {**found, "git": revision} if revision else found


def code_version() -> str:
    """The git revision of this checkout, with `+` when it was changed; empty outside a checkout."""
    here = Path(__file__).resolve().parent
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    try:
        result = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _unused(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
