from importlib.metadata import EntryPoint

import pytest

from conftest import slider_contract
from robot_wm.buses import base
from robot_wm.errors import BusError


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    entries = {
        base.BUSES: [
            EntryPoint("loopback", "robot_wm.buses.loopback:LoopbackBus", base.BUSES),
            EntryPoint("vendor", "no_such_vendor_package:Bus", base.BUSES),
        ],
        base.SENSORS: [],
    }
    monkeypatch.setattr(base, "entry_points", lambda group: entries[group])


def test_a_bus_is_opened_by_name():
    bus = base.open_bus("loopback", slider_contract())
    assert bus.names == ("slider",)


def test_an_unknown_bus_lists_those_that_are_installed():
    with pytest.raises(BusError, match="unknown motor bus 'canbus'; installed are loopback, vendor"):
        base.open_bus("canbus", slider_contract())


def test_an_unknown_sensor_stream_says_that_there_is_none():
    with pytest.raises(BusError, match="unknown sensor stream 'lidar'; installed are none"):
        base.open_sensors("lidar", slider_contract())


def test_a_driver_whose_library_is_missing_says_which():
    with pytest.raises(BusError, match="no_such_vendor_package"):
        base.open_bus("vendor", slider_contract())


def test_an_unknown_option_is_named_beside_the_known_ones():
    with pytest.raises(BusError, match=r"unexpected keyword argument 'port'; its options are clock"):
        base.open_bus("loopback", slider_contract(), port="/dev/ttyUSB0")
