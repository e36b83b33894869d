"""A short video of a run, rendered afterwards from the logged joint states, so that it costs the run nothing.

`python -m sim.video runs/…/bag runs/…/video.mp4` is a process of its own: a missing or broken OpenGL then ends nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.bags.reader import Bag, open_bag
from robot_wm.errors import BagError, RobotWmError, RunError
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S
from sim.camera import open_renderer
from sim.tasks import STATE_TOPIC, Task, make_task

WIDTH, HEIGHT, RATE = 480, 320, 25  # pixels, frames per second
LONGEST_S = 60.0
ENCODING = ["-crf", "30", "-preset", "veryfast", "-movflags", "+faststart"]
TIMEOUT_S = 180.0


def film(bag: Path | str, path: Path | str, task: str = "", seed: int | None = None) -> str:
    """Render `bag` to the MP4 file `path` in a process of its own; returns why there is no video, or nothing.

    Args:
        task: name of the task; default the name of the contract in the bag.
        seed: that the episode began with (some tasks draw their scene from it); default what the bag's start mark says.
    """
    command = [sys.executable, "-m", "sim.video", str(bag), str(path)]
    command += ["--task", task] if task else []
    command += ["--seed", str(seed)] if seed is not None else []
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"no video: rendering took longer than {TIMEOUT_S:g} s"
    if result.returncode == 0:
        return ""
    last = (result.stderr.strip().splitlines() or [f"the renderer ended with status {result.returncode}"])[-1]
    return f"no video: {last.removeprefix('video: ')}"


def poses(bag: Bag, task: Task) -> tuple[NDArray[np.int64], FloatArray]:
    """Stamps (T,) [ns] and generalised positions (T, nq) of a bag: the recorded state, or else the joints by name.

    Raises:
        BagError: the bag holds neither.
    """
    model: Any = task.model
    if bag.find(STATE_TOPIC) is not None:
        series = bag.read_tensor(STATE_TOPIC, slice(0, model.nq), [f"qpos_{i}" for i in range(model.nq)])
        return series.stamps, series.values
    joints = [(o.topic, name) for o in task.contract.observations if o.field == "position" for name in o.names]
    if len(joints) < model.nq:
        raise BagError(f"{bag.path}: has no {STATE_TOPIC}, and {len(joints)} observed joints do not pose {model.nq}")
    series = bag.read_joints(joints[0][0], "position", [name for _, name in joints])
    qpos = np.zeros((len(series), model.nq))
    qpos[:, [model.joint(name).qposadr[0] for _, name in joints]] = series.values
    return series.stamps, qpos


def render(task: Task, stamps: NDArray[np.int64], qpos: FloatArray) -> Iterator[NDArray[np.uint8]]:
    """Frames (HEIGHT, WIDTH, 3) at RATE per second from the task's first camera.

    Raises:
        RunError: this machine has no OpenGL that can draw without a display.
    """
    import mujoco

    model: Any = task.model
    renderer, data = open_renderer(model, HEIGHT, WIDTH), mujoco.MjData(model)
    end = min(int(stamps[-1]), int(stamps[0]) + round(LONGEST_S * NS_PER_S))
    moments = np.arange(int(stamps[0]), end + 1, NS_PER_S // RATE)
    with renderer:
        for row in np.searchsorted(stamps, moments, side="right") - 1:
            data.qpos[:] = qpos[row]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=0 if model.ncam else -1)
            yield renderer.render()


def write_mp4(path: Path, frames: Iterator[NDArray[np.uint8]]) -> int:
    """Encode frames (H, W, 3) as H.264, whole or not at all; returns their number. Raises RunError."""
    import imageio_ffmpeg

    temporary = path.with_name(f".{path.name}.part.mp4")
    count = 0
    encoder = imageio_ffmpeg.write_frames(
        str(temporary), (WIDTH, HEIGHT), fps=RATE, codec="libx264", output_params=ENCODING, ffmpeg_log_level="error"
    )
    try:
        encoder.send(None)
        for frame in frames:
            encoder.send(np.ascontiguousarray(frame))
            count += 1
        encoder.close()
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"{path}: the video cannot be written: {error}") from error
    finally:
        encoder.close()
        temporary.unlink(missing_ok=True)
    return count


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the process; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sim.video", description="Render a bag of a simulated run.")
    parser.add_argument("bag", type=Path, help="a bag recorded in simulation")
    parser.add_argument("video", type=Path, help="the MP4 file to write")
    parser.add_argument("--task", default="", help="name of the task (default: of the bag's contract)")
    parser.add_argument("--seed", type=int, help="seed of the episode (default: what the bag's start mark says, or 0)")
    options = parser.parse_args(arguments)
    try:
        bag = open_bag(options.bag)
        contract = bag.contract
        if not options.task and contract is None:
            raise BagError(f"{options.bag}: does not say its contract; name the task with --task")
        task = make_task(options.task or (contract.name if contract is not None else ""))
        task.reset(_recorded_seed(bag) if options.seed is None else options.seed)
        count = write_mp4(options.video, render(task, *poses(bag, task)))
    except (RobotWmError, OSError, ImportError) as error:
        print(f"video: {error}", file=sys.stderr)
        return 1
    print(f"{options.video}: {count} frames")
    return 0


def _recorded_seed(bag: Bag) -> int:
    """The seed in the note of the start mark (`seed 3`); 0 where there is none."""
    notes = [event.note for event in bag.events() if event.kind == "start"] if bag.find("event") else []
    words = notes[0].split() if notes else []
    return int(words[1]) if len(words) == 2 and words[0] == "seed" and words[1].isdigit() else 0


if __name__ == "__main__":
    sys.exit(main())
