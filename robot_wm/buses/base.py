"""The ports to hardware: a motor bus, a stream of other sensors, cameras, and how a name becomes one of them.

Drivers register in the entry-point groups `robot_wm.buses`, `robot_wm.sensors` and `robot_wm.cameras`, so that the simulator or a
vendor package plugs in without anyone importing it.
"""

from __future__ import annotations

import inspect
import json
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

from robot_wm.contract import Contract
from robot_wm.errors import BusError, RunError
from robot_wm.images import Pixels
from robot_wm.messages import FloatArray, JointState

BUSES = "robot_wm.buses"
SENSORS = "robot_wm.sensors"
CAMERAS = "robot_wm.cameras"


class MotorBus(Protocol):
    """What a driver does; every call returns or raises BusError in bounded time, well below a motor period."""

    names: tuple[str, ...]  # every joint that `read` reports; the contract's action names are among them

    def open(self) -> None:
        """Connect, motors unpowered."""
        ...

    def close(self) -> None:
        """Cut the power and disconnect; harmless when not open."""
        ...

    def read(self) -> JointState:
        """Return the joints, stamped at capture [ns, monotonic]. Raises BusError."""
        ...

    def write(self, values: FloatArray) -> None:
        """Send (action,) in SI units and the contract's action order. Raises BusError."""
        ...

    def enable(self) -> None:
        """Power the motors. Raises BusError."""
        ...

    def disable(self) -> None:
        """Cut the motors' power; works in any state. Raises BusError."""
        ...

    def fault(self) -> str | None:
        """A fault the hardware reports (overheating, lost power), or None; asks nothing, returns what is known."""
        ...


@runtime_checkable
class ReportingBus(Protocol):
    """A motor bus that has figures for diagnostics: counters, temperatures.

    Those that arming asks for bear these names, where they are known: `hardware_id`, `voltage` or `voltage_<joint>` [V],
    `clock_uncertainty_us`.
    """

    def figures(self) -> dict[str, float | str]:
        """What is known now; asks nothing, and may be called from another thread than the loop's."""
        ...


class SensorStream(Protocol):
    """Observations and rewards that are neither joints nor images, for example those of a simulated task."""

    def open(self) -> None:
        """Connect."""
        ...

    def close(self) -> None:
        """Disconnect; harmless when not open."""
        ...

    def poll(self) -> list[tuple[str, int, FloatArray]]:
        """Everything since the last call, oldest first: topic, stamp [ns, monotonic], values. Never waits. Raises BusError."""
        ...


class CameraStream(Protocol):
    """The contract's images where no ROS driver publishes them, for example those of a simulated task."""

    def open(self) -> None:
        """Connect."""
        ...

    def close(self) -> None:
        """Disconnect; harmless when not open."""
        ...

    def poll(self) -> list[tuple[str, int, Pixels]]:
        """Everything since the last call, oldest first: name, stamp of the capture [ns, monotonic], pixels (H, W, C). Never waits.
        Raises RobotWmError."""
        ...

    def figures(self) -> dict[str, float | str]:
        """What is known now, for diagnostics."""
        ...


def open_bus(name: str, contract: Contract, **options: Any) -> MotorBus:
    """Build and open the bus registered as `name`. Raises BusError when it is unknown or does not take the options."""
    bus = cast(MotorBus, _build(BUSES, "motor bus", name, contract, options))
    bus.open()
    return bus


def bus_kind(name: str) -> Any:
    """The class, or function, that builds the bus registered as `name`. Raises BusError when it is unknown."""
    return _registered(BUSES, "motor bus", name)


def read_options(text: str, name: str) -> dict[str, Any]:
    """A plug-in's options from JSON. Raises RunError naming the parameter `name`."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise RunError(f"parameter {name}: {text!r} is not JSON: {error}") from error
    if not isinstance(options, dict):
        raise RunError(f"parameter {name}: a JSON object is needed, got {text!r}")
    return options


def open_sensors(name: str, contract: Contract, **options: Any) -> SensorStream:
    """Build and open the sensor stream registered as `name`. Raises BusError as `open_bus` does."""
    sensors = cast(SensorStream, _build(SENSORS, "sensor stream", name, contract, options))
    sensors.open()
    return sensors


def open_cameras(name: str, contract: Contract, **options: Any) -> CameraStream:
    """Build and open the cameras registered as `name`. Raises BusError as `open_bus` does."""
    cameras = cast(CameraStream, _build(CAMERAS, "cameras", name, contract, options))
    cameras.open()
    return cameras


def _build(group: str, what: str, name: str, contract: Contract, options: dict[str, Any]) -> Any:
    kind = _registered(group, what, name)
    try:
        inspect.signature(kind).bind(contract, **options)
    except TypeError as error:
        takes = [key for key in inspect.signature(kind).parameters if key != "contract"]
        raise BusError(f"{what} {name!r}: {error}; its options are {', '.join(takes) or 'none'}") from error
    return kind(contract, **options)


def _registered(group: str, what: str, name: str) -> Any:
    known = {entry.name: entry for entry in entry_points(group=group)}
    if name not in known:
        raise BusError(f"unknown {what} {name!r}; installed are {', '.join(sorted(known)) or 'none'}")
    try:
        return known[name].load()
    except ImportError as error:
        raise BusError(f"{what} {name!r} needs a package that is not installed: {error}") from error
