"""Replay says what each late observation did to the latent of the present, as late as the bag says it came."""

from types import SimpleNamespace

import numpy as np
import pytest

from bag_tools import START, record
from conftest import slider_contract
from linear_model import LinearModel
from robot_wm.errors import ContractError
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Applied, Event, JointState, Latent, Measurement
from robot_wm.replay_corrections import Change, Corrections, replay_corrections
from robot_wm.timebase import NS_PER_S

STEP = NS_PER_S // 50
SHAPE = (8, 8, 1)
SLIDER = [{"name": "position", "topic": "joint_states", "field": "position", "names": ["slider"], "unit": "m"}]
EYE = [{"name": "eye", "topic": "eye", "shape": list(SHAPE)}]


def contract_of(**changes):
    return slider_contract(observations=SLIDER, reward={"topic": ""}, **changes)


CONTRACT, SEEING = contract_of(), contract_of(images=EYE)


class SeeingModel(LinearModel):
    def encode_image(self, name, image):
        return np.stack([image.mean((1, 2, 3)), np.ones(len(image))], axis=1).astype(np.float32)

    def join(self, state, images):
        return (state + images.get("eye", 0.0)).astype(np.float32)


def model(contract=CONTRACT, kind=LinearModel):
    made = kind()
    made.bundle = SimpleNamespace(contract=contract)
    return made


def at(k):
    return START + round(k * STEP)


def position(k, value=1.0, received=None):
    message = JointState(at(k), ("slider",), np.array([value]), np.zeros(0), np.zeros(0))
    return "joint_states", message, at(k if received is None else received)


def image(k, received, value=100):
    return "eye", Measurement("eye", at(k), np.full(SHAPE, value, np.uint8)), at(received)


def applied(k, value=2.0):
    return "applied", Applied(at(k), np.array([value]), "plan:1"), at(k)


def write(path, items, contract=CONTRACT):
    return record(path, sorted(items, key=lambda item: item[2]), contract)


def test_a_late_reading_changes_the_present_by_what_is_left_of_its_correction(tmp_path):
    """This model's prior turns the latent and keeps nine tenths of it, and nothing else was measured meanwhile."""
    sent = [applied(k) for k in range(8)]
    bag = write(tmp_path / "bag", [position(0), position(3, 5.0, received=6.5), *sent])
    (change,) = replay_corrections([bag], model()).changes
    known = LatentFilter(CONTRACT, model(), start=START)
    known.observe(Measurement("position", at(0), np.array([1.0])))
    for _, command, _ in sent[:4]:
        known.applied(command)
    known.observe(Measurement("position", at(3), np.array([5.0])))
    then = known.estimate(known.grid.nearest(at(3)))
    assert (change.observation, change.steps_late, change.time_s) == ("position", 3, pytest.approx(0.13))
    assert change.rms == pytest.approx(0.9**3 * np.sqrt(np.mean((then.posterior - then.prior) ** 2)), rel=1e-5)


def test_what_comes_within_its_model_step_is_not_late_and_what_is_too_old_changes_nothing(tmp_path):
    prompt = [position(k + 0.1, received=k + 0.9) for k in range(1, 80)]
    items = [*prompt, image(30.1, 30.9), image(5, 79.5), *(applied(k) for k in range(80))]
    bag = write(tmp_path / "bag", items, SEEING)
    found = replay_corrections([bag], model(SEEING, SeeingModel))
    assert found.changes == []
    assert found.outcomes == {"accepted": 80, "too_old": 1}
    assert found.spread > 0.0 and found.latents == len(found.innovation[f"{bag}"]) == 78


@pytest.mark.parametrize("phase", [0, 2 * STEP // 3])
def test_an_image_is_as_late_as_the_bag_says_on_the_grid_of_the_recorded_latents(tmp_path, phase):
    part = phase / STEP
    items = [position(k + part) for k in range(20)] + [applied(k + part) for k in range(20)]
    items += [("latent", Latent(at(part), np.zeros(2, np.float32), "linear"), at(part))]
    items += [("event", Event(at(part), "start"), at(part))]
    items += [image(k + part, k + part + 4.8, 10 * k) for k in (4, 8, 12)]
    found = replay_corrections([write(tmp_path / "bag", items, SEEING)], model(SEEING, SeeingModel))
    assert [(c.observation, c.steps_late) for c in found.changes] == [("eye", 4)] * 3
    assert all(change.rms > 0.1 for change in found.changes)


def test_another_contract_is_refused(tmp_path):
    bag = write(tmp_path / "bag", [position(0), applied(0)])
    with pytest.raises(ContractError, match="model_hz"):
        replay_corrections([bag], model(contract_of(model_hz=25)))


def test_changes_are_told_by_name_and_lateness_in_units_of_the_spread():
    changes = [Change("bag", "eye", 0.1 * i, 4 + i % 2, 0.2 * i) for i in range(1, 6)]
    found = Corrections(changes)
    for value in (1.0, 3.0):
        found.see(np.array([value, 0.0], np.float32))
    assert found.spread == pytest.approx(np.sqrt(0.5))
    eye = found.figures()["observations"]["eye"]
    assert (eye["count"], eye["change_p50"]) == (5, pytest.approx(0.6 / np.sqrt(0.5)))
    assert {late: row["count"] for late, row in eye["by_steps_late"].items()} == {"4": 2, "5": 3}
    assert eye["by_steps_late"]["4"]["change_p50"] == pytest.approx(0.6 / np.sqrt(0.5))


def test_without_a_difference_between_latents_there_is_no_unit():
    found = Corrections([Change("bag", "eye", 0.1, 4, 0.2)])
    assert np.isnan(found.figures()["spread"]) and np.isnan(found.relative(found.changes[0]))
