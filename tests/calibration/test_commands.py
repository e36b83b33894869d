"""The commands: from a bag or a folder to a file that arms a robot, and one clear sentence where that cannot be."""

import csv
import json
import math

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from board_pictures import BOARD_IN_BASE, CAMERA, look, poses, render
from moving_camera import joint, pictures, wave
from one_joint import HIGH, LOW, Encoder, drive, model, press, simulate
from robot_wm.bags.types import typestore
from robot_wm.bags.writer import BagWriter
from robot_wm.calibration_file import read, require_fit
from robot_wm.cli import main
from robot_wm.contract import parse_contract
from robot_wm.messages import Applied, JointState
from robot_wm.timebase import NS_PER_S, VirtualClock

START = 1_700_000_000 * NS_PER_S
CONTRACT = parse_contract(
    {
        "name": "one",
        "model_hz": 50.0,
        "observations": [{"name": "q", "topic": "joint_states", "field": "position", "names": ["elbow"]}],
        "action": {"names": ["elbow"], "mode": "effort", "low": [-1.0], "high": [1.0]},
    }
)


@pytest.fixture
def run(capsys):
    """Run the program; return its exit status, figures (or text) and the sentence on standard error."""

    def call(*words):
        with pytest.raises(SystemExit) as exit_:
            main(["calibrate", *(str(word) for word in words)])
        out, err = capsys.readouterr()
        return exit_.value.code, json.loads(out.splitlines()[-1]) if "--json" in words and out else out, err.strip()

    return call


def stamp(seconds):
    return START + round(seconds * NS_PER_S)


def state(seconds, position, effort=None):
    return JointState(
        stamp(seconds),
        ("elbow",),
        np.array([position]),
        np.zeros(0),
        np.zeros(0) if effort is None else np.array([effort]),
    )


def record(path, messages, contract=None, raw=()):
    """(topic, message) pairs, and (topic, type, message, seconds) of other ROS messages, into one bag."""
    with BagWriter(path, contract, clock=VirtualClock(), sync=False) as writer:
        for topic, message in messages:
            writer.write(topic, message)
        for topic, kind, message, seconds in raw:
            writer.write_raw(topic, kind, bytes(typestore().serialize_cdr(message, kind)), stamp(seconds))
    return path


def header(seconds):
    types = typestore().types
    sec, nanosec = divmod(stamp(seconds), NS_PER_S)
    return types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec), frame_id=""
    )


def image(seconds, picture, encoding="mono8"):
    kind = "sensor_msgs/msg/Image"
    height, width = picture.shape[:2]
    message = typestore().types[kind](
        header=header(seconds),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=picture.nbytes // height,
        data=np.frombuffer(picture.tobytes(), np.uint8),
    )
    return "camera/image_raw", kind, message, seconds


def posed(seconds, matrix):
    types, kind = typestore().types, "geometry_msgs/msg/PoseStamped"
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    point, turn = types["geometry_msgs/msg/Point"], types["geometry_msgs/msg/Quaternion"]
    message = types[kind](
        header=header(seconds),
        pose=types["geometry_msgs/msg/Pose"](position=point(*map(float, matrix[:3, 3])), orientation=turn(x, y, z, w)),
    )
    return "hand", kind, message, seconds


def test_joints_from_a_sweep(run, tmp_path):
    times, truth, effort = simulate(model(LOW, HIGH, soft=0.05, viscous=0.08), press(), 30.0, rate=100.0)
    reading = Encoder(-1.0, 2.0).read(truth)
    bag = record(tmp_path / "bag", [("joint_states", state(*row)) for row in zip(times, reading, effort, strict=True)])
    out = tmp_path / "joints.yaml"
    code, figures, _ = run("joints", bag, "--serial", "arm-1", "--out", out, "--low", f"elbow={LOW}", "--json")
    assert code == 0
    assert figures["joints"]["elbow"]["direction"] == -1.0
    assert figures["joints"]["elbow"]["high_deg"] == pytest.approx(HIGH, abs=0.2)
    assert figures["fit_to_arm"] is True
    assert require_fit(out, "joints", "arm-1").values["elbow"]["low_rad"] == pytest.approx(math.radians(LOW))
    code, _, error = run("joints", bag, "--serial", "arm-1", "--out", out, "--low", "knee=3")
    assert (code, "no joint knee here; there are elbow" in error) == (1, True)
    code, _, error = run("joints", bag, "--serial", "arm-1", "--out", out, "--low", "elbow=down")
    assert (code, "--low: elbow=down is no angle in degrees" in error) == (1, True)


