"""A bag's `metadata.yaml`, version 9 as Jazzy writes it, replaced as a whole or not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from robot_wm.bags.types import type_hash


@dataclass
class Counts:
    """What a bag holds so far: messages per topic, first and last receive stamp [ns]."""

    topics: dict[str, int] = field(default_factory=dict)
    first: int = 0
    last: int = 0

    @property
    def total(self) -> int:
        return sum(self.topics.values())

    def copy(self) -> Counts:
        return Counts(dict(self.topics), self.first, self.last)


def mcap_name(bag: Path) -> str:
    """Name of the one data file of a bag."""
    return f"{bag.name}_0.mcap"


def write_metadata(bag: Path, counts: Counts, types: dict[str, str], custom: dict[str, str]) -> None:
    """Write `metadata.yaml` of the directory `bag`; `types` maps topic to message type. Raises OSError."""
    text = yaml.safe_dump(_metadata(bag, counts, types, custom), sort_keys=False, width=120)
    temporary = bag / ".metadata.yaml"
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(bag / "metadata.yaml")
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _metadata(bag: Path, counts: Counts, types: dict[str, str], custom: dict[str, str]) -> dict[str, Any]:
    information = {
        "version": 9,
        "storage_identifier": "mcap",
        **_span(counts),
        "message_count": counts.total,
        "topics_with_message_count": [
            {"topic_metadata": _topic(topic, types[topic]), "message_count": count}
            for topic, count in counts.topics.items()
        ],
        "compression_format": "",
        "compression_mode": "",
        "relative_file_paths": [mcap_name(bag)],
        "files": [{"path": mcap_name(bag), **_span(counts), "message_count": counts.total}],
        "custom_data": custom,
        "ros_distro": "jazzy",
    }
    return {"rosbag2_bagfile_information": information}


def _span(counts: Counts) -> dict[str, dict[str, int]]:
    return {
        "duration": {"nanoseconds": counts.last - counts.first},
        "starting_time": {"nanoseconds_since_epoch": counts.first},
    }


def _topic(name: str, msgtype: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": msgtype,
        "serialization_format": "cdr",
        "offered_qos_profiles": [],
        "type_description_hash": type_hash(msgtype),
    }
