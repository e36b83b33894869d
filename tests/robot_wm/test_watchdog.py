"""The watchdog judges the beats in its pipe; and as a process it cuts the power of a bus whose owner is gone or hangs."""

import os
import signal
import subprocess
import sys
from threading import Timer

import pytest

from conftest import slider_contract
from robot_wm import watchdog
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.errors import BusError
from robot_wm.watchdog import FAREWELL, POWERED, UNPOWERED, cut_power, standby, watch

OWNER = """
import sys, time
from robot_wm.buses.base import open_bus
from robot_wm.watchdog import Watchdog
from sim.tasks import make_task
contract, options = make_task("cartpole_swingup").contract, {"socket": sys.argv[1]}
bus = open_bus("mujoco", contract, **options)
watchdog = Watchdog(contract, "mujoco", options, 0.2)
bus.enable()
while True:
    watchdog.beat(True)
    bus.write([0.0])
    print("beating", flush=True)
    time.sleep(0.01)
"""


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_farewell_ends_it_powered_or_not(pipe):
    os.write(pipe[1], POWERED + FAREWELL)
    assert watch(pipe[0], 10.0) == ""


def test_silence_is_wrong_only_while_the_motors_are_powered(pipe):
    os.write(pipe[1], UNPOWERED)
    Timer(0.3, os.write, (pipe[1], POWERED)).start()  # until then nothing is wrong, however long it takes
    assert watch(pipe[0], 0.05) == "it has been silent for 0.05 s"


@pytest.mark.parametrize(
    ("beats", "wrong"),
    [(b"", ""), (UNPOWERED, ""), (POWERED + UNPOWERED, ""), (POWERED, "it has ended without switching the power off")],
)
def test_an_end_is_wrong_only_with_the_power_on(beats, wrong):
    read, write = os.pipe()
    os.write(write, beats)
    os.close(write)
    assert watch(read, 10.0) == wrong
    os.close(read)


def test_a_machine_that_stood_still_is_no_hang(pipe):
    """The clock says that the wait took much longer than asked for: the loop had no more time than the watchdog."""
    os.write(pipe[1], POWERED)
    times = iter([0.0, 0.0, 0.0, 9.0, 9.0, 9.02])  # start; a beat; a wait of 9 s instead of 0.02; one of 0.02
    assert watch(pipe[0], 0.02, lambda: next(times)) == "it has been silent for 0.02 s"
    assert list(times) == []


class SharedBus(LoopbackBus):
    SHARED = True
    opened = disabled = closed = 0
    broken = False

    def open(self):
        type(self).opened += 1

    def disable(self):
        if self.broken:
            raise BusError("the robot is gone")
        type(self).disabled += 1

    def close(self):
        type(self).closed += 1


@pytest.fixture
def opened(monkeypatch):
    """The class of the bus that is opened by the name `shared`, and a fresh count."""

    class Bus(SharedBus):
        pass

    def open_bus(name, contract):
        bus = {"shared": Bus, "own": LoopbackBus}[name](contract)
        bus.open()
        return bus

    monkeypatch.setattr(watchdog, "open_bus", open_bus)
    monkeypatch.setattr(watchdog, "bus_kind", {"shared": Bus, "own": LoopbackBus}.__getitem__)
    return Bus


def test_a_bus_that_processes_share_is_opened_ahead_and_no_other(opened):
    contract = slider_contract()
    assert standby(contract, "own", {}) is None
    ready = standby(contract, "shared", {})
    cut_power(contract, "shared", {}, ready)
    assert (opened.opened, opened.disabled, opened.closed) == (1, 1, 1)


def test_a_bus_opened_ahead_that_fails_is_opened_anew(opened, monkeypatch):
    monkeypatch.setattr(watchdog, "PAUSE_S", 0.0)
    ready = standby(slider_contract(), "shared", {})
    ready.broken = True
    cut_power(slider_contract(), "shared", {}, ready)
    assert (opened.opened, opened.disabled, opened.closed) == (2, 1, 2)


@pytest.mark.realtime
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["hangs", "dies"])
def test_the_power_is_cut_when_its_owner(number, tmp_path):
    pytest.importorskip("mujoco", reason="needs the extra `sim`")
    from sim.plant_bus import PlantControl

    socket = tmp_path / "plant.sock"
    plant = subprocess.Popen(
        [sys.executable, "-m", "sim.plant", "--task", "cartpole_swingup", "--socket", str(socket)],
        stdout=subprocess.PIPE,
    )
    assert plant.stdout is not None and plant.stdout.readline()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(socket)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None and owner.stderr is not None and owner.stdout.readline()
        control = PlantControl(str(socket))
        owner.send_signal(number)
        said = owner.stderr.read()  # until the watchdog, which inherited it, has ended
        assert owner.wait(20) == -signal.SIGKILL
        assert "killed it and cut the motors' power" in said
        assert ("silent for 0.2 s" if number == signal.SIGSTOP else "ended without switching") in said
        assert not control.status()["enabled"]
    finally:
        owner.kill()
        plant.kill()
        plant.wait()