@pytest.fixture(scope="module")
def chirp_bag(tmp_path_factory):
    """Powered from 1 s on: what was asked before that did nothing."""
    log = drive(0.0236)
    messages = []
    for i, seconds in enumerate(log.stamps):
        messages.append(("joint_states", state(seconds + 1.0, log.response[i])))
        messages.append(("applied", Applied(stamp(seconds + 1.0), log.command[i : i + 1], "excite")))
    before = [("applied", Applied(stamp(0.01 * i), np.zeros(1), "disarmed", driven=False)) for i in range(100)]
    return record(tmp_path_factory.mktemp("chirp") / "bag", before + messages, CONTRACT)


def test_delay_from_a_chirp(run, chirp_bag, tmp_path):
    out = tmp_path / "delay.yaml"
    code, figures, _ = run("delay", chirp_bag, "--serial", "m-1", "--out", out, "--json")
    assert code == 0
    assert figures["mode"] == "effort"
    assert figures["joints"]["elbow"]["delay_ms"] == pytest.approx(23.5, abs=1.0)
    assert figures["joints"]["elbow"]["viscous"] == pytest.approx(0.05, rel=0.05)
    assert require_fit(out, "delay", "m-1").method.startswith("effort command")
    code, _, error = run("delay", chirp_bag, "--serial", "m-1", "--out", out, "--mode", "reported")
    assert (code, "have no effort" in error) == (1, True)


def test_delay_needs_to_know_what_was_commanded(run, tmp_path):
    bag = record(tmp_path / "bag", [("joint_states", state(0.1 * i, 0.0)) for i in range(3)])
    code, _, error = run("delay", bag, "--serial", "m-1", "--out", tmp_path / "d.yaml")
    assert (code, "say what was commanded with --mode" in error) == (1, True)


def test_sync_of_a_camera_and_of_a_second_encoder(run, tmp_path):
    motion = wave(5, highest=1.0)
    states = [("joint_states", state(*row)) for row in zip(*joint(motion, 12.0), strict=True)]
    late = [("other", state(t + 0.04, q)) for t, q in zip(*joint(motion, 12.0, 97.0), strict=True)]
    seen = [image(seconds, picture) for seconds, picture in pictures(motion, 0.062)]
    bag = record(tmp_path / "bag", states + late, raw=seen)
    out = tmp_path / "sync.yaml"
    code, figures, _ = run("sync", bag, "--joint", "elbow", "--serial", "cam-1", "--out", out, "--json")
    assert code == 0
    assert figures["offset_ms"] == pytest.approx(62.0, abs=3.0)
    assert require_fit(out, "sync", "cam-1").values["stream"] == "camera/image_raw"
    code, figures, _ = run("sync", bag, "--joint", "elbow", "--serial", "e", "--out", out, "--other", "other", "--json")
    assert (code, figures["offset_ms"]) == (0, pytest.approx(40.0, abs=3.0))


