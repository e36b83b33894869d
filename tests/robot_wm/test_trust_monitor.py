"""Every correction judged: quiet while the model holds, surprised by what contradicts it, by silence, and by frames that repeat."""

from types import SimpleNamespace

import numpy as np
import pytest

from conftest import slider_contract
from robot_wm.latent_filter import Estimate
from robot_wm.messages import Measurement
from robot_wm.trust_ladder import Rung
from robot_wm.trust_repeats import Repeats
from trust_world import EYE, SHAPE, STEP, World, usual, usual_with_eye


def rungs(world):
    return [change.after for change in world.monitor.take_changes()]


def test_while_the_model_holds_every_statistic_is_about_one_and_nothing_is_alarmed():
    world = World(usual())
    world.run(2000)
    for source in ("position", "velocity", "position blind", "velocity blind"):
        values = [row[source] for row in world.statistics if source in row]
        assert np.mean(values) == pytest.approx(1.0, rel=0.25), source
    assert world.monitor.figures.alarms == 0
    assert world.monitor.figures.summary()["share"]["normal"] == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda values, k: -values,
        lambda values, k: np.array([0.3, 0.2]),
        lambda values, k: values + [0.05 * (-1) ** k, 0.0],
    ],
    ids=["wrong sign", "frozen", "noisy"],
)
def test_wrong_measurements_are_noticed_within_half_a_second(wrong):
    world = World(usual(), seed=3)
    world.run(100)
    assert world.monitor.rung is Rung.NORMAL
    world.run(25, wrong)
    assert world.monitor.rung > Rung.NORMAL


def test_a_robot_that_answers_otherwise_than_the_model_is_noticed_though_its_sensors_are_right():
    world = World(usual(), seed=1)
    world.run(100)
    world.push *= 0.8
    world.run(50)
    assert world.monitor.rung > Rung.NORMAL


def test_one_wild_reading_is_no_alarm():
    world = World(usual(), seed=5)
    world.run(100)
    world.run(1, lambda values, k: values + 100.0)
    world.run(20)
    assert world.monitor.figures.alarms == 0


def test_trust_climbs_rung_by_rung_while_the_contradiction_lasts_and_comes_back_after_it():
    world = World(usual(limit=30.0))
    world.run(50)
    world.run(60, lambda values, k: -values - 1.0)
    assert rungs(world) == [Rung.CAUTIOUS, Rung.POLICY, Rung.HOLD]
    world.run(500)
    assert rungs(world) == [Rung.POLICY, Rung.CAUTIOUS, Rung.NORMAL]


def test_silence_is_evidence_by_name_and_grows_with_time():
    world = World(usual())
    world.run(50)
    verdict = world.run(3, seen=False)
    assert verdict.levels["velocity silent"] == 0.0
    levels = [world.run(1, seen=False).levels["velocity silent"] for _ in range(40)]
    assert levels == sorted(levels) and levels[0] >= 1.0
    assert world.monitor.ladder.cause.startswith(("position silent", "velocity silent"))
    assert world.monitor.rung is Rung.HOLD


def test_after_an_outage_the_prediction_is_judged_by_how_long_it_was_blind():
    world = World(usual())
    world.run(100)
    world.run(10, seen=False)
    world.run(100)
    sources = {source for _, source in world.monitor.figures.alarms_at}
    assert sources <= {"position silent", "velocity silent"}


def test_what_comes_late_is_judged_at_its_own_instant():
    world = World(usual())
    world.run(50)
    late = Measurement("position", 45 * STEP - 1, np.array([5.0]))
    known = world.filter.estimate(45).measured["position"]
    world.hear(late)
    assert world.filter.estimate(45).measured["position"] is known  # nearer to the instant: nothing to judge
    world.run(1, seen=False)
    world.hear(Measurement("position", 50 * STEP, world.state[:1] + 5.0))
    before = world.monitor.judge(world.filter, 51 * STEP)
    assert before.statistics["position"] > 1e5


def test_when_a_contradiction_first_shows_and_when_trust_is_back_are_counted():
    world = World(usual(limit=30.0))
    world.run(50)
    assert world.monitor.figures.normal_at == []
    healthy = len(world.outliers_at)
    world.run(12, lambda values, k: -values - 1.0)
    (at, source), *_ = world.outliers_at[healthy:]
    assert at == 50 * STEP and source in ("position", "velocity")  # the first reading shows it; an alarm takes several
    assert world.monitor.figures.alarms_at[0][0] > at
    world.run(500)
    (back,) = world.monitor.figures.normal_at
    assert back > world.monitor.figures.alarms_at[0][0] + 1e9


