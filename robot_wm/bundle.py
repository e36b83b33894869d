"""The bundle: what travels from the trainer to the robot. A directory, verified before use, never half there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from robot_wm.contract import Contract, load_contract
from robot_wm.errors import BundleError
from robot_wm.field_reader import FieldReader, short

FORMAT = 1
GRAPHS = ("encode", "posterior", "prior", "policy", "heads", "propose", "refine", "readout")


def image_graph(name: str) -> str:
    """The graph that encodes the contract's image `name`."""
    return f"encode_{name}"


def graphs_for(contract: Contract, graphs: Sequence[str] = GRAPHS) -> tuple[str, ...]:
    """The `graphs` (default: all) of a bundle for this contract, and those that encode its images."""
    return (*graphs, *(image_graph(image.name) for image in contract.images))


@dataclass(frozen=True)
class PlannerDefaults:
    """The fixed planning budget a bundle was evaluated with; horizon and proposals are baked into `propose` and `refine`."""

    horizon: int = 3  # model steps
    samples: int = 512  # per refinement, without the policy proposals
    proposals: int = 24  # policy trajectories
    elites: int = 64
    refinements: int = 6  # fixed budget of eval and replay
    temperature: float = 0.5
    std_min: float = 0.05
    std_max: float = 2.0


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself."""

    name: str
    family: str  # tdmpc2 | rssm-gaussian | rssm-categorical
    size: str  # nano | 1M | 5M | 19M
    latent: int
    initial_latent: tuple[float, ...]
    discount: float
    contract_hash: str
    planner: PlannerDefaults = field(default_factory=PlannerDefaults)
    files: dict[str, str] = field(default_factory=dict)  # path → SHA-256 of every other file
    metrics: dict[str, Any] = field(default_factory=dict)
    parity: dict[str, float] = field(default_factory=dict)  # graph → largest error against PyTorch on random inputs
    provenance: dict[str, Any] = field(default_factory=dict)  # command, seed, bags and their hashes, code version
    format: int = FORMAT

    @property
    def bundle_id(self) -> str:
        """First 12 hex digits of the SHA-256 over all file digests."""
        text = "\n".join(f"{name} {digest}" for name, digest in sorted(self.files.items()))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose digests and contract have been checked."""

    path: Path
    manifest: Manifest
    contract: Contract

    @property
    def bundle_id(self) -> str:
        return self.manifest.bundle_id

    def require_reward(self) -> None:
        """Raise BundleError where the model learned the motion alone: it can predict, but has nothing to plan for."""
        if not self.contract.rewarded:
            raise BundleError(
                f"{self.path}: was trained without a reward: it can predict, but there is nothing to plan for"
            )

    def graph(self, name: str) -> Path:
        return self.path / "graphs" / f"{name}.onnx"


def load_bundle(path: Path | str, contract: Contract | None = None) -> Bundle:
    """Open a bundle and check its digests, and that it was made for `contract` when one is given.

    Raises:
        BundleError: a listed file is missing or altered, the manifest is malformed, or other cost functions are built in.
        ContractError: the bundle's model-facing contract differs; the message names the fields.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    for name, digest in manifest.files.items():
        file = path / name
        try:
            found = file_digest(file) if file.is_file() else None
        except OSError as error:  # a name that is too long, a file that may not be read
            raise BundleError(f"{path}: {short(name)} cannot be read: {error.strerror}") from error
        if found is None:
            raise BundleError(f"{path}: half-written bundle: {name} is missing; export or push it again")
        if found != digest:
            raise BundleError(f"{path}: {name} does not match its digest in manifest.json: the bundle was altered")
    own = load_contract(path / "contract.yaml") if "contract.yaml" in manifest.files else None
    wanted = GRAPHS if own is None else graphs_for(own)
    missing = [name for name in wanted if f"graphs/{name}.onnx" not in manifest.files]
    if missing or own is None:
        raise BundleError(f"{path}: manifest.json lists no {', '.join(missing) or 'contract.yaml'}; export it again")
    if own.hash != manifest.contract_hash:
        raise BundleError(f"{path}: contract.yaml has hash {own.hash}, manifest.json says {manifest.contract_hash}")
    if contract is not None:
        contract.require_same(own, f"bundle {path}")
        if contract.costs.functions != own.costs.functions:
            raise BundleError(
                f"{path}: costs.functions are built into a bundle at export: it has {own.costs.functions or 'none'}, the "
                f"contract wants {contract.costs.functions or 'none'}; export it again"
            )
    return Bundle(path, manifest, contract or own)


def write_bundle(path: Path | str, manifest: Manifest, fill: Callable[[Path], None]) -> Bundle:
    """Create the bundle at `path`: `fill(directory)` writes its files, then digests are added and it is renamed into place.

    An existing bundle at `path` is replaced only after the new one is complete and has passed every check of `load_bundle`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        fill(temporary)
        names = sorted(str(f.relative_to(temporary)) for f in temporary.rglob("*") if f.is_file())
        data = asdict(manifest) | {"files": {name: file_digest(temporary / name) for name in names}}
        (temporary / "manifest.json").write_text(json.dumps(data, indent=1) + "\n")
        for file in temporary.rglob("*"):
            sync_to_disk(file)
        temporary.chmod(0o755)
        load_bundle(temporary)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.rename(path, old / path.name)
            os.rename(temporary, path)
            shutil.rmtree(old)
        else:
            os.rename(temporary, path)
        sync_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load_bundle(path)


