"""`trust.yaml` of a bundle: what is usual for this model, fitted on held-out bags (robot_wm/trust_fit.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from robot_wm.bundle import Bundle, attach
from robot_wm.contract import Contract
from robot_wm.errors import BundleError
from robot_wm.field_reader import FieldReader
from robot_wm.plain import plain
from robot_wm.trust import Scale, Tail
from robot_wm.trust_ladder import Steps

NAME = "trust.yaml"
FORMAT = 2


@dataclass(frozen=True)
class Modality:
    """What is usual for one observation or image."""

    scale: Mapping[int, Scale]  # model steps predicted without it → usual error (K,), SI; of an image (1,), latent
    innovation: Tail  # of the filter's own prediction
    silent_s: float  # age of the newest measurement that is an alarm
    blind: Tail | None = None  # of the prediction over `blind_steps`; None: an image
    still: float = 0.0  # image: latent motion since the first of equal frames below which they are no wonder
    frozen: int = 0  # image: equal frames in a row, in motion, that are an alarm
    oldest_s: float = 0.0  # largest age of the newest measurement in health; 0: as `silent_s`


@dataclass(frozen=True)
class TrustSpec:
    """Everything that judging a bundle's corrections needs."""

    modalities: Mapping[str, Modality]
    blind_steps: int
    steps: Steps = field(default_factory=Steps)
    provenance: Mapping[str, Any] = field(default_factory=dict)  # bags, their seconds, expected false alarms


def save_trust(bundle: Path | str, spec: TrustSpec) -> Bundle:
    """Put the specification into a bundle, whose id changes by it. Raises BundleError for a damaged bundle."""
    data = {"format": FORMAT, **plain(asdict(spec))}
    for name, modality in spec.modalities.items():  # model steps stay numbers
        data["modalities"][name]["scale"] = {steps: plain(asdict(row)) for steps, row in modality.scale.items()}
    return attach(bundle, NAME, yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120))


def load_trust(bundle: Bundle) -> TrustSpec | None:
    """What the bundle's `trust.yaml` says; None where it has none. Raises BundleError naming the field that is wrong."""
    if NAME not in bundle.manifest.files:
        return None
    path = bundle.path / NAME
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    return parse_trust(data, bundle.contract, str(path))


def parse_trust(data: Any, contract: Contract, source: str = NAME) -> TrustSpec:
    """Build a specification from plain data. Raises BundleError naming the field that is missing, unknown or wrong."""
    reader = FieldReader(source, BundleError)
    given = dict(reader.mapping(data, ""))
    if given.pop("format", None) != FORMAT:
        raise reader.fail("format", f"must be {FORMAT}; fit it again with `robot-wm trust fit`")
    table = reader.table(given, "", TrustSpec, required=("modalities", "blind_steps"))
    found = reader.mapping(table["modalities"], "modalities")
    if set(found) != set(contract.modalities):
        raise reader.fail("modalities", f"must be {', '.join(contract.modalities)}, got {', '.join(found) or 'none'}")
    sizes = {o.name: o.size for o in contract.observations}
    steps = reader.table(table.get("steps") or {}, "steps", Steps)
    up = reader.numbers(steps.get("up", Steps.up), "steps.up", 3, above=0.0)
    if list(up) != sorted(up):
        raise reader.fail("steps.up", "must not fall")
    return TrustSpec(
        modalities={
            name: _modality(reader, item, f"modalities.{name}", sizes.get(name)) for name, item in found.items()
        },
        blind_steps=int(reader.number(table["blind_steps"], "blind_steps", at_least=0.0)),
        steps=Steps(
            (up[0], up[1], up[2]),
            reader.number(steps.get("release", Steps.release), "steps.release", above=0.0),
            reader.number(steps.get("dwell_s", Steps.dwell_s), "steps.dwell_s", at_least=0.0),
        ),
        provenance=reader.mapping(table.get("provenance") or {}, "provenance"),
    )


def _modality(reader: FieldReader, data: Any, where: str, size: int | None) -> Modality:
    """`size`: components of an observation; None: an image."""
    table = reader.table(data, where, Modality, required=("scale", "innovation", "silent_s"))
    scale = table["scale"]
    if not isinstance(scale, dict) or not scale or not all(isinstance(k, int) and k > 0 for k in scale):
        raise reader.fail(f"{where}.scale", "must be a table from model steps to errors")
    blind = table.get("blind")
    if (blind is None) is (size is not None):
        raise reader.fail(f"{where}.blind", "is missing" if blind is None else "is nothing for an image")
    return Modality(
        scale={k: _scale(reader, row, f"{where}.scale.{k}", size or 1) for k, row in scale.items()},
        innovation=_tail(reader, table["innovation"], f"{where}.innovation"),
        silent_s=reader.number(table["silent_s"], f"{where}.silent_s", above=0.0),
        blind=None if blind is None else _tail(reader, blind, f"{where}.blind"),
        still=reader.number(table.get("still", 0.0), f"{where}.still", at_least=0.0),
        frozen=int(reader.number(table.get("frozen", 0), f"{where}.frozen", at_least=0.0)),
        oldest_s=reader.number(table.get("oldest_s", 0.0), f"{where}.oldest_s", at_least=0.0),
    )


def _scale(reader: FieldReader, data: Any, where: str, size: int) -> Scale:
    table = reader.table(data, where, Scale, required=("motion", "error"))
    motion = reader.numbers(table["motion"], f"{where}.motion", above=0.0)
    rows = reader.listing(table["error"], f"{where}.error")
    if not motion or len(rows) != len(motion) or list(motion) != sorted(motion):
        raise reader.fail(where, "must have ascending motions and one row of errors for each")
    errors = (reader.numbers(row, f"{where}.error[{i}]", size, above=0.0) for i, row in enumerate(rows))
    return Scale(motion, tuple(errors))


def _tail(reader: FieldReader, data: Any, where: str) -> Tail:
    table = reader.table(data, where, Tail, required=("usual", "limit", "rare"))
    found = Tail(**{key: reader.number(table[key], f"{where}.{key}", above=0.0) for key in ("usual", "limit", "rare")})
    if found.limit <= found.usual:
        raise reader.fail(f"{where}.limit", f"must be above usual ({found.usual:g})")
    return found