def test_a_new_episode_forgets_everything():
    world = World(usual())
    world.run(60, lambda values, k: -values - 1.0 if k > 30 else values)
    assert world.monitor.rung is not Rung.NORMAL
    world.monitor.restart(world.k * STEP)
    assert world.monitor.rung is Rung.NORMAL
    assert world.monitor.judge(world.filter, world.k * STEP).level == 0.0


# Images: brightness stands for what the camera sees of the scene.


def seeing():
    return World(usual_with_eye(), slider_contract(images=[EYE]))


def film(
    world, frames, brightness=lambda world: 128 + round(255 * world.filter.estimate(world.k - 1).posterior[2] / 8)
):
    """A frame every second instant, each two instants late."""
    for _ in range(frames):
        world.run(2)
        world.look(brightness(world), at=world.k - 2)
    return world.run(1)


def test_an_image_that_agrees_changes_little_and_one_that_does_not_is_noticed():
    world = seeing()
    film(world, 40, lambda w: 100 + w.k % 3)
    assert world.levels[-1] < 1.0
    film(world, 6, lambda w: 250 if w.k % 4 < 2 else 0)
    assert world.monitor.rung > Rung.NORMAL
    assert world.monitor.figures.alarms_at[0][1] == "eye"


def test_frames_that_repeat_are_noticed_while_the_scene_moves_and_not_while_it_stands():
    world = seeing()
    world.run(20)
    film(world, 3, lambda w: 100 + w.k % 3)
    verdict = film(world, 8, lambda w: 100)
    assert verdict.levels["eye frozen"] >= 1.0
    verdict = film(world, 1, lambda w: 101)
    assert verdict.levels["eye frozen"] == 0.0
    world.monitor._repeats["eye"].still = 10.0  # nothing here moves as much
    verdict = film(world, 8, lambda w: 101)
    assert verdict.levels["eye frozen"] == 0.0


def test_frames_that_repeat_while_the_scene_creeps_are_noticed_too():
    repeats = Repeats("eye", still=0.055, limit=3)
    for k in range(12):
        frame = Measurement("eye", k * STEP, np.full(SHAPE, 7, np.uint8))
        estimate = Estimate(np.full(3, 0.01 * k, np.float32), np.zeros(3, np.float32), {"eye": frame})
        repeats.see(SimpleNamespace(estimate=lambda _, estimate=estimate: estimate), k)
        assert repeats.count == max(0, k - 5)  # then 0.06 from the first, always 0.01 from the one before


def test_a_robot_that_holds_because_frames_repeat_is_not_held_by_them_for_ever():
    world = seeing()
    world.run(20)
    film(world, 3, lambda w: 100 + w.k % 3)
    film(world, 14, lambda w: 100)
    assert world.monitor.rung is Rung.HOLD
    film(world, 60, lambda w: 100)
    kinds = [change.after for change in world.monitor.changes]
    assert Rung.POLICY in kinds[kinds.index(Rung.HOLD) :]  # it moves again, and is held again: the frames still repeat


@pytest.mark.parametrize("source", ["disarmed", "hold", "damp", "estop"])
def test_at_rest_only_silence_counts(source):
    world = seeing()
    world.source = source
    world.run(60)
    film(world, 14, lambda w: 100)
    world.run(20, lambda values, k: -values - 1.0)  # pushed by hand, turned round, anything
    assert {change.cause.split(" ")[1] for change in world.monitor.changes if change.cause} <= {"silent", "for"}
    world.run(40)
    assert world.levels[-1] > 1.0 and world.monitor.rung > Rung.NORMAL  # the camera has been silent since


def test_what_surprised_is_forgotten_at_rest():
    world = World(usual())
    world.run(60)
    world.run(15, lambda values, k: -values - 1.0)
    assert world.monitor.rung > Rung.NORMAL
    world.source = "hold"
    verdict = world.run(300, lambda values, k: -values - 1.0)
    assert world.monitor.rung is Rung.NORMAL
    assert all(source.endswith("silent") for source in verdict.statistics)


def test_a_camera_that_goes_silent_shows_while_the_joints_go_on():
    world = seeing()
    world.run(20)
    film(world, 10, lambda w: 100 + w.k % 3)
    assert world.monitor.judge(world.filter, world.k * STEP).statistics["eye silent"] <= 1.0
    silence = [world.run(1) for _ in range(8)]
    assert silence[-1].levels["eye silent"] >= 1.0 > silence[-1].levels["position silent"]
    shown = [verdict.statistics["eye silent"] > 1.0 for verdict in silence]
    assert shown == ["eye silent" in verdict.outliers for verdict in silence]
    alarmed = [verdict.levels["eye silent"] >= 1.0 for verdict in silence]
    assert shown.index(True) + 1 == alarmed.index(True)  # a model step of grace
