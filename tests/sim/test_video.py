"""The video is drawn from the bag alone, by a process that may fail without harm."""

import numpy as np
import pytest

from robot_wm.bags.reader import open_bag
from robot_wm.bags.writer import BagWriter
from robot_wm.errors import BagError
from robot_wm.messages import Event, JointState, Measurement
from sim.cartpole import CartpoleSwingup
from sim.tasks import STATE_TOPIC, make_task
from sim.video import film, main, poses

STEP = 10_000_000
NONE = np.zeros(0)


def write_joint_bag(path, contract, seconds=0.5, names=("hinge", "slider")):
    """A bag as the ROS run leaves it: joint states, in an order of their own."""
    with BagWriter(path, contract, sync=False) as writer:
        writer.write("event", Event(STEP, "start"))
        for n in range(1, round(seconds * 100) + 2):
            values = {"slider": 0.01 * n, "hinge": 3.0 - 0.1 * n}
            position = np.array([values[name] for name in names])
            writer.write("joint_states", JointState(n * STEP, names, position, position, NONE))
    return path


def test_joint_states_pose_the_scene_by_name(tmp_path):
    task = CartpoleSwingup()
    bag = open_bag(write_joint_bag(tmp_path / "bag", task.contract))
    stamps, qpos = poses(bag, task)
    assert len(stamps) == 51
    np.testing.assert_allclose(qpos[:, 0], 0.01 * np.arange(1, 52))  # the model's order: slider, hinge
    np.testing.assert_allclose(qpos[:, 1], 3.0 - 0.1 * np.arange(1, 52))


def test_the_recorded_state_poses_a_task_whose_joints_nobody_observes(tmp_path):
    task = make_task("dmc:reacher-easy")
    with BagWriter(tmp_path / "bag", task.contract, sync=False) as writer:
        for n in range(1, 4):
            writer.write(STATE_TOPIC, Measurement("qpos", n * STEP, np.array([0.5, float(n)])))
    _, qpos = poses(open_bag(tmp_path / "bag"), task)
    np.testing.assert_allclose(qpos, [[0.5, 1.0], [0.5, 2.0], [0.5, 3.0]])


def test_a_bag_that_poses_nothing_is_refused(tmp_path):
    task = make_task("dmc:reacher-easy")
    with BagWriter(tmp_path / "bag", task.contract, sync=False) as writer:
        writer.write("reward", Measurement("reward", STEP, np.zeros(1)))
    with pytest.raises(BagError, match=f"has no {STATE_TOPIC}"):
        poses(open_bag(tmp_path / "bag"), task)


def test_a_run_becomes_a_small_video_or_one_sentence_says_why_not(tmp_path):
    bag = write_joint_bag(tmp_path / "bag", CartpoleSwingup().contract, seconds=1.0)
    note = film(bag, tmp_path / "run.mp4")
    if note:
        assert note.startswith("no video: OpenGL") and not (tmp_path / "run.mp4").exists()
        pytest.skip(note)
    data = (tmp_path / "run.mp4").read_bytes()
    assert data[4:8] == b"ftyp" and len(data) < 100_000
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []


def test_without_opengl_the_renderer_says_so_and_ends(tmp_path, monkeypatch):
    bag = write_joint_bag(tmp_path / "bag", CartpoleSwingup().contract)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "osmesa")
    note = film(bag, tmp_path / "run.mp4")
    assert note == "" or note.startswith("no video: ")
    assert (note == "") == (tmp_path / "run.mp4").exists()


def test_a_missing_bag_is_one_sentence(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "run.mp4")]) == 1
    assert "nowhere" in capsys.readouterr().err