@pytest.fixture(scope="module")
def lens(tmp_path_factory):
    """A folder of pictures for the intrinsics."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for i, pose in enumerate(poses(12)):
        cv2.imwrite(str(folder / f"{i:02}.png"), render(*pose, rng=rng))
    return folder


def test_camera_and_handeye_from_folders_and_from_a_bag(run, lens, tmp_path):
    camera, info = tmp_path / "camera.yaml", tmp_path / "info.yaml"
    code, figures, _ = run("camera", lens, "--serial", "cam-1", "--out", camera, "--info", info, "--json")
    assert code == 0
    assert figures["held_out_px"] < 0.3
    assert info.exists()

    rng = np.random.default_rng(3)
    folder = tmp_path / "hand"
    folder.mkdir()
    rows, messages = [], []
    for i in range(10):
        effector = look(rng)
        board = np.linalg.inv(effector @ CAMERA) @ BOARD_IN_BASE
        picture = render(board[:3, :3], board[:3, 3], rng=rng)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
        rows.append([f"{i}.png", *effector[:3, 3], *Rotation.from_matrix(effector[:3, :3]).as_quat()])
        messages += [posed(i + 0.1 * k, effector) for k in range(9)]
        messages += [image(i + 0.4, np.repeat(picture[..., None], 3, axis=2), "bgr8"), image(i + 0.45, picture)]
    with (tmp_path / "poses.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "x", "y", "z", "qx", "qy", "qz", "qw"], *rows])
    bag = record(tmp_path / "bag", [], raw=sorted(messages, key=lambda m: m[3]))

    common = ["--serial", "cam-1", "--intrinsics", camera, "--parent", "tool0", "--child", "lens", "--json"]
    for source, options in ((folder, ["--poses", tmp_path / "poses.csv"]), (bag, ["--pose-topic", "hand"])):
        out = tmp_path / f"{source.name}.yaml"
        code, figures, error = run("handeye", source, "--out", out, *options, *common)
        assert code == 0, error
        assert figures["poses"] >= 8
        assert np.linalg.norm(np.array(figures["translation_m"]) - CAMERA[:3, 3]) < 0.002
        require_fit(out, "handeye", "cam-1")
    code, _, error = run("handeye", folder, "--out", out, *common)
    assert (code, "--poses for a folder, --pose-topic for a bag" in error) == (1, True)
    (tmp_path / "poses.csv").write_text("image,x,y\n0.png,1,2\n")
    code, _, error = run("handeye", folder, "--out", out, "--poses", tmp_path / "poses.csv", *common)
    assert (code, "poses.csv: line 2: z is missing" in error) == (1, True)


def test_a_folder_without_pictures_or_of_mixed_sizes_is_named(run, lens, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, error = run("camera", tmp_path / "empty", "--serial", "c", "--out", tmp_path / "c.yaml")
    assert (code, "holds neither pictures" in error) == (1, True)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name, size in (("a.png", 64), ("b.png", 80)):
        cv2.imwrite(str(mixed / name), np.zeros((size, size), np.uint8))
    code, _, error = run("camera", mixed, "--serial", "c", "--out", tmp_path / "c.yaml")
    assert (code, "b.png: is of another size than a.png" in error) == (1, True)
    (mixed / "a.png").write_bytes(b"no picture")
    code, _, error = run("camera", mixed, "--serial", "c", "--out", tmp_path / "c.yaml")
    assert (code, "a.png: is no picture that can be read" in error) == (1, True)


def test_board_import_and_check(run, tmp_path):
    code, figures, _ = run("board", "--out", tmp_path / "board.png", "--pixels", 40, "--json")
    assert (code, figures["width_mm"]) == (0, pytest.approx(240.0))
    assert cv2.imread(str(tmp_path / "board.png")).shape == (240, 320, 3)
    motor = {"id": 1, "drive_mode": 0, "homing_offset": 3, "range_min": 800, "range_max": 3300}
    (tmp_path / "arm.json").write_text(json.dumps({"elbow": motor}))
    out = tmp_path / "joints.yaml"
    code, figures, _ = run("import", tmp_path / "arm.json", "--serial", "so-1", "--out", out, "--json")
    assert (code, figures["fit_to_arm"]) == (0, False)
    code, _, error = run("check", out, "--kind", "joints", "--serial", "so-1")
    assert (code, "its residual was never measured" in error) == (1, True)
    run("import", tmp_path / "arm.json", "--serial", "so-1", "--out", out, "--residual", 0.2, "--json")
    code, figures, _ = run("check", out, "--kind", "joints", "--serial", "so-1", "--json")
    assert (code, figures["fit_to_arm"], read(out).serial) == (0, True, "so-1")
    code, _, error = run("import", tmp_path / "board.png", "--serial", "so-1", "--out", out)
    assert (code, "give LeRobot's .json or easy_handeye2's" in error) == (1, True)


def test_help_lists_every_calibration(run):
    code, text, _ = run("--help")
    assert code == 0
    for name in ("joints", "delay", "sync", "camera", "handeye", "board", "import", "check"):
        assert name in text
