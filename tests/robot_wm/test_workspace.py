"""The workspace box: a robot whose tip leaves it comes to rest, and a function that fails is no reason to go on."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import slider_contract
from motor_bench import Bench
from robot_wm.errors import ContractError
from robot_wm.messages import JointState
from robot_wm.state_machine import State
from robot_wm.workspace import Workspace


@pytest.fixture
def tip(monkeypatch):
    """Call with a function of the positions; returns a contract whose workspace asks it."""

    def contract(function):
        monkeypatch.setitem(sys.modules, "my_arm", SimpleNamespace(tip=function))
        box = {"function": "my_arm:tip", "low": [-0.5, -0.5, 0.0], "high": [0.5, 0.5, 1.0]}
        return slider_contract(safety={"workspace": box, "hold_s": 60.0})

    return contract


def test_a_point_outside_the_box_is_named_and_one_inside_is_not(tip):
    workspace = Workspace(tip(lambda q: [q[0], 0.0, 0.1]))
    assert workspace.breach(np.array([0.5])) == ""
    assert workspace.breach(np.array([0.6])) == "my_arm:tip is at (0.600, 0.000, 0.100), outside safety.workspace"


def test_a_function_that_is_missing_or_gives_no_point_is_refused_at_the_start(tip):
    with pytest.raises(ContractError, match="safety.workspace: my_arm:tip gives no point of three finite numbers"):
        Workspace(tip(lambda q: q))
    contract = tip(lambda q: [0.0, 0.0, 0.0])
    sys.modules["my_arm"] = SimpleNamespace()
    with pytest.raises(ContractError, match=r"safety.workspace.function: my_arm has no function 'tip'"):
        Workspace(contract)


def test_one_that_fails_later_is_a_breach(tip):
    workspace = Workspace(tip(lambda q: [0.0, 0.0, 1 / int(1 - q[0])]))
    assert workspace.breach(np.zeros(1)) == ""
    assert "my_arm:tip failed: ZeroDivisionError" in workspace.breach(np.ones(1))


def test_a_robot_that_leaves_the_box_is_damped_and_cannot_be_armed_outside(tip):
    motor = Bench(tip(lambda q: [q[0], 0.0, 0.1]))
    motor.arm()
    read = motor.bus.read
    motor.bus.read = lambda: JointState(motor.clock.now(), ("slider",), np.array([0.7]), np.zeros(1), np.zeros(0))
    assert motor.tick() is State.DAMPED
    assert "outside safety.workspace" in motor.loop.machine.cause
    assert not motor.loop.arm().success
    motor.bus.read = read
    motor.tick()
    assert motor.loop.arm().success
