"""A self-contained `report.html`: figures as a table, plots as inline SVG, the video. No network, no scripts."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.errors import RunError
from robot_wm.messages import FloatArray

MOST_POINTS = 1500  # of one line; longer ones are thinned, keeping each bin's extremes


@dataclass(frozen=True)
class Line:
    """One curve: `x` and `y` of the same length."""

    label: str
    x: FloatArray
    y: FloatArray
    style: str = "-"  # matplotlib's line style; "." draws points, "steps" a zero-order hold


@dataclass(frozen=True)
class Panel:
    """One plot; `marks` are vertical lines (time, text), `bound` a horizontal one, `x_range` what is shown."""

    title: str
    y_label: str
    lines: Sequence[Line]
    x_label: str = "time [s]"
    marks: Sequence[tuple[float, str]] = field(default_factory=tuple)
    bound: float | None = None
    x_range: tuple[float, float] | None = None


def write_report(
    path: Path,
    title: str,
    figures: Mapping[str, Any],
    panels: Iterable[Panel],
    video: Path | None = None,
    note: str = "",
) -> Path:
    """Write the page to `path` and return it.

    Raises:
        RunError: matplotlib is not installed (it is in the extra `report`).
    """
    drawn = "\n".join(f"<figure>{_svg(panel)}</figure>" for panel in panels)
    rows = "\n".join(
        f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(_show(v))}</td></tr>" for k, v in figures.items()
    )
    film = ""
    if video is not None and video.is_file():
        data = base64.b64encode(video.read_bytes()).decode()
        film = f'<video controls loop muted src="data:video/mp4;base64,{data}"></video>'
    remark = f"<p>{html.escape(note)}</p>" if note else ""
    page = _PAGE.format(title=html.escape(title), remark=remark, film=film, rows=rows, plots=drawn)
    path.write_text(page, encoding="utf-8")
    return path


def draw(panel: Panel) -> Any:
    """One panel as a matplotlib figure. Raises RunError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError("plots need matplotlib: pip install 'robot-wm[report]'") from error
    figure = Figure(figsize=(9.0, 2.6), layout="constrained")
    axes = figure.add_subplot()
    for line in panel.lines:
        x, y = _thin(np.asarray(line.x), np.asarray(line.y))
        if line.style == "steps":
            axes.step(x, y, where="post", label=line.label, linewidth=1.0)
        elif line.style == ".":
            axes.plot(x, y, ".", label=line.label, markersize=2.5)
        else:
            axes.plot(x, y, line.style, label=line.label, linewidth=1.0)
    for at, text in panel.marks:
        axes.axvline(at, color="0.6", linewidth=0.8)
        axes.annotate(
            text, (at, 1.0), xycoords=("data", "axes fraction"), rotation=90, va="top", fontsize=6, color="0.4"
        )
    if panel.bound is not None:
        axes.axhline(panel.bound, color="tab:red", linewidth=0.8, linestyle="--")
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.set_xlim(panel.x_range)
    axes.grid(alpha=0.3)
    if any(line.label for line in panel.lines):
        axes.legend(loc="upper right", fontsize=7, framealpha=0.6)
    return figure


def _svg(panel: Panel) -> str:
    """A drawn panel as SVG text, to be put into a page."""
    stream = io.StringIO()
    draw(panel).savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _thin(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """At most about `MOST_POINTS` points, keeping the smallest and largest of each bin so that no spike is lost."""
    if len(x) <= MOST_POINTS:
        return x, y
    bins = np.array_split(np.arange(len(x)), MOST_POINTS // 2)
    filled = np.nan_to_num(y, nan=0.0)
    keep = sorted({int(i) for b in bins for i in (b[np.argmin(filled[b])], b[np.argmax(filled[b])])})
    return x[keep], y[keep]


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_show(item)}" for key, item in value.items())
    return str(value)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #222; }}
table {{ border-collapse: collapse; }} th {{ text-align: left; font-weight: 600; padding: .1rem 1.2rem .1rem 0; }}
td {{ font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }} tr:nth-child(even) {{ background: #f4f4f4; }}
figure {{ margin: 1rem 0; }} svg, video {{ width: 100%; height: auto; }}
</style></head><body>
<h1>{title}</h1>
{remark}
{film}
<table>
{rows}
</table>
{plots}
</body></html>
"""
