"""`robot-wm replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replay(
    bags: Annotated[list[Path], typer.Argument(help="Bags to replay.")],
    bundle: Annotated[
        list[Path], typer.Option(help="Bundle to replay them through; give every one that made plans of a bag.")
    ],
    horizons: Annotated[str, typer.Option(help="How far ahead to predict, comma-separated [ms].")] = "100,200",
    every: Annotated[float, typer.Option(help="Time between starts [s].", min=0.001)] = 0.1,
    observation: Annotated[str, typer.Option(help="Observation to compare; default: the contract's first.")] = "",
    provider: Annotated[str, typer.Option(help="auto, tensorrt, cuda, openvino, openvino-bf16 or cpu.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Directory for report.html, figures.json and corrections.csv.", file_okay=False)
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a bundle's open-loop predictions under the recorded command with what was measured, beside persistence.

    Only measurements up to each start are used. The recorded command of a feedback controller leaks some of the future.
    Latents and plans that a bag holds are made again from their recorded inputs (`latents`, `reproduction`). `late_corrections`
    says how much each late observation changed the latent of the present, in units of the latents' spread, by how many steps late
    it was. Predictions and changes are the first bundle's.
    """
    from robot_wm.backend import Model
    from robot_wm.bundle import load_bundle
    from robot_wm.cli import emit
    from robot_wm.replay import Protocol
    from robot_wm.replay import replay as through
    from robot_wm.replay_corrections import replay_corrections
    from robot_wm.replay_latents import replay_latents
    from robot_wm.replay_plans import innovation_over_time, replay_plans
    from robot_wm.replay_report import write_replay

    protocol = Protocol(horizons_s=parse_horizons(horizons), every_s=every, observation=observation)
    models = [Model(load_bundle(path), provider) for path in bundle]
    figures = through(bags, models[0], protocol)
    figures["corrections"] = innovation_over_time(bags)
    late = replay_corrections(bags, models[0])
    figures["late_corrections"] = late.figures()
    known = {model.bundle_id: model for model in models}
    figures["latents"] = replay_latents(bags, known)
    figures["reproduction"] = replay_plans(bags, known)
    title = f"replay through {models[0].bundle_id}"
    if out is not None:
        figures |= write_replay(out, figures, late, title)
    emit(figures, json_, title=title)


def parse_horizons(text: str) -> tuple[float, ...]:
    """Horizons [s] from milliseconds as typed.

    Raises:
        RunError: not a comma-separated list of positive numbers.
    """
    from robot_wm.errors import RunError

    try:
        values = tuple(float(part) / 1e3 for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0.0 < value < float("inf") for value in values):
        raise RunError(f"--horizons {text!r}: give positive milliseconds, such as 100,200")
    return values
