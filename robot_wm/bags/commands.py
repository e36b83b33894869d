"""`robot-wm bags info|salvage` and `robot-wm bench bags`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

bags = typer.Typer(help="Look into bags and rescue them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
DropNan = Annotated[bool, typer.Option("--drop-nan", help="Drop messages with numbers that are not finite.")]
Sort = Annotated[bool, typer.Option("--sort", help="Sort messages whose stamps go backwards.")]


@bags.command("info")
def info(
    bag: Annotated[Path, typer.Argument(help="rosbag2 directory, .mcap, .db3 or ROS 1 .bag.")],
    contract: Annotated[Path | None, typer.Option(help="Align the bag with this contract and report.")] = None,
    drop_nan: DropNan = False,
    sort: Sort = False,
    json_: Json = False,
) -> None:
    """Topics, counts, rates, gaps and events of a bag; with a contract also its episodes."""
    from robot_wm.bags.info import describe_bag
    from robot_wm.bags.series import Policy
    from robot_wm.cli import emit
    from robot_wm.contract import load_contract

    policy = Policy("drop" if drop_nan else "refuse", "sort" if sort else "refuse")
    emit(describe_bag(bag, load_contract(contract) if contract else None, policy), json_, title=str(bag))


@bags.command("salvage")
def salvage(
    bag: Annotated[Path, typer.Argument(help="MCAP bag that was cut off or damaged.")],
    out: Annotated[Path, typer.Argument(help="Directory of the new bag; must not exist.")],
    json_: Json = False,
) -> None:
    """Copy every readable message of a broken MCAP bag into a new one."""
    from dataclasses import asdict

    from robot_wm.bags import salvage as rescue
    from robot_wm.cli import emit

    result = rescue.salvage(bag, out)
    emit(asdict(result) | {"messages": result.messages}, json_, title=f"salvaged from {bag}")


def bench_bags(
    seconds: Annotated[float, typer.Option(help="Length of the recording to write and read [s].", min=1.0)] = 20.0,
    rate: Annotated[float, typer.Option(help="Messages per second on each of two topics [Hz].", min=1.0)] = 500.0,
    sync: Annotated[bool, typer.Option(help="Wait for the disk at every flush.")] = True,
    folder: Annotated[Path | None, typer.Option(help="Where to write; default the system's temporary folder.")] = None,
    json_: Json = False,
) -> None:
    """Time the recorder, the reader and the alignment."""
    from robot_wm.bags.bench import measure
    from robot_wm.cli import emit

    figures: dict[str, Any] = measure(seconds, rate, sync, folder)
    emit(figures, json_, title="bench bags")
