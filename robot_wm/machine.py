"""The machine a figure was measured on; every benchmark and run folder carries it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

MEMORY = "memory_mb"  # what a node's diagnostics call `resident_mb`
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "torch", "mujoco", "dm_control", "mcap")


def describe_machine() -> dict[str, Any]:
    """Return cpu model, usable cores, memory [GiB], load, kernel, Python and the versions of what does the work."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "load_1min": round(os.getloadavg()[0], 2),
        "device_tree": _first_line("/proc/device-tree/model"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "realtime_kernel": _first_line("/sys/kernel/realtime") == "1",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def resident_mb() -> float | None:
    """Memory of this process that is in RAM [MB]; None where the kernel does not tell (proc_pid_statm(5))."""
    pages = _first_line("/proc/self/statm").split()
    return round(int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, 1) if len(pages) > 1 else None


def _cpu_model() -> str:
    for line in _text("/proc/cpuinfo").splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _first_line(path: str) -> str:
    lines = _text(path).strip("\0\n ").splitlines()
    return lines[0] if lines else ""


def _text(path: str) -> str:
    """A file of the kernel that not every machine has; empty then."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
