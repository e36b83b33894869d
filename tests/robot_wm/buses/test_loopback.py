import numpy as np
import pytest

from conftest import slider_contract
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.errors import BusError
from robot_wm.timebase import VirtualClock


def moved(mode, command, seconds=1.0, power=True):
    """The joint after `seconds` under one command."""
    clock = VirtualClock()
    action = {"names": ["slider"], "mode": mode, "low": [-10], "high": [10]}
    bus = LoopbackBus(slider_contract(action=action), clock)
    bus.open()
    if power:
        bus.enable()
    bus.write(np.array([command]))
    for _ in range(round(seconds * 100)):
        clock.advance(10_000_000)
        state = bus.read()
    return state


def test_each_mode_moves_the_joint_its_way():
    assert moved("position", 0.5).position == pytest.approx([0.5])
    assert moved("velocity", 0.5).position == pytest.approx([0.5])
    assert moved("effort", 1.0).velocity == pytest.approx([1 - np.exp(-1)], rel=0.02)


def test_without_power_nothing_moves():
    assert moved("effort", 5.0, power=False).position == pytest.approx([0.0])
    assert moved("velocity", 5.0, power=False).position == pytest.approx([0.0])


def test_readings_are_stamped_at_capture():
    clock = VirtualClock(5)
    assert LoopbackBus(slider_contract(), clock).read().stamp == 5


def test_faults_can_be_injected():
    bus = LoopbackBus(slider_contract(), VirtualClock())
    bus.read_error, bus.write_error, bus.fault_text = "cable", "cable", "too hot"
    for call in (bus.read, bus.enable, lambda: bus.write(np.zeros(1))):
        with pytest.raises(BusError, match="cable"):
            call()
    assert bus.fault() == "too hot"
