"""`robot-wm doctor`: what this machine has and lacks for driving a robot, each line with its remedy."""

from __future__ import annotations

import ctypes.util
import os
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from robot_wm.checks import Check
from robot_wm.errors import RunError

FLAVOURS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
EXTRAS = {"train": "torch", "sim": "mujoco", "ros": "rclpy", "report": "matplotlib", "serial": "serial"}
GIB = 2**30


def doctor(
    folder: Annotated[Path, typer.Option(help="Where runs and bags will be written.")] = Path("."),
    contract: Annotated[Path | None, typer.Option(help="Contract of the robot, to be checked as arming does.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Model bundle, to be run on this machine.")] = None,
    bus: Annotated[str, typer.Option(help="Motor bus to listen to for two seconds; the motors stay unpowered.")] = "",
    bus_options: Annotated[str, typer.Option(help="Options of the bus, as a JSON object.")] = "{}",
    provider: Annotated[str, typer.Option(help="Execution provider that the bundle is run on.")] = "auto",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check this machine, and with --contract, --bundle or --bus the robot: what arming would refuse, without arming.

    Raises:
        RunError: a check failed; its line says what to do.
    """
    from robot_wm.buses.base import read_options
    from robot_wm.cli import emit
    from robot_wm.machine import describe_machine

    if bus and contract is None and bundle is None:
        raise RunError("--bus needs --contract or --bundle: without one nobody knows which joints it shall have")
    checks = examine(folder)
    if contract is not None or bundle is not None:
        from robot_wm.doctor_robot import examine_robot

        checks += examine_robot(contract, bundle, bus, read_options(bus_options, "--bus-options"), provider)
    failed = [check.name for check in checks if check.status == "fail"]
    if json_:
        warned = [check.name for check in checks if check.status == "warn"]
        listed = [asdict(check) for check in checks]
        emit({"checks": listed, "failed": failed, "warned": warned, "machine": describe_machine()}, json_=True)
    else:
        _show(checks)
    if failed:
        raise RunError(f"failed: {', '.join(failed)}; see the remedies above")


def examine(folder: Path) -> list[Check]:
    """Every check, in the order of the report."""
    checks: list[Callable[[], Check]] = [
        check_python,
        check_onnxruntime,
        check_providers,
        check_extras,
        check_ros,
        check_realtime,
        check_memory_lock,
        lambda: check_disk(folder),
        check_video,
    ]
    return [check() for check in checks]


def check_python() -> Check:
    """Python 3.10 (Humble, JetPack 6) or newer."""
    version_ = tuple(sys.version_info[:3])
    found = ".".join(map(str, version_))
    if not (3, 10) <= version_ < (3, 14):
        return Check("python", "fail", found, "use Python 3.10 to 3.13")
    return Check("python", "pass", found)


def check_onnxruntime() -> Check:
    """Exactly one ONNX Runtime wheel: they install over one another."""
    present = {name: found for name in FLAVOURS if (found := _version(name))}
    detail = ", ".join(f"{name} {found}" for name, found in present.items())
    if not present:
        return Check("onnxruntime", "fail", "none installed", "pip install 'robot-wm[cpu]' (or gpu, or openvino)")
    if len(present) > 1:
        names = " ".join(present)
        remedy = f"pip uninstall -y {names}, then pip install 'robot-wm[cpu]' (or gpu, or openvino): exactly one"
        return Check("onnxruntime", "fail", f"{detail} overwrite one another", remedy)
    return Check("onnxruntime", "pass", detail)


def check_providers() -> Check:
    """Which execution providers a model can run on."""
    try:
        import onnxruntime
    except ImportError as error:
        return Check("providers", "fail", f"onnxruntime does not import: {error}", "install it again, one flavour only")
    names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return Check("providers", "pass", ", ".join(names))


def check_extras() -> Check:
    """Which extras are installed; none of them is needed to run a bundle on a robot with ROS."""
    listing = [f"{extra} {'yes' if _has(module) else 'no'}" for extra, module in EXTRAS.items()]
    return Check("extras", "pass", ", ".join(listing))


def check_ros() -> Check:
    """Whether nodes can start, and where ROS comes from."""
    if not _has("rclpy"):
        remedy = "on a robot: source ROS's setup.bash; elsewhere: pip install 'robot-wm[ros]'"
        return Check("ros", "warn", "rclpy is not importable: no nodes, only offline commands", remedy)
    distribution = os.environ.get("ROS_DISTRO", "")
    source = f"{distribution} from its own install" if distribution else "Jazzy wheels from pip"
    return Check("ros", "pass", f"{source}, domain {os.environ.get('ROS_DOMAIN_ID', '0')}")


def check_realtime() -> Check:
    """Whether the motor loop may use SCHED_FIFO; tried for an instant on this process."""
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        remedy = "add 'YOUR_USER - rtprio 98' to /etc/security/limits.d/robot_wm.conf and log in again"
        return Check("real time", "warn", "no permission for SCHED_FIFO: expect ticks late by milliseconds", remedy)
    os.sched_setscheduler(0, before, os.sched_param(0))
    return Check("real time", "pass", "SCHED_FIFO allowed")


def check_memory_lock() -> Check:
    """Whether the motor loop may lock its memory."""
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        return Check("memory lock", "pass", "unlimited")
    remedy = "add 'YOUR_USER - memlock unlimited' to /etc/security/limits.d/robot_wm.conf and log in again"
    return Check("memory lock", "warn", f"limited to {limit // 1024} KiB: page faults may delay a tick", remedy)


def check_disk(folder: Path) -> Check:
    """Room for bags: a recording stops cleanly on a full disk, but it stops."""
    try:
        free = shutil.disk_usage(folder).free / GIB
    except OSError as error:
        return Check("disk", "fail", f"{folder}: {error.strerror}", "name an existing folder with --folder")
    detail = f"{free:.1f} GiB free at {folder.resolve()}"
    if free < 5:
        return Check("disk", "fail" if free < 0.5 else "warn", detail, "free some space, or record elsewhere")
    return Check("disk", "pass", detail)


def check_video() -> Check:
    """Whether a run's video can be rendered without a display."""
    if not _has("mujoco"):
        return Check("video", "warn", "mujoco is not installed", "pip install 'robot-wm[sim]'")
    if ctypes.util.find_library("EGL") is None:
        return Check(
            "video", "warn", "libEGL is missing: runs leave no video", "install Debian's libegl1, or your driver's"
        )
    return Check("video", "pass", "libEGL found")


def _show(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"pass": "green", "warn": "yellow", "fail": "bold red"}
    table = Table(show_header=False)
    for check in checks:
        remedy = f"\n→ {check.remedy}" if check.remedy else ""
        table.add_row(Text(check.status, style=colours[check.status]), Text(check.name), Text(check.detail + remedy))
    Console().print(table)


def _has(module: str) -> bool:
    return find_spec(module) is not None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
