"""The emulated board as a process between a plant and the bus."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="needs the extra `sim`")

from robot_wm.buses.framed_serial import FramedSerialBus
from robot_wm.contract import load_contract
from robot_wm.errors import BusError, RunError
from sim.cartpole import CONTRACT
from sim.link_events import Event, parse_faults
from sim.link_faults import FaultRates


def begin(*arguments):
    process = subprocess.Popen([sys.executable, "-m", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["ready"]
    return process


def end(process):
    """What the process says at its end."""
    process.terminate()
    said = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    return json.loads(said.splitlines()[-1])


@pytest.fixture
def chain(tmp_path):
    """A plant, a board in front of it, and an open bus."""
    running = []

    def start(*arguments):
        socket, link = tmp_path / "plant.sock", tmp_path / "board"
        running.append(begin("sim.plant", "--task", "cartpole_swingup", "--socket", socket))
        board = begin("sim.serial_board", "--socket", socket, "--link", link, "--watchdog", 5000, *arguments)
        running.append(board)
        options = {"timeout_s": 1.0, "open_timeout_s": 20.0, "longest_watchdog_s": 10.0}
        bus = FramedSerialBus(load_contract(CONTRACT), str(link), **options)
        bus.open()
        return bus, board, running[0]

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_command_moves_the_slider_of_the_plant_behind_the_board(chain):
    bus, board, _ = chain()
    assert bus.names == ("slider", "hinge")
    bus.enable()
    before = bus.read()
    while (state := bus.read()).velocity[0] < 0.5:
        assert state.stamp - before.stamp < 20e9
        bus.write(np.array([8.0]))
    assert state.effort[0] > 0
    assert abs(state.stamp - time.monotonic_ns()) < 5e9
    bus.close()
    counts = end(board)["device"]
    assert counts["executed"] > 0 and counts["lost"] == counts["late"] == 0


def test_faults_are_seeded_and_events_come_after_power(chain):
    bus, board, _ = chain("--faults", "duplicate=0.5,overheat@0.05=0")
    bus.enable()
    until = time.monotonic() + 20
    while bus.fault() is None:
        assert time.monotonic() < until
        bus.read()
    assert "slider: over-temperature" in bus.fault()
    bus.close()
    said = end(board)
    assert 0 < said["device"]["duplicate"] == said["to_device"]["duplicate"]


def test_a_plant_that_dies_is_a_fault_of_the_board(chain):
    bus, _, plant = chain()
    bus.enable()
    plant.kill()
    plant.wait()
    until = time.monotonic() + 20
    while bus.fault() is None:
        assert time.monotonic() < until
        bus.read()
    assert "internal error" in bus.fault()


def test_a_pulled_cable_comes_back_unpowered(chain):
    bus, board, _ = chain("--faults", "hangup@1.5,plugin@1.8")
    bus.enable()
    until, lost = time.monotonic() + 20, False
    while True:
        assert time.monotonic() < until
        try:
            bus.read()
            if lost:
                break
        except BusError:
            lost = True
    assert "lost their power" in bus.fault()
    bus.disable()
    assert bus.fault() is None
    assert end(board)["device"]["session"] == 0


def test_faults_read_like_rates_and_events():
    rates, events = parse_faults("corrupt=0.01,hangup@5,stall@3=0.5")
    assert rates == FaultRates(corrupt=0.01)
    assert events == [Event(3.0, "stall", 0.5), Event(5.0, "hangup", 0.0)]
    assert parse_faults("") == (FaultRates(), [])
    for text, said in (("melt@3", "unknown fault 'melt@3'"), ("corrupt=often", "must read"), ("drop=2", "at most 1")):
        with pytest.raises(RunError, match=said):
            parse_faults(text)


def test_a_board_without_a_plant_or_with_impossible_faults_is_one_sentence(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sim.serial_board",
        "--socket",
        "none",
        "--link",
        str(tmp_path / "b"),
        "--faults",
        "drop=2",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("serial board: rates of line faults") and len(done.stderr.splitlines()) == 1
