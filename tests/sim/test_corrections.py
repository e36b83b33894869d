"""Late observations under a model that is true: exact correction knows the present, the baselines do not."""

import numpy as np
import pytest

from integrator import LIMIT, IntegratorModel, IntegratorTask, integrator_contract
from robot_wm.errors import RunError
from robot_wm.messages import Applied, Measurement
from robot_wm.timebase import NS_PER_S
from sim.agents import WorldModelAgent
from sim.corrections import CORRECTIONS, Exact, Hold, Naive, correction_named
from sim.disturbance import Disturbance
from sim.lockstep import run_episode

STEP = NS_PER_S // 50
LATE = Disturbance(perception_delay_s=0.06)
WAIT = 3  # model steps until the first reading has come
SHAPE = (8, 8, 1)
EYE = {"name": "eye", "topic": "camera/image_raw", "shape": list(SHAPE)}


def planned_from(correction, disturbance=None, task=None, model=IntegratorModel):
    """Where each plan began, and where the plant was then."""
    task = task or IntegratorTask()
    model = model(task.contract)
    run_episode(task, WorldModelAgent(task.contract, model, correction=correction), 3, disturbance)
    return np.array(model.planned_from), np.array(task.states[:-1:2])


def test_exact_correction_of_what_is_late_plans_from_the_latent_that_no_delay_gives():
    prompt, truth = planned_from(Exact)
    late, _ = planned_from(Exact, LATE)
    np.testing.assert_allclose(prompt, truth, atol=1e-6)
    np.testing.assert_allclose(late[WAIT:], prompt[WAIT:], atol=1e-6)


@pytest.mark.parametrize("correction", [Naive, Hold])
def test_a_baseline_plans_from_where_the_plant_was(correction):
    late, truth = planned_from(correction, LATE)
    np.testing.assert_allclose(late[WAIT:], truth[:-WAIT], atol=1e-6)
    assert np.abs(late[WAIT:] - truth[WAIT:]).mean() > 0.01


@pytest.mark.parametrize("correction", CORRECTIONS.values())
def test_what_is_not_late_is_corrected_alike(correction):
    found, truth = planned_from(correction)
    np.testing.assert_allclose(found, truth, atol=1e-6)


def test_exact_correction_suffers_least_from_jitter_and_loss():
    """Readings between two instants count for the later one, whose age this model does not read: half a step of motion."""
    rough = Disturbance(0.06, 0.02, 0.3)
    errors = {}
    for name, correction in CORRECTIONS.items():
        found, truth = planned_from(correction, rough, IntegratorTask(length=600))
        errors[name] = np.abs(found - truth)[10:].max()
    assert errors["exact"] < LIMIT * 0.01 + 1e-6 < 0.1 < min(errors["naive"], errors["hold"])


def test_of_naive_arrivals_in_one_step_the_last_counts():
    contract = integrator_contract()
    naive = Naive(contract, IntegratorModel(contract))
    naive.reset(0)
    for captured in (3, 2):
        naive.observe(Measurement("x", captured * STEP, np.array([float(captured)])), now=10 * STEP)
    latent = naive.latent(10 * STEP)
    assert (latent.stamp, latent.values.tolist()) == (10 * STEP, [2.0])
    assert naive.filter.outcomes == {"accepted": 2}


class SeenModel(IntegratorModel):
    """Latent (x, y): the camera's pictures show x, y is measured; both integrate the command."""

    def __init__(self, contract):
        super().__init__(contract)
        self.initial_latent = np.zeros(2, np.float32)

    def encode_image(self, name, image):
        return image.mean((1, 2, 3))[:, None].astype(np.float32)

    def join(self, state, images):
        return np.concatenate([images.get("eye", 0.0 * state), state], axis=1)

    def posterior(self, prior_latent, embedding, mask):
        return np.where(mask[:, ::-1] > 0, embedding, prior_latent).astype(np.float32)


def watching(correction):
    """After an image of x = 100 at instant 5 that came at 8, y = its instant all along, and a command of 1 m/s."""
    contract = integrator_contract(images=[EYE])
    found = correction(contract, SeenModel(contract))
    found.reset(0)
    for k in range(9):
        found.observe(Measurement("x", k * STEP, np.array([float(k)])), now=k * STEP)
        if k == 8:
            found.observe(Measurement("eye", 5 * STEP, np.full(SHAPE, 100, np.uint8)), now=k * STEP)
        found.filter.applied(Applied(k * STEP, np.array([1.0]), "plan:1"))
    return found


@pytest.mark.parametrize(
    ("correction", "seen"), [(Exact, 100.0 + 3 * 0.02), (Naive, 100.0), (Hold, 100.0)], ids=CORRECTIONS
)
def test_a_late_image_is_rewound_or_taken_for_current_or_held_beside_the_newest_reading(correction, seen):
    latent = watching(correction).latent(8 * STEP)
    assert latent.stamp == 8 * STEP
    np.testing.assert_allclose(latent.values, [seen, 8.0], rtol=1e-6)


def test_until_an_image_comes_the_start_is_held_and_one_older_than_the_history_stays():
    contract = integrator_contract(images=[EYE])
    hold = Hold(contract, SeenModel(contract))
    hold.reset(0)
    hold.filter.applied(Applied(0, np.array([1.0]), "plan:1"))
    hold.observe(Measurement("x", 4 * STEP, np.array([4.0])), now=4 * STEP)
    np.testing.assert_allclose(hold.latent(4 * STEP).values, [0.0, 4.0])
    hold = watching(Hold)
    for k in range(9, 200):
        hold.observe(Measurement("x", k * STEP, np.array([float(k)])), now=k * STEP)
        held = hold.latent(k * STEP)
    assert hold.filter.estimate(5) is None
    assert (held.stamp, held.values.tolist()) == (199 * STEP, [100.0, 199.0])


def test_an_unknown_way_is_refused_with_those_there_are():
    assert correction_named("hold") is Hold
    with pytest.raises(RunError, match="no way of correcting 'best'; there are exact, naive, hold"):
        correction_named("best")
