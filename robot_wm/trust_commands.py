"""`robot-wm trust fit`: what is usual for a bundle, from held-out bags, into the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

trust = typer.Typer(help="Trust in a bundle's predictions.", no_args_is_help=True)


@trust.callback()
def _group() -> None:
    """Trust in a bundle's predictions."""


@trust.command()
def fit(
    bags: Annotated[list[Path], typer.Argument(help="Bags of healthy running that the bundle was not trained on.")],
    bundle: Annotated[Path, typer.Option(help="Bundle to judge by; gets a trust.yaml, and with it another id.")],
    alarms: Annotated[
        float, typer.Option(help="False alarms expected in ten minutes of healthy running.", min=0.001)
    ] = 0.5,
    provider: Annotated[str, typer.Option(help="auto, tensorrt, cuda, openvino, openvino-bf16 or cpu.")] = "cpu",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fit what is usual on held-out bags of healthy running, a minute at least, better ten, and write it into the bundle."""
    from dataclasses import asdict

    from robot_wm.backend import Model
    from robot_wm.bundle import load_bundle
    from robot_wm.cli import emit, progress
    from robot_wm.trust_file import save_trust
    from robot_wm.trust_fit import fit_trust

    loaded = load_bundle(bundle)
    model = Model(loaded, provider, graphs=("encode", "posterior", "prior", "readout"))
    with progress() as bar:
        line = bar.add_task("bags", total=len(bags))
        spec = fit_trust(bags, model, alarms, lambda: bar.update(line, advance=1))
    figures = {"bundle_id": save_trust(bundle, spec).bundle_id, "was": loaded.bundle_id}
    emit(figures | asdict(spec), json_, title=f"trust fit {loaded.manifest.name}")
