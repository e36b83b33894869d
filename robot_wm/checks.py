"""One line of a report on fitness: `robot-wm doctor` prints them, arming obeys them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """What was looked at and what was found; `remedy` says what to do when `status` is not pass."""

    name: str
    status: str  # pass | warn | fail
    detail: str
    remedy: str = ""

    @property
    def sentence(self) -> str:
        """What was found and what to do about it."""
        return "; ".join(text for text in (self.detail, self.remedy) if text)


def first_failure(checks: Iterable[Check]) -> str:
    """`name: sentence` of the first check that failed, or nothing."""
    return next((f"{check.name}: {check.sentence}" for check in checks if check.status == "fail"), "")


def warnings(checks: Iterable[Check]) -> str:
    """`name: detail` of every check that warns, or nothing."""
    return "; ".join(f"{check.name}: {check.detail}" for check in checks if check.status == "warn")
