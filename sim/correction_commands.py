"""`robot-wm bench correction`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def bench_correction(
    bundle: Annotated[Path, typer.Option(help="Bundle to evaluate.", exists=True)],
    delays: Annotated[
        str, typer.Option(help="From capture to arrival, of images or, without a camera, of all readings [ms].")
    ] = "0,50,100,150,200,300",
    jitter_ms: Annotated[float, typer.Option(help="Standard deviation of that delay [ms].", min=0)] = 20.0,
    dropout: Annotated[float, typer.Option(help="Chance that one of them never arrives.", min=0, max=1)] = 0.1,
    occlude: Annotated[
        float, typer.Option(help="Hide the cameras for so long at a random moment of each episode [s].", min=0)
    ] = 0.0,
    corrections: Annotated[str, typer.Option(help="Of exact, naive, hold (sim/corrections.py).")] = "exact,naive,hold",
    episodes: Annotated[int, typer.Option(help="Episodes each, on equal seeds.", min=2)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the first episode.")] = 0,
    jobs: Annotated[int, typer.Option(help="Evaluations at a time.", min=1)] = 2,
    out: Annotated[Path | None, typer.Option(help="Directory for figures.json and the plot correction.png.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Return against delay for each way in which what comes late corrects the latent, with 95 % intervals.

    Beside each the ratio to exact correction with nothing late or lost, which is measured along with them.
    """
    if out is not None:
        import matplotlib  # noqa: F401 - the plot comes at the very end, and hours are lost without

        out.mkdir(parents=True, exist_ok=True)
    from robot_wm.bundle import load_bundle
    from robot_wm.cli import emit, progress
    from robot_wm.runs import RunFolder
    from sim.bench_correction import BASELINE, cells_for, measure, parse_delays, plot_correction

    loaded = load_bundle(bundle)
    names = list(dict.fromkeys(corrections.split(",")))
    cells = cells_for(loaded.contract, names, parse_delays(delays), jitter_ms, dropout, occlude)
    with progress() as bar:
        line = bar.add_task("evaluations", total=len({BASELINE, *cells}))

        def show(row: dict[str, Any]) -> None:
            text = f"{row['correction']} {row['delay_ms']:g} ms: {row['return_mean']:.0f}"
            bar.update(line, advance=1, description=text)

        baseline, rows = measure(bundle, cells, episodes, seed, jobs, show)
    figures = {
        "bundle_id": loaded.bundle_id,
        "task": loaded.contract.name,
        "delayed": "images" if loaded.contract.images else "readings",
        "jitter_ms": jitter_ms,
        "dropout": dropout,
        "occlude_s": occlude,
        "episodes": episodes,
        "seed": seed,
        "baseline": baseline,
        "rows": rows,
    }
    if out is not None:
        plot = out / "correction.png"
        plot_correction(figures, plot)
        figures["plot"] = plot
        RunFolder(out).figures(figures)
    emit(figures, json_, title=f"bench correction {loaded.manifest.name}")
