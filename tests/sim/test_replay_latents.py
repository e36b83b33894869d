"""Recorded latents are made again from the bag, and only by the model that made them."""

from types import SimpleNamespace

import pytest

from integrator import IntegratorModel, IntegratorTask
from robot_wm.bags.writer import BagWriter
from robot_wm.replay_latents import TOLERANCE, replay_latents
from robot_wm.timebase import VirtualClock
from sim.agents import WorldModelAgent
from sim.lockstep import run_episode


def model(contract, name="integrator"):
    made = IntegratorModel(contract)
    made.bundle_id, made.bundle = name, SimpleNamespace(contract=contract)
    return made


@pytest.fixture
def task():
    return IntegratorTask(length=400)


@pytest.fixture
def bag(task, tmp_path):
    agent = WorldModelAgent(task.contract, model(task.contract), publish=True)
    with BagWriter(tmp_path / "bag", task.contract, clock=VirtualClock(), sync=False) as writer:
        run_episode(task, agent, 3, writer=writer)
    return tmp_path / "bag"


def test_recorded_latents_are_made_again_exactly(task, bag):
    figures = replay_latents([bag], {"integrator": model(task.contract)})
    assert figures["latents"] == figures["reproduced"] == figures["identical"] > 100
    assert figures["max_difference"] == 0.0 and figures["not_reproduced"] == {}


def test_another_model_does_not_make_them(task, bag):
    other = model(task.contract)
    right = other.posterior
    other.posterior = lambda *inputs: right(*inputs) + 0.1
    figures = replay_latents([bag], {"integrator": other})
    assert figures["reproduced"] == 0 and figures["max_difference"] > TOLERANCE
    assert figures["not_reproduced"] == {f"differs by more than {TOLERANCE:g}": figures["latents"]}


def test_a_bundle_that_was_not_given_is_named(task, bag):
    figures = replay_latents([bag], {"other": model(task.contract, "other")})
    assert figures["reproduced"] == 0 and figures["max_difference"] is None
    assert figures["not_reproduced"] == {"bundle integrator was not given": figures["latents"]}
