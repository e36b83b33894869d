"""What a run leaves in its folder besides the bag: the report and, in simulation, the video. It may fail; the run may not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from robot_wm.bags.reader import open_bag
from robot_wm.contract import Contract
from robot_wm.errors import RobotWmError
from robot_wm.report import Panel, write_report
from robot_wm.run_panels import run_panels
from robot_wm.runs import RunFolder

FILMS = "robot_wm.films"  # entry-point group: name of the motor bus → function(bag, video) that films its runs

Film = Callable[[Path, Path], str]  # returns why there is no video, or nothing


def leave_evidence(
    folder: RunFolder,
    bag: Path,
    contract: Contract,
    figures: Mapping[str, Any],
    title: str,
    film: Film | None = None,
) -> dict[str, Any]:
    """Write `report.html`, and `video.mp4` where there is a `film`, from a run's bag.

    Returns `{"report": path or None, "video": path or None, "notes": why something is missing}`; raises nothing of its own.
    """
    notes: list[str] = []
    video: Path | None = folder.path / "video.mp4" if film is not None else None
    if film is not None and video is not None:
        why = film(bag, video)
        if why or not video.is_file():
            notes.append(why or "no video")
            video = None
    panels: list[Panel] = []
    try:
        panels, missing = run_panels(open_bag(bag), contract)
        notes += missing
    except RobotWmError as error:
        notes.append(f"no plots: {error}")
    report, more = leave_report(folder, title, figures, panels, video, notes)
    return {"report": report, "video": None if video is None else str(video.resolve()), "notes": [*notes, *more]}


def leave_report(
    folder: RunFolder,
    title: str,
    figures: Mapping[str, Any],
    panels: Sequence[Panel],
    video: Path | None = None,
    notes: Sequence[str] = (),
) -> tuple[str | None, list[str]]:
    """Write `report.html`, without plots where they cannot be drawn; returns its path and why something is missing."""
    path = folder.path / "report.html"
    problems: list[str] = []
    for drawn in (panels, ()):
        try:
            write_report(path, title, figures, drawn, video, " ".join([*notes, *problems]))
        except (RobotWmError, OSError) as error:
            problems.append(f"no {'plots' if drawn else 'report'}: {error}.")
        else:
            return str(path.resolve()), problems
    return None, problems


def film_of(plant: str) -> Film | None:
    """The function that films runs of this plant; None where nothing can be filmed."""
    found = [entry for entry in entry_points(group=FILMS) if entry.name == plant]
    if not found:
        return None
    film: Film = found[0].load()
    return film
