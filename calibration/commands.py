"""`robot-wm calibrate`: from bags and pictures to calibration files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from calibration import camera_commands, file_commands
from calibration.options import ImageTopic, Joints, Json, Out, Serial, StateTopic, finish
from robot_wm.errors import CalibrationError

calibrate = typer.Typer(help="Calibrate joints, cameras, hand-eye, delays and clocks.", no_args_is_help=True)


@calibrate.command("joints")
def joints(
    bag: Annotated[Path, typer.Argument(help="Bag of a sweep: every joint to each end stop twice, resting there.")],
    serial: Serial,
    out: Out = Path("calibration/joints.yaml"),
    joint: Joints = None,
    low: Annotated[
        list[str] | None, typer.Option(help="joint=angle [deg] at its low stop; may be given again.")
    ] = None,
    high: Annotated[list[str] | None, typer.Option(help="joint=angle [deg] at its high stop.")] = None,
    first: Annotated[list[str] | None, typer.Option(help="joint=high where the high stop came first.")] = None,
    turn: Annotated[float, typer.Option(help="Angle after which readings repeat [deg].", min=1.0)] = 360.0,
    topic: StateTopic = "joint_states",
    effort: Annotated[bool, typer.Option(help="Correct for stops that give way under the effort.")] = True,
    json_: Json = False,
) -> None:
    """Zero, direction and range of joints from a sweep between their end stops, whatever the encoder's zero."""
    import numpy as np

    from calibration.joints import sweep, to_calibration
    from calibration.sources import LENIENT, by_joint, degrees_of
    from robot_wm.bags.reader import open_bag
    from robot_wm.errors import BagError

    source = open_bag(bag)
    names = tuple(joint or source.joints(topic))
    lows, highs, firsts = by_joint(low, "low"), by_joint(high, "high"), by_joint(first, "first")
    strange = {*lows, *highs, *firsts} - set(names)
    if strange:
        raise CalibrationError(f"{bag}: no joint {', '.join(sorted(strange))} here; there are {', '.join(names)}")
    found: dict[str, Any] = {}
    for i, name in enumerate(names):
        position = source.read_joints(topic, "position", names, LENIENT)
        force = None
        if effort:
            try:
                efforts = source.read_joints(topic, "effort", names, LENIENT)
                force = np.interp(position.stamps, efforts.stamps, efforts.values[:, i])
            except BagError:
                force = None
        found[name] = sweep(
            (position.stamps - position.stamps[0]) / 1e9,
            position.values[:, i],
            name,
            force,
            degrees_of(lows, name, "low"),
            degrees_of(highs, name, "high"),
            firsts.get(name, "low"),
            float(np.radians(turn)),
        )
    rows = {
        name: {
            "direction": s.zero.direction,
            "centre_deg": np.degrees(s.zero.centre_rad),
            "low_deg": np.degrees(s.zero.low_rad),
            "high_deg": np.degrees(s.zero.high_rad),
            "visits": s.visits,
            "repeatability_deg": np.degrees(s.repeatability_rad),
            "span_error_deg": None if s.span_error_rad is None else np.degrees(s.span_error_rad),
        }
        for name, s in found.items()
    }
    finish(to_calibration(found, serial), out, {"joints": rows}, json_)


@calibrate.command("delay")
def delay(
    bags: Annotated[list[Path], typer.Argument(help="Bags of one robot, excited joint by joint.")],
    serial: Serial,
    out: Out = Path("calibration/delay.yaml"),
    joint: Joints = None,
    mode: Annotated[
        str, typer.Option(help="effort, velocity or position; reported: the motor's own report; empty: as recorded.")
    ] = "",
    command: Annotated[str, typer.Option(help="Topic of the commands that were sent.")] = "applied",
    topic: StateTopic = "joint_states",
    json_: Json = False,
) -> None:
    """Actuator delay, friction and inertia from commands and the motion they caused."""
    import numpy as np

    from calibration.delay import Log, identify, to_calibration
    from calibration.sources import driven_part, joint_log
    from robot_wm.bags.reader import open_bag

    sources = [open_bag(bag) for bag in bags]
    contract = sources[0].contract
    mode = mode or (contract.action.mode if contract else "")
    if not mode:
        raise CalibrationError(f"{bags[0]}: was recorded without a contract; say what was commanded with --mode")
    sent, answered = ("effort", "effort") if mode == "reported" else (mode, "position")
    found = {}
    for name in joint or sources[0].joints(command):
        logs = []
        for source in sources:
            request = driven_part(source, command, joint_log(source, command, sent, name, source.start))
            answer = joint_log(source, topic, answered, name, source.start)
            values = answer.values if mode == "reported" else np.unwrap(answer.values)
            inside = (answer.stamps >= request.stamps[0]) & (answer.stamps <= request.stamps[-1] + 0.5)
            logs.append(Log(request.stamps, request.values, answer.stamps[inside], values[inside]))
        found[name] = identify(logs, mode, name)
    rows = {
        name: {
            "delay_ms": 1e3 * d.delay_s,
            "interval_ms": [1e3 * d.interval_s[0], 1e3 * d.interval_s[1]],
            "explained": d.explained,
            "viscous": d.viscous,
            "coulomb": d.coulomb,
            "inertia": d.inertia,
        }
        for name, d in found.items()
    }
    finish(to_calibration(found, serial, mode), out, {"mode": mode, "joints": rows}, json_)


@calibrate.command("sync")
def sync(
    bag: Annotated[Path, typer.Argument(help="Bag in which one joint moves what the camera sees, irregularly.")],
    serial: Serial,
    joint: Annotated[str, typer.Option(help="The joint that moves.")],
    out: Out = Path("calibration/sync.yaml"),
    camera: ImageTopic = "camera/image_raw",
    other: Annotated[str, typer.Option(help="Instead of a camera: a second topic of joints that has this joint.")] = "",
    topic: StateTopic = "joint_states",
    json_: Json = False,
) -> None:
    """How late a camera's stamps (or a second joint topic's) are against the joints."""
    import numpy as np

    from calibration.image_motion import image_turns
    from calibration.sources import joint_log, pictures
    from calibration.sync import find_offset, to_calibration, turns_of
    from robot_wm.bags.reader import open_bag

    source = open_bag(bag)
    reference = joint_log(source, topic, "position", joint, source.start)
    if other:
        second = joint_log(source, other, "position", joint, source.start)
        stream, name = turns_of(second.stamps, np.unwrap(second.values)), other
    else:
        start = source.start / 1e9
        frames = ((picture.stamp - start, picture.grey) for picture in pictures(bag, camera))
        stream, name = image_turns(frames, camera), camera
    found = find_offset(reference.stamps, np.unwrap(reference.values), stream, name)
    figures = {
        "offset_ms": 1e3 * found.seconds,
        "interval_ms": [1e3 * found.interval[0], 1e3 * found.interval[1]],
        "correlation": found.correlation,
    }
    finish(to_calibration(found, serial, f"{topic}/{joint}", name), out, figures, json_)


for name, command in {
    "camera": camera_commands.camera,
    "handeye": camera_commands.handeye,
    "board": camera_commands.board,
    "import": file_commands.import_,
    "check": file_commands.check,
}.items():
    calibrate.command(name)(command)
