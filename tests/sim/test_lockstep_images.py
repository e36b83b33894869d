"""Images on the virtual clock: a camera runs free, its pictures come late, jittery or not at all, and the bag says when."""

import numpy as np
import pytest

from integrator import IntegratorModel, IntegratorTask
from robot_wm.bags.align import align
from robot_wm.bags.image_series import delays, read_images
from robot_wm.bags.reader import open_bag
from robot_wm.bags.writer import BagWriter
from robot_wm.messages import Measurement
from robot_wm.timebase import NS_PER_S, VirtualClock
from sim.agents import RandomAgent, WorldModelAgent
from sim.disturbance import Disturbance
from sim.lockstep import START, run_episode

SHAPE = (8, 8, 1)
EYE = {"name": "eye", "topic": "camera/image_raw", "shape": list(SHAPE), "rate_hz": 25.0, "delay_s": 0.08}


class SeenIntegrator(IntegratorTask):
    """A camera whose pictures tell the step at which they were taken."""

    def __init__(self, **options):
        super().__init__(images=[EYE], **options)

    def capture(self, name, stamp):
        assert name == "eye"
        return Measurement(name, stamp, np.full(SHAPE, len(self.commands) % 256, np.uint8))


class Listener(RandomAgent):
    def reset(self, start, seed):
        super().reset(start, seed)
        self.seen = []

    def observe(self, measurement, now):
        if measurement.name == "eye":
            self.seen.append((measurement.stamp, now, int(measurement.values[0, 0, 0])))


def watch(seed=3, disturbance=None, **options):
    task = SeenIntegrator(**options)
    agent = Listener(task.contract)
    run_episode(task, agent, seed, disturbance)
    return agent.seen


def late(seen):
    return [(now - stamp) / NS_PER_S for stamp, now, _ in seen]


def test_pictures_come_at_the_cameras_rate_as_late_as_the_contract_expects():
    seen = watch()
    assert set(late(seen)) == {0.08}
    assert set(np.diff([stamp for stamp, _, _ in seen])) == {NS_PER_S // 25}
    assert len(seen) == (60 - 8 + 3 - seen[0][2] % 4) // 4  # those of the last 80 ms are still on their way
    assert all((stamp - seen[0][0]) * 100 // NS_PER_S == step - seen[0][2] for stamp, _, step in seen)


def test_the_camera_begins_at_a_moment_of_its_own():
    assert len({watch(seed)[0][2] for seed in range(12)}) == 4


def test_the_same_seed_gives_the_same_pictures_at_the_same_times():
    link = Disturbance(image_jitter_s=0.02, image_dropout=0.3)
    assert watch(5, link) == watch(5, link) != watch(6, link)


def test_delay_jitter_and_dropout_of_images_are_absolute_and_their_own():
    assert set(late(watch(disturbance=Disturbance(image_delay_s=0.0)))) == {0.0}
    assert set(late(watch(disturbance=Disturbance(perception_delay_s=0.04, dropout=1.0)))) == {0.08}
    assert watch(disturbance=Disturbance(image_dropout=1.0)) == []
    jittery = late(watch(disturbance=Disturbance(image_jitter_s=0.02), length=2000))
    assert np.mean(jittery) == pytest.approx(0.085, abs=0.004)  # and up to the next control step
    assert np.std(jittery) == pytest.approx(0.02, abs=0.003)


def test_a_hidden_camera_sends_nothing_for_that_long_once_at_a_moment_of_the_episodes_own():
    gaps, moments = set(), set()
    for seed in range(8):
        whole, seen = watch(seed), watch(seed, Disturbance(occlude_s=0.16))
        missing = sorted(set(whole) - set(seen))
        assert set(seen) < set(whole)
        assert len(missing) <= 4  # of those that would have arrived by the end
        moments |= {missing[0][0]} if missing else set()
        gaps |= {missing[i + 1][0] - missing[i][0] for i in range(len(missing) - 1)}
    assert gaps == {NS_PER_S // 25}
    assert len(moments) > 3


def test_what_other_readings_meet_does_not_change_with_a_camera():
    seen = []
    for task in (SeenIntegrator(), IntegratorTask()):
        agent = Listener(task.contract)
        agent.observe = lambda m, now: seen.append((m.name, m.stamp, now)) if m.name != "eye" else None
        run_episode(task, agent, 3, Disturbance(perception_delay_s=0.05, jitter_s=0.02, dropout=0.2))
    assert seen[: len(seen) // 2] == seen[len(seen) // 2 :]


def test_a_bag_holds_each_picture_with_its_capture_and_its_arrival(tmp_path):
    task = SeenIntegrator()
    agent = Listener(task.contract)
    with BagWriter(tmp_path / "bag", task.contract, clock=VirtualClock(START), sync=False) as writer:
        run_episode(task, agent, 3, writer=writer)
    found = read_images(open_bag(tmp_path / "bag"), task.contract.images[0])
    assert found.pixels[:, 0, 0, 0].tolist() == [step for _, _, step in agent.seen]
    assert found.series.stamps.tolist() == [stamp for stamp, _, _ in agent.seen]
    assert delays(found.series) == pytest.approx(0.08)
    (episode,) = align(tmp_path / "bag", task.contract)
    assert episode.mask[:, 1].sum() == len(agent.seen)


class SeeingModel(IntegratorModel):
    def __init__(self, contract):
        super().__init__(contract)
        self.encoded = []

    def encode_image(self, name, image):
        self.encoded.append(int(image[0, 0, 0, 0]))
        return np.zeros((1, 1), np.float32)

    def join(self, state, images):
        return state

    def posterior(self, prior_latent, embedding, mask):
        return super().posterior(prior_latent, embedding, mask[:, :1])


def test_the_world_models_agent_corrects_itself_with_every_picture_once():
    task = SeenIntegrator()
    model = SeeingModel(task.contract)
    agent = WorldModelAgent(task.contract, model, publish=True)
    run_episode(task, agent, 3)
    assert model.encoded == [step for _, _, step in watch()]
    assert agent._filter.outcomes["accepted"] + agent._filter.outcomes["superseded"] == 60 + len(model.encoded)
