"""What `robot-wm bench bags` measures: the recorder, the reader and the alignment on one synthetic recording."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from robot_wm.bags.align import align
from robot_wm.bags.reader import open_bag
from robot_wm.bags.writer import BagWriter
from robot_wm.contract import Contract, parse_contract
from robot_wm.messages import Applied, JointState
from robot_wm.timebase import NS_PER_S

JOINTS = tuple(f"joint_{i}" for i in range(6))


def measure(seconds: float, rate: float, sync: bool, folder: Path | None) -> dict[str, Any]:
    """Write `seconds` of joint states and commands at `rate` [Hz] as fast as it goes, then read and align them."""
    from robot_wm.machine import describe_machine

    contract = _contract()
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "bag"
        figures = _write(path, contract, round(seconds * rate), rate, sync)
        figures["file_mib"] = sum(file.stat().st_size for file in path.iterdir()) / 2**20
        figures |= _read(path, contract)
    return {**figures, "sync": sync, "machine": describe_machine()}


def _contract() -> Contract:
    observation = {"topic": "joint_states", "names": list(JOINTS)}
    return parse_contract(
        {
            "name": "bench",
            "model_hz": 50.0,
            "observations": [
                {"name": "position", "field": "position", **observation},
                {"name": "velocity", "field": "velocity", **observation},
            ],
            "action": {"names": list(JOINTS), "mode": "effort", "low": -1.0, "high": 1.0},
            "reward": {"topic": ""},
        }
    )


def _write(path: Path, contract: Contract, ticks: int, rate: float, sync: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    states, commands = rng.standard_normal((ticks, 2, len(JOINTS))), rng.uniform(-1.0, 1.0, (ticks, len(JOINTS)))
    took = []
    begin = time.perf_counter()
    with BagWriter(path, contract, sync=sync) as writer:
        for i in range(ticks):
            stamp = round(i * NS_PER_S / rate)
            state = JointState(stamp, JOINTS, states[i, 0], states[i, 1], np.zeros(0))
            for topic, message in (("joint_states", state), ("applied", Applied(stamp, commands[i], "hold"))):
                start = time.perf_counter()
                writer.write(topic, message)
                took.append(time.perf_counter() - start)
    total = time.perf_counter() - begin
    return {
        "messages": len(took),
        "write_messages_per_s": len(took) / total,
        "write_ms_p50": 1e3 * float(np.percentile(took, 50)),
        "write_ms_p99": 1e3 * float(np.percentile(took, 99)),
        "write_ms_max": 1e3 * max(took),
    }


def _read(path: Path, contract: Contract) -> dict[str, Any]:
    begin = time.perf_counter()
    bag = open_bag(path)
    opened = time.perf_counter()
    bag.load(contract.numeric_topics())
    loaded = time.perf_counter()
    episodes = align(bag, contract)
    aligned = time.perf_counter()
    rows = sum(len(episode) for episode in episodes)
    messages = sum(topic.count for topic in bag.topics.values())
    return {
        "open_ms": 1e3 * (opened - begin),
        "read_messages_per_s": messages / (loaded - opened),
        "align_rows": rows,
        "align_rows_per_s": rows / (aligned - loaded),
    }
