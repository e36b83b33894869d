"""`robot-wm models`: the model store on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from robot_wm.bundle import Bundle

models = typer.Typer(help="Bundles in a model store: list, verify, push, pull, roll back.", no_args_is_help=True)

Store = Annotated[str, typer.Option("--store", help="Model store: a directory, or user@host:path over ssh.")]
Reference = Annotated[str, typer.Argument(help="A name, an id or its beginning, `current` or `previous`.")]
Provider = Annotated[
    str,
    typer.Option(help="Execution provider that must compute it: auto, tensorrt, cuda, openvino, openvino-bf16, cpu."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

DEFAULT_STORE = "models/store"


@models.command("list")
def list_(store: Store = DEFAULT_STORE, json_: Json = False) -> None:
    """List the bundles of a store."""
    from robot_wm.cli import emit
    from robot_wm.store import ModelStore

    entries = ModelStore(store).list()
    rows = {
        entry.bundle_id: {
            "name": entry.name,
            "size": entry.size,
            "contract": entry.contract_hash,
            "current": "current" in entry.pointers,
            "previous": "previous" in entry.pointers,
            "metrics": entry.metrics,
        }
        for entry in entries
    }
    emit({"store": store, "bundles": rows}, json_, title=store)


@models.command()
def verify(
    bundle: Annotated[
        str, typer.Argument(help="A bundle's directory, or with --store a name, id, `current` or `previous`.")
    ],
    store: Annotated[str, typer.Option("--store", help="Model store: a directory, or user@host:path over ssh.")] = "",
    provider: Provider = "auto",
    json_: Json = False,
) -> None:
    """Check digests, contract and golden parity of every graph on this machine."""
    from robot_wm.bundle import load_bundle
    from robot_wm.cli import emit
    from robot_wm.store import ModelStore

    check = _checker(provider)
    emit(ModelStore(store).verify(bundle, check) if store else check(load_bundle(bundle)), json_, title=bundle)


@models.command()
def push(
    bundle: Annotated[Path, typer.Argument(help="The bundle's directory.")],
    store: Store = DEFAULT_STORE,
    provider: Provider = "auto",
    json_: Json = False,
) -> None:
    """Verify a bundle, copy it into the store and make it current."""
    from robot_wm.cli import emit
    from robot_wm.store import ModelStore

    target = ModelStore(store)
    pushed = target.push(bundle, _checker(provider))
    figures = {"pushed": pushed.bundle_id, "name": pushed.manifest.name, "previous": target.pointer("previous")}
    emit({"store": store, **figures}, json_, title="pushed")


@models.command()
def pull(
    reference: Reference = "current",
    to: Annotated[Path | None, typer.Option(help="Directory of the copy (default: the bundle's id).")] = None,
    store: Store = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Copy a bundle out of the store, verified."""
    from robot_wm.cli import emit
    from robot_wm.store import ModelStore

    source = ModelStore(store)
    path = to if to is not None else Path(source.resolve(reference))
    bundle = source.pull(reference, path)
    emit(
        {"store": store, "pulled": bundle.bundle_id, "name": bundle.manifest.name, "path": path}, json_, title="pulled"
    )


@models.command()
def rollback(store: Store = DEFAULT_STORE, json_: Json = False) -> None:
    """Make the previous bundle current again (one step)."""
    from robot_wm.cli import emit
    from robot_wm.store import ModelStore

    emit({"store": store, "current": ModelStore(store).rollback()}, json_, title="rolled back")


def _checker(provider: str) -> Callable[[Bundle], dict[str, Any]]:
    """Golden parity with the ONNX Runtime session in use; ONNX Runtime is loaded on the first call."""

    def check(bundle: Bundle) -> dict[str, Any]:
        from dataclasses import asdict

        from robot_wm.backend import Model
        from robot_wm.verify import verify_on_device

        return {"bundle": bundle.manifest.name, **asdict(verify_on_device(bundle, Model(bundle, provider)))}

    return check
