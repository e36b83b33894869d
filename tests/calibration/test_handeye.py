"""Hand-eye calibration against a known camera, with the noise of real kinematics and real pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from board_pictures import BOARD, BOARD_IN_BASE, CAMERA, TO_MIDDLE, TRUTH, look, render
from calibration.camera import detect
from calibration.files import write
from calibration.handeye import pose, second_axis, solve, to_calibration
from robot_wm.calibration_file import require_fit
from robot_wm.errors import CalibrationError


def shaken(matrix, rng, metres, degrees):
    noise = pose(rng.normal(size=3) * metres, Rotation.from_rotvec(np.radians(rng.normal(size=3) * degrees)).as_quat())
    return matrix @ noise


def recording(setup, count=20, seed=0, hand=(0.0005, 0.05), eye=(0.0003, 0.08), **options):
    """Effector poses as the kinematics reports them, and the board's middle as the camera sees it.

    Noise (1 sigma, per axis) in m and deg. The hand's is that of cheap servos; the eye's is twice what rendered pictures show.
    """
    rng = np.random.default_rng(seed)
    hands, seen = [], []
    for _ in range(count):
        effector = look(rng, **options)
        board = np.linalg.inv(effector @ CAMERA) @ BOARD_IN_BASE
        # Eye to hand is the same picture with the names exchanged: what was the base is the effector now.
        reported = effector if setup == "eye_in_hand" else np.linalg.inv(effector)
        hands.append(shaken(reported, rng, *hand))
        seen.append(shaken(board @ TO_MIDDLE, rng, *eye))
    return hands, seen


def errors(found):
    """Position [m] and rotation [deg] of the camera against the truth."""
    away = np.linalg.inv(CAMERA) @ found.camera
    return np.linalg.norm(away[:3, 3]), np.degrees(Rotation.from_matrix(away[:3, :3]).magnitude())


@pytest.mark.parametrize("setup", ["eye_in_hand", "eye_to_hand"])
@pytest.mark.parametrize("seed", range(10))
def test_the_camera_is_found_within_two_millimetres_and_a_third_of_a_degree(setup, seed):
    found = solve(*recording(setup, seed=seed), setup)
    metres, degrees = errors(found)
    assert metres < 0.002
    assert degrees < 0.3
    assert found.residual_m < 0.005


@settings(max_examples=15)
@given(st.integers(0, 1000), st.sampled_from(["eye_in_hand", "eye_to_hand"]))
def test_without_noise_it_is_exact(seed, setup):
    found = solve(*recording(setup, 20, seed, (0.0, 0.0), (0.0, 0.0)), setup)
    assert errors(found) == pytest.approx((0.0, 0.0), abs=1e-5)
    assert found.residual_m < 1e-6


def test_the_standard_deviation_says_how_far_off_it_may_be():
    results = [solve(*recording("eye_in_hand", seed=seed)) for seed in range(20)]
    for metres, expected in ((True, [f.error_m for f in results]), (False, [np.degrees(f.error_rad) for f in results])):
        actual = np.array([errors(f)[0 if metres else 1] for f in results])
        assert 0.4 < np.sqrt(np.mean(actual**2)) / np.mean(expected) < 2.0


def test_a_few_wrong_poses_do_not_spoil_it():
    hands, seen = recording("eye_in_hand")
    seen[4] = shaken(seen[4], np.random.default_rng(0), 0.05, 10.0)
    metres, degrees = errors(solve(hands, seen))
    assert metres < 0.002
    assert degrees < 0.3


def test_pictures_of_a_board_lead_to_the_camera():
    """From rendered pictures to the hand-eye transform, with kinematics that are off by half a millimetre."""
    rng = np.random.default_rng(3)
    hands, seen = [], []
    for _ in range(12):
        effector = look(rng)
        board = np.linalg.inv(effector @ CAMERA) @ BOARD_IN_BASE
        view = detect(render(board[:3, :3], board[:3, 3], rng=rng), BOARD)
        if view is not None:
            turn, shift = TRUTH.pose(view)
            hands.append(shaken(effector, rng, 0.0005, 0.05))
            seen.append(np.vstack([np.column_stack([turn, shift]), [0, 0, 0, 1]]))
    assert len(seen) >= 10
    metres, degrees = errors(solve(hands, seen))
    assert metres < 0.002
    assert degrees < 0.3


@pytest.mark.parametrize("axes", [(0, 0, 1), (1, 0, 0)])
def test_rotation_about_one_axis_is_refused(axes):
    with pytest.raises(CalibrationError, match=r"turned by \d+ deg \(rms\) about a second axis, 10 are needed"):
        solve(*recording("eye_in_hand", axes=axes))


def test_second_axis_measures_the_weaker_rotation():
    angles = [(40 * a, 20 * b, 0) for a in (-1, 1) for b in (-1, 1)]
    turns = [pose([0, 0, 0], Rotation.from_euler("xyz", angle, degrees=True).as_quat()) for angle in angles]
    assert np.degrees(second_axis(np.stack(turns))) == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize(
    ("hands", "seen", "setup", "message"),
    [
        ([np.eye(4)] * 5, [np.eye(4)] * 5, "eye_in_hand", "5 poses with the board in view, 6 are needed"),
        ([np.eye(4)] * 6, [np.eye(4)] * 6, "eye", "setup must be one of eye_in_hand, eye_to_hand, got 'eye'"),
        ([np.full((4, 4), np.nan)] * 6, [np.eye(4)] * 6, "eye_in_hand", "a pose is not finite"),
    ],
)
def test_poses_that_cannot_be_used_are_refused(hands, seen, setup, message):
    with pytest.raises(CalibrationError, match=message):
        solve(hands, seen, setup)


def test_poses_that_belong_to_other_pictures_show_in_the_residual(tmp_path):
    hands, seen = recording("eye_in_hand")
    path = write(tmp_path / "h.yaml", to_calibration(solve(hands, seen[1:] + seen[:1]), "cam-1", "tool0", "camera"))
    with pytest.raises(CalibrationError, match=r"residual [0-9.]+ mm .* is above 5 mm"):
        require_fit(path, "handeye", "cam-1")


def test_the_file_holds_the_transform(tmp_path):
    found = solve(*recording("eye_to_hand"), "eye_to_hand")
    path = write(tmp_path / "h.yaml", to_calibration(found, "cam-1", "base_link", "camera_optical"))
    values = require_fit(path, "handeye", "cam-1").values
    assert pose(values["translation_m"], values["quaternion_xyzw"]) == pytest.approx(found.camera)
    assert (values["setup"], values["parent"], values["child"]) == ("eye_to_hand", "base_link", "camera_optical")
