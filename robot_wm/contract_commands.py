"""`robot-wm contract show|check|new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robot_wm.contract import Contract

contract = typer.Typer(help="Show, check and draft contracts.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
File = Annotated[Path, typer.Argument(help="Contract, a YAML file.")]


@contract.command("show")
def show(file: File, json_: Json = False) -> None:
    """Sizes, rates and hash of a contract."""
    from robot_wm.cli import emit
    from robot_wm.contract import load_contract

    emit(describe(load_contract(file)), json_, title=str(file))


@contract.command("check")
def check(
    file: File,
    bundle: Annotated[Path | None, typer.Option(help="Bundle that must serve this contract.")] = None,
    bag: Annotated[Path | None, typer.Option(help="Bag that must hold what this contract names.")] = None,
    drop_nan: Annotated[
        bool, typer.Option("--drop-nan", help="Drop messages with numbers that are not finite.")
    ] = False,
    sort: Annotated[bool, typer.Option("--sort", help="Sort messages whose stamps go backwards.")] = False,
    json_: Json = False,
) -> None:
    """Validate a contract, alone or against a bundle or a bag."""
    from robot_wm.bags.align import Options, align_with_report
    from robot_wm.bags.series import Policy
    from robot_wm.bundle import load_bundle
    from robot_wm.cli import emit
    from robot_wm.contract import load_contract

    loaded = load_contract(file)
    figures = describe(loaded)
    if bundle is not None:
        loaded.require_same(load_bundle(bundle).contract, str(bundle))
        figures["bundle"] = str(bundle)
    if bag is not None:
        policy = Policy("drop" if drop_nan else "refuse", "sort" if sort else "refuse")
        _, report = align_with_report(bag, loaded, Options(policy=policy))
        figures["aligned"] = report.to_dict()
    emit(figures, json_, title=f"{file}: valid")


@contract.command("new")
def new(
    bag: Annotated[Path, typer.Argument(help="Bag to draft from.")],
    out: Annotated[Path, typer.Option(help="Contract file to write; must not exist.")],
    name: Annotated[str, typer.Option(help="Name of the contract; default the bag's.")] = "",
    action: Annotated[str, typer.Option(help="Topic of the action; default guessed by its name.")] = "",
    model_hz: Annotated[
        float, typer.Option(help="Rate of the model; 0: 50 or the slowest topic's [Hz].", min=0.0)
    ] = 0.0,
    json_: Json = False,
) -> None:
    """Draft a contract from a bag: topics, joints, rates, ranges seen, measured delays."""
    from robot_wm.bags.draft import draft_contract, draft_text
    from robot_wm.bags.reader import open_bag
    from robot_wm.cli import emit
    from robot_wm.errors import ContractError

    if out.exists():
        raise ContractError(f"{out}: exists already; a contract is never written over, choose another name")
    opened = open_bag(bag)
    draft = draft_contract(opened, name or bag.resolve().name.partition(".")[0], action, model_hz)
    try:
        out.write_text(draft_text(draft, opened))
    except OSError as error:
        raise ContractError(f"{out}: cannot be written: {error.strerror}") from error
    emit(describe(draft.contract) | {"guessed": list(draft.guesses), "file": str(out)}, json_, title=str(out))


def describe(item: Contract) -> dict[str, Any]:
    """Sizes, rates and hash as plain data."""
    return {
        "name": item.name,
        "hash": item.hash,
        "model_hz": item.model_hz,
        "motor_hz": item.motor_hz,
        "observations": {
            o.name: f"{o.size} of {o.topic}.{o.field}, {o.features} features, {o.rate_hz:g} Hz, delay {o.delay_s * 1e3:g} ms"
            for o in item.observations
        },
        "images": {
            i.name: f"{'x'.join(map(str, i.shape))} of {i.topic}, {i.rate_hz:g} Hz, delay {i.delay_s * 1e3:g} ms"
            for i in item.images
        },
        "observation_size": item.observation_size,
        "feature_size": item.feature_size,
        "action": f"{item.action.mode} of {', '.join(item.action.names)} on {item.action.topic}",
        "action_size": item.action.size,
        "action_rate": list(item.action.rate) or "unlimited",
        "action_jerk": list(item.action.jerk) or "unlimited",
        "reward": item.reward.function or item.reward.topic or "none",
        "topics": list(item.topics()),
    }