def add_metrics(path: Path | str, metrics: dict[str, Any]) -> Bundle:
    """Say in the manifest how a bundle did. Its id comes from its other files and stays. Raises BundleError for a damaged one."""
    bundle = load_bundle(path)
    data = asdict(bundle.manifest)
    data["metrics"] |= metrics
    temporary = bundle.path / ".manifest.json"
    temporary.write_text(json.dumps(data, indent=1) + "\n")
    os.replace(temporary, bundle.path / "manifest.json")
    return load_bundle(path)


def attach(path: Path | str, name: str, text: str) -> Bundle:
    """Put the file `name` into a bundle, whose id changes by it. Raises BundleError for a damaged one.

    Where the machine stops between a new text and the manifest that knows it, the bundle is refused as altered: do it again.
    """
    bundle = load_bundle(path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    data = asdict(bundle.manifest) | {"files": bundle.manifest.files | {name: digest}}
    for target, content in ((name, text), ("manifest.json", json.dumps(data, indent=1) + "\n")):
        temporary = bundle.path / f".{target}"
        temporary.write_text(content)
        sync_to_disk(temporary)
        os.replace(temporary, bundle.path / target)
    sync_to_disk(bundle.path)
    return load_bundle(path)


def _read_manifest(path: Path) -> Manifest:
    file = path / "manifest.json"
    try:
        data = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise BundleError(f"{path}: not a bundle: it has no manifest.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file}: cannot be read: {error}") from error
    return parse_manifest(data, str(file))


def parse_manifest(data: Any, source: str) -> Manifest:
    """A manifest from plain data; fields of a later version are ignored. Raises BundleError naming `source` and the field."""
    reader = FieldReader(source, BundleError)
    table = reader.mapping(data, "")
    if table.get("format") != FORMAT:
        raise reader.fail("format", f"{short(table.get('format'))} is not supported (this version reads {FORMAT})")
    for item in fields(Manifest):
        if item.name not in table and (item.default_factory is MISSING is item.default or item.name == "planner"):
            raise reader.fail(item.name, "is missing")
    latent = reader.whole(table["latent"], "latent", at_least=1)
    initial = reader.listing(table["initial_latent"], "initial_latent")
    parity = reader.mapping(table.get("parity", {}), "parity")
    return Manifest(
        name=reader.text(table["name"], "name"),
        family=reader.text(table["family"], "family"),
        size=reader.text(table["size"], "size"),
        latent=latent,
        initial_latent=reader.numbers(initial, "initial_latent", latent),
        discount=reader.number(table["discount"], "discount", at_least=0.0),
        contract_hash=reader.text(table["contract_hash"], "contract_hash"),
        planner=_planner(reader, table["planner"]),
        files=_files(reader, table.get("files", {})),
        metrics=reader.mapping(table.get("metrics", {}), "metrics"),
        parity={name: reader.number(value, f"parity.{name}") for name, value in parity.items()},
        provenance=reader.mapping(table.get("provenance", {}), "provenance"),
    )


def _planner(reader: FieldReader, data: Any) -> PlannerDefaults:
    table, defaults = reader.table(data, "planner", PlannerDefaults), asdict(PlannerDefaults())
    counts: dict[str, Any] = {
        name: reader.whole(table.get(name, default), f"planner.{name}", at_least=int(name == "horizon"))
        for name, default in defaults.items()
        if isinstance(default, int)
    }
    numbers: dict[str, Any] = {
        name: reader.number(table.get(name, default), f"planner.{name}", above=0.0)
        for name, default in defaults.items()
        if isinstance(default, float)
    }
    chosen: dict[str, Any] = {**counts, **numbers}
    return PlannerDefaults(**chosen)


def _files(reader: FieldReader, data: Any) -> dict[str, str]:
    for name, digest in reader.mapping(data, "files").items():
        if ".." in name or name.startswith("/") or not name.isprintable():
            raise reader.fail("files", f"{short(name)} is no path inside a bundle")
        reader.text(digest, f"files.{name}")
    return dict(data)


def file_digest(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the entries of a directory, would survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
