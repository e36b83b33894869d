"""Each fault changes what it says, from its moment on, and nothing else."""

import numpy as np
import pytest

pytest.importorskip("mujoco")

from robot_wm.errors import RunError
from robot_wm.messages import Measurement
from sim.cartpole import CartpoleSwingup
from sim.faults import ELSEWHERE, PAYLOAD, Fault, FaultyTask, faults_for

AT = 0.05  # five control steps


def play(task, steps=10, push=3.0):
    """Readings (steps, 4) of a constant push, each before its step."""
    task.reset(1)
    rows = []
    for _ in range(steps):
        rows.append(np.concatenate([m.values for m in task.read()]))
        task.step(np.array([push]))
    return np.array(rows)


def faulty(name, **options):
    return FaultyTask(CartpoleSwingup(), Fault(name, AT, **options))


HEALTHY = play(CartpoleSwingup())  # columns: slider, hinge; their velocities


@pytest.mark.parametrize("joint", [0, 1])
def test_a_wrong_sign_negates_position_and_velocity_of_one_joint(joint):
    rows = play(faulty("wrong_sign", joint=joint))
    own = [joint, joint + 2]
    other = [1 - joint, 3 - joint]
    np.testing.assert_array_equal(rows[:5], HEALTHY[:5])
    np.testing.assert_array_equal(rows[5:, own], -HEALTHY[5:, own])
    np.testing.assert_array_equal(rows[5:, other], HEALTHY[5:, other])


def test_a_frozen_joint_stays_what_it_was_last():
    rows = play(faulty("frozen_joint", joint=1))
    np.testing.assert_array_equal(rows[5:, [1, 3]], np.repeat(HEALTHY[4:5, [1, 3]], 5, axis=0))
    np.testing.assert_array_equal(rows[5:, [0, 2]], HEALTHY[5:, [0, 2]])


def test_noise_is_the_same_for_the_same_seed_and_does_not_touch_the_motion():
    task = faulty("noise")
    rows = play(task)
    np.testing.assert_array_equal(rows[:5], HEALTHY[:5])
    assert (rows[5:] != HEALTHY[5:]).all()
    np.testing.assert_array_equal(play(task), rows)


@pytest.mark.parametrize(("name", "cart"), [("payload", PAYLOAD), ("payload_tip", 1.0)])
def test_a_payload_is_heavier_and_moves_otherwise_until_the_next_episode(name, cart):
    task = faulty(name)
    before = task.model.body_mass.copy()
    rows = play(task)
    np.testing.assert_allclose(task.model.body_mass, before * [1.0, cart, PAYLOAD])
    np.testing.assert_array_equal(rows[:6], HEALTHY[:6])
    assert (rows[6:, 2] < HEALTHY[6:, 2]).all()
    task.reset(1)
    np.testing.assert_array_equal(task.model.body_mass, before)


def test_a_fault_may_end():
    rows = play(faulty("wrong_sign", joint=1, lasts_s=0.02))
    np.testing.assert_array_equal(rows[7:], HEALTHY[7:])


def test_an_episode_can_end_with_the_fault():
    assert FaultyTask(CartpoleSwingup(), Fault("noise", 1.0), ends_s=2.0).length == 200
    assert FaultyTask(CartpoleSwingup(), Fault("noise", 1.0)).length == CartpoleSwingup().length


def test_a_fault_that_the_task_cannot_have_is_refused():
    assert "occluded" not in faults_for(CartpoleSwingup())
    with pytest.raises(RunError, match="no fault 'occluded'; there are wrong_sign, frozen_joint"):
        faulty("occluded")


class Seeing:
    """A camera that shows how often the task has stepped, and the seed."""

    def __init__(self):
        self.inner = CartpoleSwingup()
        self.contract = type("C", (), {"name": "seeing", "observations": (), "images": ("camera",)})()
        self.control_dt, self.length, self.model = 0.01, 100, self.inner.model

    def reset(self, seed):
        self.count, self.seed = 0, seed

    def step(self, action):
        self.count += 1
        return 0.0

    def capture(self, name, stamp):
        return Measurement(name, stamp, np.array([[[1 + self.count, self.seed % 251]]], np.uint8))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("occluded", [[0, 0]] * 3),
        ("frozen_frame", [[5, 3]] * 3),
        ("swapped_camera", [[6 + i, (3 + ELSEWHERE) % 251] for i in range(3)]),
    ],
)
def test_camera_faults_change_the_pictures_and_keep_their_stamps(monkeypatch, name, expected):
    monkeypatch.setattr("sim.faults.make_task", lambda _: Seeing())
    task = FaultyTask(Seeing(), Fault(name, AT))
    task.reset(3)
    pictures = []
    for n in range(8):
        pictures.append(task.capture("camera", n))
        task.step(np.zeros(1))
    assert [p.values.ravel().tolist() for p in pictures] == [[1 + n, 3] for n in range(5)] + expected
    assert [p.stamp for p in pictures] == list(range(8))


@pytest.mark.parametrize(("brightness", "moves"), [(30, True), (2, False)])
def test_a_frozen_frame_of_a_scene_that_stands_is_told_apart(monkeypatch, brightness, moves):
    inner = Seeing()
    monkeypatch.setattr(
        inner,
        "capture",
        lambda name, stamp: Measurement(name, stamp, np.full((4, 4, 1), brightness * (inner.count % 8), np.uint8)),
    )
    task = FaultyTask(inner, Fault("frozen_frame", AT))
    task.reset(3)
    for n in range(10):
        task.capture("camera", n)
        task.step(np.zeros(1))
    assert task.scene_moves is moves


def test_during_an_outage_no_picture_comes(monkeypatch):
    task = FaultyTask(Seeing(), Fault("outage", AT, lasts_s=0.02))
    task.reset(3)
    came = []
    for n in range(9):
        came.append(task.capture("camera", n) is not None)
        task.step(np.zeros(1))
    assert came == [True] * 5 + [False] * 2 + [True] * 2
