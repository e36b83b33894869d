"""Plain YAML data to typed values, or an error that names the field."""

from __future__ import annotations

import math
import reprlib
from dataclasses import fields
from typing import Any

from robot_wm.errors import ContractError, RobotWmError


class FieldReader:
    """Turns plain YAML data into typed values, or raises an error (a ContractError, unless told otherwise) that names the field."""

    def __init__(self, source: str, error: type[RobotWmError] = ContractError) -> None:
        self.source = source
        self.error = error

    def fail(self, where: str, text: str) -> RobotWmError:
        return self.error(f"{self.source}: {where}: {text}" if where else f"{self.source}: {text}")

    def mapping(self, data: Any, where: str) -> dict[str, Any]:
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            raise self.fail(where, f"must be a table with named fields, got {short(data)}")
        return data

    def table(self, data: Any, where: str, kind: type, required: tuple[str, ...] = ()) -> dict[str, Any]:
        table = self.mapping(data, where)
        known = {f.name for f in fields(kind)}
        prefix = f"{where}." if where else ""
        for key in table:
            if key not in known:
                raise self.fail(f"{prefix}{key}", f"unknown field; known are {', '.join(sorted(known))}")
        for key in required:
            if key not in table:
                raise self.fail(f"{prefix}{key}", "is missing")
        return table

    def listing(self, data: Any, where: str) -> list[Any]:
        if not isinstance(data, list | tuple):
            raise self.fail(where, f"must be a list, got {short(data)}")
        return list(data)

    def text(self, data: Any, where: str) -> str:
        if not isinstance(data, str):
            raise self.fail(where, f"must be text, got {short(data)}")
        return data

    def flag(self, data: Any, where: str) -> bool:
        if not isinstance(data, bool):
            raise self.fail(where, f"must be true or false, got {short(data)}")
        return data

    def choice(self, data: Any, where: str, options: tuple[str, ...]) -> str:
        if data not in options:
            raise self.fail(where, f"must be one of {', '.join(options)}, got {short(data)}")
        return str(data)

    def names(self, data: Any, where: str) -> tuple[str, ...]:
        names = tuple(self.text(item, where) for item in self.listing(data, where))
        if not names or len(set(names)) != len(names):
            raise self.fail(where, f"must be a list of different names, got {short(data)}")
        return names

    def texts(self, data: Any, where: str, size: int, options: tuple[str, ...] = ()) -> tuple[str, ...]:
        items = [data] * size if isinstance(data, str) else self.listing(data, where)
        self._sized(items, where, size)
        return tuple(self.choice(i, where, options) if options else self.text(i, where) for i in items)

    def number(self, data: Any, where: str, above: float = -math.inf, at_least: float = -math.inf) -> float:
        value = _float(data)
        if not math.isfinite(value):
            raise self.fail(where, f"must be a finite number, got {short(data)}")
        if value <= above:
            raise self.fail(where, f"must be above {above:g}, got {value:g}")
        if value < at_least:
            raise self.fail(where, f"must be at least {at_least:g}, got {value:g}")
        return value

    def whole(self, data: Any, where: str, at_least: int) -> int:
        if isinstance(data, bool) or not isinstance(data, int) or data < at_least:
            raise self.fail(where, f"must be a whole number, at least {at_least}, got {short(data)}")
        return data

    def numbers(
        self, data: Any, where: str, size: int | None = None, above: float = -math.inf, at_least: float = -math.inf
    ) -> tuple[float, ...]:
        scalar = isinstance(data, int | float) and not isinstance(data, bool)
        items = [data] * (size or 1) if scalar else self.listing(data, where)
        if size is not None:
            self._sized(items, where, size)
        return tuple(self.number(item, f"{where}[{i}]", above, at_least) for i, item in enumerate(items))

    def _sized(self, items: list[Any], where: str, size: int) -> None:
        if len(items) != size:
            raise self.fail(where, f"must have {size} entries (one per name), got {len(items)}")


def _float(data: Any) -> float:
    """NaN for what is no number of a float's range."""
    if isinstance(data, bool) or not isinstance(data, int | float):
        return math.nan
    try:
        return float(data)
    except OverflowError:
        return math.nan


class _Brief(reprlib.Repr):
    """A text of bounded size, made in bounded time: a YAML file of a few lines can hold a list of 10^9 items (by its aliases)."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 20
        self.maxstring = self.maxother = 80

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 256 else f"a number of {x.bit_length()} bits"


_BRIEF = _Brief()


def short(value: Any) -> str:
    """What to show of a value in a sentence: 80 characters at most."""
    text = _BRIEF.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
