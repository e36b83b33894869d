"""`robot-wm faults`: what goes wrong on a robot, done to a running stack on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from robot_wm.errors import RunError
from ros_nodes.commands import Json, LogLevel, Provider, Runs


def faults(
    faults: Annotated[int, typer.Option(min=1, help="How many, one after another.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of kinds, moments and lengths.")] = 0,
    bus: Annotated[str, typer.Option(help="Emulated hardware: serial, dynamixel or feetech.")] = "serial",
    kinds: Annotated[
        str, typer.Option(help="Only these, e.g. 'kill *,line drop' (docs/safety.md has them all); empty: all.")
    ] = "",
    slack_s: Annotated[
        float, typer.Option(min=0.0, help="What a busy machine may add to each bound [s]; it is in the figures.")
    ] = 0.0,
    bundle: Annotated[
        Path | None, typer.Option(help="Model bundle; default: the released one for cartpole_swingup.")
    ] = None,
    task: Annotated[str, typer.Option(help="Of the simulated plant.")] = "cartpole_swingup",
    runs: Runs = Path("runs"),
    provider: Provider = "auto",
    log_level: LogLevel = "info",
    json_: Json = False,
) -> None:
    """Kill, freeze, cut, overheat, corrupt: real processes, real bytes, and a monitor on the line that judges.

    Every fault and its outcome go into the run folder. The exit status is 1 when a limit was violated or a bound missed.
    """
    from ros_nodes.fault_run import Order, run_campaign

    wanted = tuple(filter(None, map(str.strip, kinds.split(","))))
    order = Order(faults, seed, bus, wanted, slack_s, bundle, task, provider, log_level)
    figures = run_campaign(order, runs)
    show(figures, json_)
    violations, safe = figures["limit_violations"], figures["safe_in_bound"]
    if violations or safe != 1.0:
        raise RunError(f"{violations} limit violations, {safe:.1%} safe within the bound: see {figures['run']}")


def show(figures: dict[str, Any], json_: bool) -> None:
    """One JSON object, or a table with a row per kind."""
    from robot_wm.cli import emit

    rows = figures["rows"]
    if json_ or not rows:
        emit(figures, json_, "faults")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title="faults")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*("–" if value is None else str(value) for value in row.values()))
    console = Console()
    console.print(table)
    console.print(json.dumps({key: value for key, value in figures.items() if key != "rows"}))
