"""Functions of the user's own that a contract names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from robot_wm.errors import ContractError


def load_function(name: str, where: str = "reward.function") -> Callable[..., Any]:
    """Import `package.module:function`, installed or in this folder; `where` is the contract's field that names it.

    Raises:
        ContractError: saying which part is missing.
    """
    module, _, function = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(import_module(module), function)
    except ImportError as error:
        raise ContractError(f"{where}: {module} cannot be imported: {error}") from error
    except AttributeError as error:
        raise ContractError(f"{where}: {module} has no function {function!r}") from error
    if not callable(found):
        raise ContractError(f"{where}: {name} is no function")
    return found  # type: ignore[no-any-return]
