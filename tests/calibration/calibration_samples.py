"""A good calibration of every kind, shared by whoever needs a file."""

from robot_wm.calibration_file import Calibration

VALUES = {
    "joints": {
        "elbow": {
            "direction": -1.0,
            "centre_rad": 3.0,
            "centre_position_rad": 0.1,
            "low_rad": -1.0,
            "high_rad": 1.2,
            "period_rad": 6.283185307179586,
        }
    },
    "camera": {
        "width": 640.0,
        "height": 480.0,
        "matrix": [600.0, 0, 320, 0, 600, 240, 0, 0, 1],
        "distortion": [0.0] * 5,
    },
    "handeye": {
        "setup": "eye_in_hand",
        "parent": "tool0",
        "child": "camera",
        "translation_m": [0.1, 0.0, 0.05],
        "quaternion_xyzw": [0.0, 0.0, 0.0, 1.0],
    },
    "delay": {
        "elbow": {"delay_s": 0.012, "interval_s": [0.0115, 0.0125], "viscous": 0.1, "coulomb": None, "inertia": 0.01}
    },
    "sync": {
        "reference": "joint_states",
        "stream": "camera",
        "offset_s": 0.03,
        "interval_s": [0.029, 0.031],
        "correlation": 0.9,
    },
}


def made(kind="joints", residual=0.01, serial="arm-7", **changes):
    return Calibration(kind, serial, "by hand", residual, **{"values": VALUES[kind], **changes})
