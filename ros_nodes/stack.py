"""Which processes a run consists of, and the parameters of each; one params file per run, kept with its evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from robot_wm.contract_action import Action
from ros_nodes.processes import Command

PLANT = "plant"
BOARD = "board"
# Motor bus → what stands in for its hardware in simulation. Many processes share the machine, and none is a real-time one, so the
# board has the longest watchdog [ms] that its bus takes by default.
EMULATORS = {
    "serial": ("sim.serial_board", "--watchdog", "500"),
    "dynamixel": ("sim.dynamixel_servos",),
    "feetech": ("sim.feetech_servos",),
}
# What an emulated servo gives at the largest effort of its joint: [A], of which XM430-W350 take 3.2; or of full PWM.
FULL_EFFORT = {"dynamixel": 3.0, "feetech": 1.0}
# SCHED_RR of the processes between a measurement and its plan, below the plant (60) and the motor loop's own thread (80).
PRIORITIES = {"motor_node": 30, "posterior_node": 25, "planner_node": 20, "sensor_node": 20}


@dataclass(frozen=True)
class Stack:
    """What to start around one robot; empty texts leave a part out."""

    contract: Path | None  # None: the bundle's
    bus: str
    bus_options: Mapping[str, Any] = field(default_factory=dict)
    bundle: Path | None = None  # None: no posterior and no planner
    sensors: str = ""
    sensor_options: Mapping[str, Any] = field(default_factory=dict)
    cameras: str = ""
    camera_options: Mapping[str, Any] = field(default_factory=dict)
    bag: Path | None = None  # None: no recorder
    store: str = ""  # model store to follow
    plant: tuple[str, ...] = ()  # arguments of a simulated plant
    board: tuple[str, ...] = ()  # arguments of the emulated hardware between plant and bus
    motor: Mapping[str, Any] = field(default_factory=dict)  # more parameters of motor_node
    posterior: Mapping[str, Any] = field(default_factory=dict)  # and of posterior_node
    extra_topics: str = ""  # that the recorder records as well
    seed: int = 0
    provider: str = "auto"
    namespace: str = ""
    params_file: Path | None = None  # the user's; goes over ours
    log_level: str = "info"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ROS nodes, in the order in which they may be stopped: whoever commands first, the recorder last."""
        modelled = ("planner_node", "posterior_node") if self.bundle is not None else ()
        sync = ("model_sync_node",) if self.store else ()
        sensors = ("sensor_node",) if self.sensors else ()
        cameras = ("camera_node",) if self.cameras else ()
        recorder = ("recorder_node",) if self.bag is not None else ()
        return (*modelled, *sync, "motor_node", *sensors, *cameras, *recorder)

    @property
    def listeners(self) -> int:
        """How many nodes listen to `event`."""
        return sum(name in ("planner_node", "posterior_node", "recorder_node") for name in self.nodes)


def write_params(stack: Stack, path: Path) -> Path:
    """Write the ROS parameters of every node as one file and return its path."""
    common: dict[str, Any] = {"autostart": True}
    if stack.contract is not None:
        common["contract"] = str(stack.contract)
    if stack.bundle is not None:
        common["bundle"] = str(stack.bundle)
    own: dict[str, dict[str, Any]] = {
        "motor_node": {"bus": stack.bus, "bus_options": json.dumps(dict(stack.bus_options)), **stack.motor},
        "sensor_node": {"sensors": stack.sensors, "sensor_options": json.dumps(dict(stack.sensor_options))},
        "camera_node": {"cameras": stack.cameras, "camera_options": json.dumps(dict(stack.camera_options))},
        "posterior_node": {"provider": stack.provider, **stack.posterior},
        "planner_node": {"provider": stack.provider, "seed": stack.seed},
        "recorder_node": {"bag": str(stack.bag), "extra_topics": stack.extra_topics},
        "model_sync_node": {"store": stack.store},
    }
    data = {f"/**/{name}": {"ros__parameters": common | own[name]} for name in stack.nodes}
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def node_command(stack: Stack, name: str, params: Path) -> Command:
    """How to start one node."""
    ros = ["--ros-args", "--log-level", f"{name}:={stack.log_level}", "--params-file", str(params)]
    if stack.params_file is not None:
        ros += ["--params-file", str(stack.params_file)]
    if stack.namespace:
        ros += ["-r", f"__ns:=/{stack.namespace.strip('/')}"]
    return Command(name, ("-m", f"ros_nodes.{name}", *ros), PRIORITIES.get(name, 0))


def plant_command(stack: Stack) -> Command:
    """How to start the simulated plant."""
    return Command(PLANT, ("-m", "sim.plant", *stack.plant))


def emulated_efforts(bus: str, action: Action) -> dict[str, float]:
    """Effort per ampere or full PWM by joint, of a bus of servos: a simulated task's effort has any unit, or none."""
    if bus not in FULL_EFFORT or action.mode != "effort":
        return {}
    largest = zip(action.names, action.low, action.high, strict=True)
    return {name: max(-low, high) / FULL_EFFORT[bus] for name, low, high in largest}


def board_command(stack: Stack) -> Command:
    """How to start the emulated hardware of the stack's bus; it serves the bus at `bus_options["port"]`."""
    return Command(BOARD, ("-m", *EMULATORS[stack.bus], *stack.board))
