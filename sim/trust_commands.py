"""`robot-wm bench trust`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer


def bench_trust(
    bundle: Annotated[Path, typer.Option(help="Bundle with a trust.yaml.", exists=True)],
    trials: Annotated[int, typer.Option(help="Random trials of each fault.", min=1)] = 10,
    healthy_s: Annotated[float, typer.Option(help="Healthy running to count false alarms in [s].", min=0)] = 60.0,
    faults: Annotated[str, typer.Option(help="Comma-separated; empty: all that the task can have.")] = "",
    within_s: Annotated[float, typer.Option(help="A fault has to be noticed so soon [s].", min=0.05)] = 1.0,
    lasts_s: Annotated[float, typer.Option(help="A fault ends after so long [s]; 0: it stays.", min=0)] = 0.0,
    planner: Annotated[str, typer.Option(help="mppi, cem, sampling or policy (robot_wm/search.py).")] = "mppi",
    dropout: Annotated[float, typer.Option(help="Chance that a reading never arrives.", min=0, max=1)] = 0.0,
    image_dropout: Annotated[float, typer.Option(help="Chance that an image never arrives.", min=0, max=1)] = 0.0,
    image_jitter_ms: Annotated[float, typer.Option(help="Standard deviation of images' delay [ms].", min=0)] = 0.0,
    noise: Annotated[
        float, typer.Option(help="Held noise on the actions, as of `collect`: the robot keeps moving.", min=0)
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the first trial.")] = 0,
    jobs: Annotated[int, typer.Option(help="Trials at a time.", min=1)] = 2,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Faults at random moments of lockstep episodes: the share noticed in time, and false alarms in healthy running."""
    from robot_wm.bundle import load_bundle
    from robot_wm.cli import emit, progress
    from sim.bench_trust import Outcome, Setting, measure, summarise, trials_for
    from sim.disturbance import Disturbance
    from sim.tasks import make_task

    loaded = load_bundle(bundle)
    chosen = [name for name in faults.split(",") if name]
    todo = trials_for(make_task(loaded.contract.name), trials, healthy_s, chosen, seed)
    late = Disturbance(dropout=dropout, image_dropout=image_dropout, image_jitter_s=image_jitter_ms / 1e3)
    setting = Setting(bundle, within_s, lasts_s or math.inf, planner, late, noise)
    with progress() as bar:
        line = bar.add_task("trials", total=len(todo))

        def show(outcome: Outcome) -> None:
            bar.update(line, advance=1, description=outcome.trial.fault)

        outcomes = measure(setting, todo, jobs, show)
    figures = {"bundle_id": loaded.bundle_id, "task": loaded.contract.name, "within_s": within_s, "lasts_s": lasts_s}
    figures |= {"planner": planner, "noise": noise, "seed": seed}
    emit(figures | summarise(outcomes), json_, title=f"bench trust {loaded.manifest.name}")
