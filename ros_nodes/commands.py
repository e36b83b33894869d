"""`robot-wm sim`, `run` and `record`: the whole stack as real ROS processes, without `ros2 launch`."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from robot_wm.errors import RunError

Seconds = Annotated[float, typer.Option(min=0.1, help="Length of the run [s].")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the initial state and of the planner's noise.")]
Runs = Annotated[Path, typer.Option(help="Where run folders are made.")]
Provider = Annotated[
    str, typer.Option(help="Execution provider: auto, tensorrt, cuda, openvino, openvino-bf16 or cpu.")
]
ParamsFile = Annotated[Path | None, typer.Option(help="ROS parameters that go over ours.", exists=True, dir_okay=False)]
LogLevel = Annotated[str, typer.Option(help="debug, info, warn or error.")]
Store = Annotated[str, typer.Option(help="Model store to follow: a bundle pushed there is swapped in while running.")]
Kill = Annotated[list[str] | None, typer.Option(help="Kill a process, e.g. planner@3.0 [s after arming]; repeatable.")]
Freeze = Annotated[list[str] | None, typer.Option(help="Stop a process where it is, e.g. motor@3.0 [s]; repeatable.")]
Thaw = Annotated[list[str] | None, typer.Option(help="Let a frozen process go on, e.g. motor@3.2 [s]; repeatable.")]
Restart = Annotated[list[str] | None, typer.Option(help="Start a process again, e.g. planner@3.5 [s]; repeatable.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Go on when a process ends by itself.")]
Report = Annotated[bool, typer.Option(help="Make report.html and, in simulation, a video after the run.")]
Namespace = Annotated[str, typer.Option(help="ROS namespace of all nodes.")]
Json = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")]
BusName = Annotated[str, typer.Option(help="Motor bus (entry-point group robot_wm.buses).")]
BusOptions = Annotated[str, typer.Option(help="Options of the bus, as a JSON object.")]
SimBus = Annotated[
    str,
    typer.Option(
        "--bus", help="mujoco, or serial, dynamixel or feetech: emulated hardware on a pty, driven as the real one."
    ),
]
BusFaults = Annotated[
    str,
    typer.Option(help="Of an emulated bus, e.g. corrupt=0.01,stall@3=0.5,hangup@5 [rate per frame; s after power-on]."),
]
Sensors = Annotated[str, typer.Option(help="Sensor stream (entry-point group robot_wm.sensors); empty: none.")]
SensorOptions = Annotated[str, typer.Option(help="Options of the sensor stream, as a JSON object.")]


EncoderBusy = Annotated[
    float, typer.Option(min=0.0, help="Test aid: image encoders that compute for so long, as slow ones do [ms].")
]


def sim(
    bundle: Annotated[Path | None, typer.Option(help="Model bundle, a directory; default: the released one.")] = None,
    task: Annotated[
        str, typer.Option(help="cartpole_swingup, cartpole_camera, reacher_camera or dmc:<domain>-<task>.")
    ] = "cartpole_swingup",
    seconds: Seconds = 10.0,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    bus: SimBus = "mujoco",
    bus_faults: BusFaults = "",
    encoder_busy_ms: EncoderBusy = 0.0,
    provider: Provider = "auto",
    store: Store = "",
    params_file: ParamsFile = None,
    log_level: LogLevel = "info",
    kill: Kill = None,
    freeze: Freeze = None,
    thaw: Thaw = None,
    restart: Restart = None,
    keep_going: KeepGoing = False,
    report: Report = True,
    json_: Json = False,
) -> None:
    """Run the whole stack as real ROS processes against a real-time MuJoCo plant, and print the figures of the run."""
    import tempfile

    from robot_wm.bundle import load_bundle
    from ros_nodes.run import Episode, run_episode
    from ros_nodes.stack import Stack

    with tempfile.TemporaryDirectory(prefix="robot_wm_") as short:  # a Unix socket's path is limited to 107 bytes
        socket = str(Path(short) / "plant.sock")
        bundle = (bundle or released_bundle(task)).resolve()
        options, board = emulated(bus, bus_faults, socket, seed, bundle)
        seen = bool(load_bundle(bundle).contract.images)
        stack = Stack(
            contract=None,
            bundle=bundle,
            bus=bus,
            bus_options=options,
            board=board,
            sensors="mujoco",
            sensor_options={"socket": socket},
            cameras="mujoco" if seen else "",
            camera_options={"socket": socket, "task": task},
            extra_topics="sim_state=sensor_msgs/msg/Image" if seen else "",  # for the video
            posterior={"encoder_busy_s": encoder_busy_ms / 1e3} if encoder_busy_ms else {},
            plant=("--task", task, "--socket", socket, "--seed", str(seed), "--with-parent"),
            seed=seed,
            provider=provider,
            store=store,
            params_file=params_file,
            log_level=log_level,
        )
        faults = _faults(kill=kill, freeze=freeze, thaw=thaw, restart=restart)
        episode = Episode("sim", task, stack, seconds, seed, faults, keep_going, local=True, report=report)
        run_episode(episode, runs, json_)


def run(
    contract: Annotated[Path, typer.Option(help="The robot's contract.", exists=True, dir_okay=False)],
    bundle: Annotated[Path, typer.Option(help="Model bundle, a directory.")],
    bus: BusName,
    bus_options: BusOptions = "{}",
    sensors: Sensors = "",
    sensor_options: SensorOptions = "{}",
    seconds: Seconds = 10.0,
    seed: Seed = 0,
    namespace: Namespace = "",
    runs: Runs = Path("runs"),
    provider: Provider = "auto",
    store: Store = "",
    params_file: ParamsFile = None,
    log_level: LogLevel = "info",
    report: Report = True,
    json_: Json = False,
) -> None:
    """Run the stack on a robot for a while: arm, replan, record, disarm. Ctrl-C at any time ends it safely."""
    from robot_wm.buses.base import read_options
    from ros_nodes.run import Episode, run_episode
    from ros_nodes.stack import Stack

    stack = Stack(
        contract=contract.resolve(),
        bundle=bundle.resolve(),
        bus=bus,
        bus_options=read_options(bus_options, "--bus-options"),
        sensors=sensors,
        sensor_options=read_options(sensor_options, "--sensor-options"),
        namespace=namespace,
        seed=seed,
        provider=provider,
        store=store,
        params_file=params_file,
        log_level=log_level,
    )
    run_episode(Episode("run", contract.stem, stack, seconds, seed, (), False, local=False, report=report), runs, json_)


def record(
    contract: Annotated[Path, typer.Option(help="The robot's contract.", exists=True, dir_okay=False)],
    bus: BusName,
    drive: Annotated[
        str, typer.Option(help="Who moves the robot: command (the topic), teleop (this keyboard) or excite.")
    ] = "command",
    seconds: Seconds = 10.0,
    bus_options: BusOptions = "{}",
    sensors: Sensors = "",
    sensor_options: SensorOptions = "{}",
    excitation: Annotated[str, typer.Option(help="Signal of --drive excite: multisine, chirp or ou.")] = "multisine",
    amplitude: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Excitation, part of the way to the limits.")
    ] = 0.3,
    seed: Seed = 0,
    namespace: Namespace = "",
    runs: Runs = Path("runs"),
    params_file: ParamsFile = None,
    log_level: LogLevel = "info",
    report: Report = True,
    json_: Json = False,
) -> None:
    """Record a robot that has no model yet, driven through the same safety filter as a model would drive it."""
    from robot_wm.buses.base import read_options
    from ros_nodes.run import Episode, run_episode
    from ros_nodes.stack import Stack

    if drive not in ("command", "teleop", "excite"):
        raise RunError(f"unknown --drive {drive!r}; choose command, teleop or excite")
    motor: dict[str, Any] = {"seed": seed, "amplitude": amplitude}
    if drive == "excite":
        motor |= {"excitation": excitation, "excitation_s": seconds}
    stack = Stack(
        contract=contract.resolve(),
        bus=bus,
        bus_options=read_options(bus_options, "--bus-options"),
        sensors=sensors,
        sensor_options=read_options(sensor_options, "--sensor-options"),
        motor=motor,
        namespace=namespace,
        params_file=params_file,
        log_level=log_level,
    )
    episode = Episode(
        "record", contract.stem, stack, seconds, seed, (), False, local=False, teleop=drive == "teleop", report=report
    )
    run_episode(episode, runs, json_)


def emulated(bus: str, faults: str, socket: str, seed: int, bundle: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Options of a simulated bus, and the arguments of its emulated hardware; none for the plant's own bus."""
    import json

    from robot_wm.buses.base import BUSES
    from robot_wm.contract import load_contract
    from ros_nodes.stack import EMULATORS, emulated_efforts

    if bus not in ("mujoco", *EMULATORS):
        raise RunError(f"no simulation of --bus {bus!r}; choose mujoco, {', '.join(EMULATORS)}")
    if bus == "mujoco":
        if faults:
            raise RunError("--bus-faults needs an emulated bus, for example --bus serial")
        return {"socket": socket}, ()
    for entry in entry_points(group=BUSES, name=bus):
        entry.load()  # an extra that is missing is told before anything starts
    port = str(Path(socket).with_name("board"))
    arguments = ["--socket", socket, "--link", port, "--seed", str(seed), "--with-parent"]
    options: dict[str, Any] = {"port": port}
    efforts = emulated_efforts(bus, load_contract(bundle / "contract.yaml").action)
    if efforts:
        options["effort_scale"] = efforts
        arguments += ["--effort-scale", json.dumps(efforts)]
    return options, (*arguments, *(("--faults", faults) if faults else ()))


def released_bundle(task: str) -> Path:
    """Where the bundle made for a task lies in a source checkout. Raises RunError when none was released."""
    zoo = Path(__file__).resolve().parents[1] / "models" / "zoo"
    path = zoo / task.removeprefix("dmc:").replace("-", "_")
    if not path.is_dir():
        known = ", ".join(sorted(p.name for p in zoo.glob("*/"))) or "none"
        raise RunError(f"no bundle was released for task {task!r} (there are: {known}); name one with --bundle")
    return path


def _faults(**asked: list[str] | None) -> tuple[Any, ...]:
    """The faults asked for, by kind."""
    from ros_nodes.launcher import parse_fault

    return tuple(parse_fault(kind, text) for kind, texts in asked.items() for text in texts or ())
