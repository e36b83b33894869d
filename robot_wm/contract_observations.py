"""The contract's list `observations`: what is measured besides images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robot_wm.field_reader import FieldReader

ENCODINGS = ("linear", "angle")
FIELDS = ("position", "velocity", "effort", "data")


@dataclass(frozen=True)
class Observation:
    """One vector observation: some components of one topic, in SI units."""

    name: str
    topic: str
    field: str  # position | velocity | effort of a JointState, or data: a 32FC1 tensor
    names: tuple[str, ...]  # joints, looked up by name; or one name per tensor component
    unit: tuple[str, ...]
    encoding: tuple[str, ...]  # linear: (x - mean) / scale; angle: (cos x, sin x), which ignores whole turns
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    rate_hz: float = 0.0  # expected rate of the topic; 0: unknown
    delay_s: float = 0.0  # expected delay from capture to arrival
    stale_s: float = 0.2  # older than this: posterior_node warns that it is missing
    anchored: bool = False  # keep these components readable in the latent (see models/networks.py)

    @property
    def size(self) -> int:
        """Number of raw components."""
        return len(self.names)

    @property
    def features(self) -> int:
        """Number of components after encoding."""
        return self.size + sum(kind == "angle" for kind in self.encoding)


def parse_observation(reader: FieldReader, data: Any, where: str) -> Observation:
    table = reader.table(data, where, Observation, required=("name", "topic", "field", "names"))
    names = reader.names(table["names"], f"{where}.names")
    size = len(names)
    encoding = reader.texts(table.get("encoding", "linear"), f"{where}.encoding", size, ENCODINGS)
    scale = reader.numbers(table.get("scale", 1.0), f"{where}.scale", size, above=0.0)
    return Observation(
        name=reader.text(table["name"], f"{where}.name"),
        topic=reader.text(table["topic"], f"{where}.topic"),
        field=reader.choice(table["field"], f"{where}.field", FIELDS),
        names=names,
        unit=reader.texts(table.get("unit", ""), f"{where}.unit", size),
        encoding=encoding,
        mean=reader.numbers(table.get("mean", 0.0), f"{where}.mean", size),
        scale=scale,
        rate_hz=reader.number(table.get("rate_hz", 0.0), f"{where}.rate_hz", at_least=0.0),
        delay_s=reader.number(table.get("delay_s", 0.0), f"{where}.delay_s", at_least=0.0),
        stale_s=reader.number(table.get("stale_s", 0.2), f"{where}.stale_s", above=0.0),
        anchored=reader.flag(table.get("anchored", False), f"{where}.anchored"),
    )
