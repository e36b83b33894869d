import numpy as np
import pytest

from conftest import slider_contract
from robot_wm.buses.joint_map import JointMap
from robot_wm.errors import BusError


def two_joints(mode="position"):
    names = ["a", "b"]
    observation = {
        "name": "position",
        "topic": "joint_states",
        "field": "position",
        "names": [*names, "c"],
        "unit": "rad",
    }
    action = {"names": names, "mode": mode, "unit": "rad", "low": [-9, -9], "high": [9, 9]}
    return slider_contract(observations=[observation], action=action)


def mapped(mode="position", joints=None, scale=None, offset=None, effort=None):
    return JointMap(two_joints(mode), joints, scale or {}, offset or {}, effort or {})


def test_by_default_the_boards_order_is_the_contracts():
    joints = mapped()
    assert joints.names == ("a", "b", "c")
    assert joints.motors == 2
    assert joints.command(np.array([1.0, 2.0])).tolist() == [1.0, 2.0]


def test_another_order_and_other_units_are_undone_on_the_way_back():
    joints = mapped(joints=["b", "a", "c"], scale={"b": -0.5, "a": 2.0}, offset={"b": 1.0})
    sent = joints.command(np.array([4.0, 3.0]))  # a, b
    assert sent.tolist() == [-4.0, 2.0]  # b, a
    assert joints.position(np.array([*sent, 0.0])).tolist() == [3.0, 4.0, 0.0]
    assert joints.velocity(np.array([1.0, 1.0, 1.0])).tolist() == [-0.5, 2.0, 1.0]


def test_velocity_has_no_offset_and_effort_its_own_scale():
    assert mapped("velocity", scale={"a": 2.0}, offset={"a": 5.0}).command(np.array([4.0, 1.0])).tolist() == [2.0, 1.0]
    assert mapped("effort", scale={"a": 9.0}, effort={"a": 0.5}).command(np.array([4.0, 1.0])).tolist() == [8.0, 1.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_what_is_not_finite_on_the_wire_is_refused_naming_the_joint(value):
    with pytest.raises(BusError, match="not finite for b; nothing was sent"):
        mapped().command(np.array([0.0, value]))


def test_bad_options_are_one_sentence():
    with pytest.raises(BusError, match="the first 2 of the board are c, a, but the contract's actions are a, b"):
        mapped(joints=["c", "a", "b"])
    with pytest.raises(BusError, match="different names"):
        mapped(joints=["a", "b", "a"])
    with pytest.raises(BusError, match="position_scale names elbow"):
        mapped(scale={"elbow": 1.0})
    with pytest.raises(BusError, match="not zero"):
        mapped(effort={"a": 0.0})
    with pytest.raises(BusError, match=r"shape \(3,\) is not \(2,\)"):
        mapped().command(np.zeros(3))
