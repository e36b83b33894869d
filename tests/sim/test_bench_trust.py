"""Trust in the closed loop: fitted on healthy bags, quiet in health, alarmed by a fault, and honest figures of both."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from integrator import IntegratorModel, IntegratorTask
from robot_wm.bags.reader import open_bag
from robot_wm.bags.writer import BagWriter
from robot_wm.errors import BagError, BundleError
from robot_wm.info import CorrectionInfo, PlanInfo
from robot_wm.run_figures import run_figures
from robot_wm.timebase import VirtualClock
from robot_wm.trust_fit import ENOUGH_S, fit_trust
from robot_wm.trust_ladder import Answers
from sim import bench_trust
from sim.agents import WorldModelAgent
from sim.bench_trust import NONE, Outcome, Setting, Trial, draw_fault, run_trial, summarise, trials_for, wilson
from sim.disturbance import Disturbance
from sim.exploration import Exploring
from sim.lockstep import run_episode

ZOO = Path(__file__).parents[2] / "models" / "zoo"
NOISE = 0.002


class NoisyTask(IntegratorTask):
    """Reads its position with noise; from `breaks_at` on, negated."""

    breaks_at = 10**9

    def reset(self, seed):
        super().reset(seed)
        self.rng = np.random.default_rng(seed)

    def read(self, stamp=0):
        sign = 1.0 if len(self.commands) < self.breaks_at else -1.0
        return [
            type(m)(m.name, stamp, sign * m.values + NOISE * self.rng.standard_normal(1)) for m in super().read(stamp)
        ]


class ReadModel(IntegratorModel):
    def __init__(self, contract):
        super().__init__(contract)
        self.bundle = SimpleNamespace(contract=contract)

    def readout(self, latent):
        return latent


def record(path, task, seed, **options):
    agent = WorldModelAgent(task.contract, ReadModel(task.contract), publish=True, **options)
    with BagWriter(path, task.contract, clock=VirtualClock(), sync=False) as writer:
        run_episode(task, agent, seed, writer=writer)
    return agent


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder, task = tmp_path_factory.mktemp("healthy"), NoisyTask(length=3500)
    paths = [folder / f"{seed}" for seed in range(2)]
    for seed, path in enumerate(paths):
        record(path, task, seed)
    assert ENOUGH_S < 2 * 35.0
    return fit_trust(paths, ReadModel(task.contract))


def test_what_is_fitted_is_what_the_world_is_like(spec):
    usual = spec.modalities["x"]
    for steps in (1, spec.blind_steps):  # its model is exact, however far it predicts and however fast it moves
        np.testing.assert_allclose(usual.scale[steps].error, np.sqrt(2) * NOISE, rtol=0.35)
    assert usual.innovation.usual == pytest.approx(
        1.4, rel=0.15
    )  # of medians of a chi square with one degree of freedom
    assert usual.silent_s == pytest.approx(0.06)


def test_too_little_says_nothing_of_what_is_rare(tmp_path):
    task = NoisyTask(length=200)
    record(tmp_path / "short", task, 0)
    with pytest.raises(BagError, match=r"the bags hold 2 s of motion; 60 s or more are needed"):
        fit_trust([tmp_path / "short"], ReadModel(task.contract))


def test_health_is_quiet_and_a_fault_is_answered_in_the_bag_too(spec, tmp_path):
    task = NoisyTask(length=1000)
    agent = record(tmp_path / "healthy", task, 5, trust=spec)
    assert agent.trust.figures.summary() == {
        "share": {"normal": 1.0, "cautious": 0.0, "policy": 0.0, "hold": 0.0},
        "alarms": 0,
        "sources": {},
    }
    task.breaks_at = 300
    agent = record(tmp_path / "faulty", task, 5, trust=spec)
    assert agent.trust.figures.alarms >= 1
    bag = open_bag(tmp_path / "faulty")
    infos = bag.infos("correction_info", CorrectionInfo)
    first = next(stamp for stamp, info in infos if info.trust != "normal")
    assert 0.0 <= (first - infos[0][0]) / 1e9 - 3.0 <= 1.0
    assert bag.events("trust")[0].kind == "cautious" and bag.events("trust")[0].note.startswith("x")
    planned = {info.trust: (info.searched, info.doubt) for _, info in bag.infos("plan_info", PlanInfo)}
    assert planned["normal"] == (-1, 0.0)
    assert planned["cautious"] == (1, 1.0)
    figures = run_figures(bag, task.contract)
    assert figures["trust"]["alarms"] >= 1 and figures["trust"]["share"]["normal"] < 1.0


def test_on_hold_nothing_is_planned_and_watching_changes_nothing(spec):
    task = NoisyTask(length=800)
    task.breaks_at = 300
    watching = WorldModelAgent(task.contract, ReadModel(task.contract), trust=spec, answers=Answers(watch_only=True))
    run_episode(task, watching, 2)
    plain = WorldModelAgent(task.contract, ReadModel(task.contract))
    sent = list(task.commands)
    run_episode(task, plain, 2)
    assert task.commands == sent and watching.trust.figures.alarms >= 1


def test_an_outage_shows_as_silence(spec):
    task = NoisyTask(length=400)
    agent = WorldModelAgent(task.contract, ReadModel(task.contract), trust=spec)
    run_episode(task, agent, 1, Disturbance(dropout=0.9))
    assert "x silent" in agent.trust.figures.summary()["sources"]


# Figures of many trials


def test_trials_are_random_moments_that_leave_time_to_notice():
    task = NoisyTask(length=1000)
    todo = trials_for(task, trials=20, healthy_s=25.0, seed=4)
    assert [t.seed for t in todo if t.fault == NONE] == [4, 5, 6]
    faults = [draw_fault(task, trial, 1.0) for trial in todo if trial.fault == "payload"]
    moments = [fault.at_s for fault in faults]
    assert len(set(moments)) == 20 and min(moments) >= 1.5 and max(moments) <= 9.0
    assert draw_fault(task, todo[-1], 1.0) == draw_fault(task, todo[-1], 1.0)


def test_the_summary_counts_what_was_noticed_and_what_was_nothing():
    def outcome(fault, seed, after=None, alarms=0):
        return Outcome(Trial(fault, seed), 100.0, alarms, after, "" if after is None else "x")

    figures = summarise([
        outcome("noise", 0, 0.1), outcome("noise", 1, 0.3), outcome("noise", 2), outcome(NONE, 0, alarms=1),
    ])  # fmt: skip
    noise = figures["faults"]["noise"]
    assert (noise["trials"], noise["detected"], noise["after"]) == (3, 2, {"s_p50": 0.2, "s_max": 0.3})
    assert noise["sources"] == {"x": 2}
    assert figures["healthy"] == {"seconds": 400.0, "false_alarms": 1, "false_alarms_in_ten_minutes": 1.5}


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"), [(10, 10, 0.722, 1.0), (0, 10, 0.0, 0.278), (95, 100, 0.888, 0.978)]
)
def test_the_interval_of_a_share_is_wilsons(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-3)


def test_noise_keeps_the_robot_of_a_trial_moving(monkeypatch):
    driven = []

    def watched(task, agent, *rest):
        driven.append(agent)
        task.length = 160
        return run_episode(task, agent, *rest)

    monkeypatch.setattr(bench_trust, "run_episode", watched)
    for noise in (0.0, 0.3):
        run_trial(Setting(ZOO / "cartpole_camera", planner="policy", noise=noise), Trial(NONE, 2))
    assert isinstance(driven[0], WorldModelAgent)
    assert isinstance(driven[1], Exploring) and 0.0 < driven[1].strength <= 0.3


def test_a_bundle_without_a_fit_is_refused_with_what_makes_one():
    with pytest.raises(BundleError, match=r"cartpole_swingup: has no trust\.yaml.*`robot-wm trust fit` makes one"):
        run_trial(Setting(ZOO / "cartpole_swingup"), Trial("wrong_sign", 2))
