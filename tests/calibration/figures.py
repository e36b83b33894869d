"""Prints the figures of docs/calibration.md, errors against the truth: `python tests/calibration/figures.py`.

Not a test: more seeds than a test needs. The bounds are held by the tests beside it.
"""

import json
import math

import numpy as np

from board_pictures import BOARD, TRUTH, poses, render
from calibration.camera import calibrate, detect
from calibration.delay import identify
from calibration.handeye import solve
from calibration.joints import sweep
from calibration.sync import find_offset
from moving_camera import camera, joint, wave
from one_joint import HIGH, LOW, STEP, Encoder, drive, model, press, simulate
from test_handeye import errors, recording


def joints(offsets=37):
    """Largest error of the zero over encoder offsets and directions, stops that give way by half a degree."""
    times, truth, effort = simulate(model(LOW, HIGH, soft=0.05, viscous=0.08), press(), 30.0, rate=100.0)
    found = []
    for direction in (1.0, -1.0):
        for offset in np.linspace(0.0, 2 * np.pi, offsets):
            result = sweep(times, Encoder(direction, offset).read(truth), effort=effort, low=math.radians(LOW))
            exact = Encoder(direction, offset, 1 << 40).read(truth)
            found.append(np.degrees(np.abs(result.zero.position(exact) - truth).max()))
    return {"sweeps": len(found), "zero_deg_max": max(found), "zero_deg_median": float(np.median(found))}


def delay():
    """Largest error and widest half interval of the delay, by what is commanded."""
    cases = {
        "effort, 200 Hz, 4096 ticks": ("effort", {}),
        "effort, 100 Hz, 1024 ticks": ("effort", {"rate": 100.0, "ticks": 1024}),
        "effort, friction 18 % of the command": ("effort", {"gravity": 0.0, "coulomb": 0.055}),
        "position, 200 Hz": ("position", {}),
        "position, 50 Hz": ("position", {"rate": 50.0}),
        "velocity, 200 Hz": ("velocity", {"gain": 0.2, "amplitude": 2.0}),
    }
    figures = {}
    for name, (mode, options) in cases.items():
        found = {late: identify([drive(late, mode, **options)], mode) for late in (0.0, 0.0075, 0.0235, 0.06)}
        figures[name] = {
            "error_ms_max": max(1e3 * abs(f.delay_s - late + STEP / 2) for late, f in found.items()),
            "half_width_ms_max": max(1e3 * f.half_width_s for f in found.values()),
        }
    return figures


def sync(seeds=20):
    """Error of a 30 Hz camera's offset, by the noise of each frame's angle [rad]."""
    figures = {}
    for noise in (0.0, 0.01, 0.02):
        found = [find_offset(*joint(wave(s)), camera(wave(s), 0.045, noise=noise, seed=s)) for s in range(seeds)]
        off = np.array([1e3 * (f.seconds - 0.045) for f in found])
        figures[f"noise {noise:g} rad"] = {
            "error_ms_max": float(np.abs(off).max()),
            "half_width_ms_mean": float(np.mean([1e3 * f.half_width for f in found])),
            "within_interval": float(np.mean([abs(o) <= 1e3 * f.half_width for o, f in zip(off, found, strict=True)])),
        }
    return figures


def lens():
    """Reprojection of rendered pictures, and what was found of the lens."""
    rng = np.random.default_rng(1)
    views = [view for pose in poses() if (view := detect(render(*pose, rng=rng), BOARD)) is not None]
    result = calibrate(views, (TRUTH.width, TRUTH.height))
    return {
        "views": result.views,
        "reprojection_px": result.reprojection_px,
        "held_out_px": result.held_out_px,
        "focal_error_px": float(np.abs(np.diag(result.intrinsics.matrix - TRUTH.matrix)[:2]).max()),
        "centre_error_px": float(np.abs((result.intrinsics.matrix - TRUTH.matrix)[:2, 2]).max()),
    }


def handeye(seeds=60):
    """Largest and rms error of the camera over recordings of 20 poses."""
    figures = {}
    for setup in ("eye_in_hand", "eye_to_hand"):
        off = np.array([errors(solve(*recording(setup, seed=s), setup)) for s in range(seeds)])
        figures[setup] = {
            "mm_max": 1e3 * float(off[:, 0].max()),
            "mm_rms": 1e3 * float(np.sqrt(np.mean(off[:, 0] ** 2))),
            "deg_max": float(off[:, 1].max()),
            "deg_rms": float(np.sqrt(np.mean(off[:, 1] ** 2))),
        }
    return figures


if __name__ == "__main__":
    print(
        json.dumps(
            {"joints": joints(), "delay": delay(), "sync": sync(), "camera": lens(), "handeye": handeye()}, indent=1
        )
    )
