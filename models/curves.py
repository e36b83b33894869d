"""Figures by update: into TensorBoard as they come, and kept for the report at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from robot_wm.report import Line, Panel


class Curves:
    """One training run's learning curves; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))
        self._rows: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def log(self, group: str, figures: Mapping[str, float], step: int) -> None:
        """Add the figures of `group` (train, held_out) after `step` updates."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
            self._rows[name][group].append((step, float(value)))

    def panels(self) -> list[Panel]:
        """One plot per figure, its groups together."""
        result = []
        for name, groups in self._rows.items():
            lines = [Line(group, *np.array(rows, float).T) for group, rows in groups.items()]
            result.append(Panel(name, "", lines, x_label="updates"))
        return result
