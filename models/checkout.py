"""Python files that only a source checkout has: the plain references in tests/, which the benchmarks time beside ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from robot_wm.errors import RunError

TESTS = Path(__file__).resolve().parents[1] / "tests" / "models"


def load_source(name: str) -> ModuleType:
    """Import tests/models/`name`.py. Raises RunError where there is no source checkout."""
    path = TESTS / f"{name}.py"
    if not path.is_file():
        raise RunError(f"{path}: what to compare with is only in a source checkout")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
