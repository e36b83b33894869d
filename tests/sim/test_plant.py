"""The plant as users meet it: a real process on a real socket. Nothing here judges how punctual the machine is."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from robot_wm.buses.base import open_bus, open_sensors
from robot_wm.contract import load_contract
from robot_wm.errors import BusError, ContractError
from robot_wm.motor_loop import MotorLoop
from robot_wm.state_machine import POWERED, State
from sim.cartpole import CONTRACT
from sim.plant_bus import PlantBus, PlantControl, PlantSensors
from sim.tasks import make_task

PUSHER = """
import sys, numpy as np
from robot_wm.contract import load_contract
from sim.cartpole import CONTRACT
from sim.plant_bus import PlantBus
bus = PlantBus(load_contract(CONTRACT), sys.argv[1])
bus.open()
bus.enable()
while True:
    bus.write(np.array([3.0]))
    if bus.read().effort[0] > 2.0:
        print("pushing", flush=True)
"""


@pytest.fixture(scope="module")
def contract():
    return load_contract(CONTRACT)


@pytest.fixture
def plant(tmp_path):
    """A running plant; gives its process and its socket."""
    path = str(tmp_path / "plant.sock")
    process = start(path)
    yield process, path
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The socket of a plant for tests that leave it running."""
    path = str(tmp_path_factory.mktemp("plant") / "plant.sock")
    process = start(path)
    yield path
    process.kill()
    process.wait()
    process.stdout.close()


def start(path, task="cartpole_swingup"):
    arguments = [sys.executable, "-m", "sim.plant", "--task", task, "--socket", path]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["ready"]
    return process


def opened(kind, contract, path, **options):
    result = kind(contract, path, timeout_s=5.0, **options)
    result.open()
    return result


def read_until(bus, condition, write=None):
    """Readings up to the first that meets the condition; fails after 20 s of the plant's own time."""
    states = [bus.read()]
    while not condition(states[-1]):
        assert states[-1].stamp - states[0].stamp < 20e9
        if write is not None:
            bus.write(np.array([write]))
        states.append(bus.read())
    return states


def test_a_command_moves_the_slider_and_stamps_only_go_forward(contract, shared):
    PlantControl(shared).reset(seed=0)
    bus = opened(PlantBus, contract, shared)
    assert bus.names == ("slider", "hinge")
    assert abs(bus.read().position[0]) < 0.1
    bus.enable()
    states = read_until(bus, lambda s: s.position[0] > 0.3, write=8.0)
    stamps = [s.stamp for s in states]
    assert stamps == sorted(stamps)
    assert states[-1].velocity[0] > 0
    assert abs(stamps[-1] - time.monotonic_ns()) < 5e9  # the machine's monotonic clock
    assert bus.fault() is None


def test_when_its_client_is_killed_physics_goes_on_and_the_watchdog_lets_go(contract, shared):
    client = subprocess.Popen([sys.executable, "-c", PUSHER, shared], stdout=subprocess.PIPE, text=True)
    assert client.stdout.readline() == "pushing\n"
    client.kill()
    client.wait()
    client.stdout.close()
    control = PlantControl(shared)
    steps = control.status()["steps"]
    bus = opened(PlantBus, contract, shared)
    states = read_until(bus, lambda s: s.effort[0] == 0.0)
    assert read_until(bus, lambda s: s.stamp > states[-1].stamp + 2e8)[-1].effort[0] == 0.0
    status = control.status()
    assert status["steps"] > steps
    assert status["watchdog_tripped"]


def test_sensors_get_every_sample_while_another_client_resets_and_stops(contract, plant):
    sensors = opened(PlantSensors, contract, plant[1])
    control = PlantControl(plant[1])
    assert control.describe()["streams"] == ["reward"]
    assert control.reset(seed=5)["steps"] == 0
    samples = []
    while len(samples) < 50:
        samples += sensors.poll()
    assert {topic for topic, _, _ in samples} == {"reward"}
    steps = np.diff([stamp for _, stamp, _ in samples]) / 1e7
    skipped = control.status().get("skipped_steps", 0)  # on a machine that was away for half a second
    assert (set(steps) == {1.0}) if skipped == 0 else (steps.sum() - len(steps) <= skipped)
    assert sensors.lost == 0
    assert control.stop()["seed"] == 5
    assert plant[0].wait(20) == 0
    assert json.loads(plant[0].stdout.read())["task"] == "cartpole_swingup"
    with pytest.raises(BusError):
        while True:
            sensors.poll()


def test_one_seed_starts_one_episode(contract, shared):
    control, bus = PlantControl(shared), opened(PlantBus, contract, shared)
    bus.disable()
    control.reset(seed=7)
    first = bus.read()
    task = make_task("cartpole_swingup")
    task.reset(7)
    passed = round((first.stamp - control.status()["began"]) / 1e7)
    for _ in range(passed):
        task.step(np.zeros(1))
    assert first.position == pytest.approx(task.qpos(), abs=1e-12)


def test_a_restarted_plant_is_a_fault_and_its_motors_stay_off(contract, plant):
    bus = opened(PlantBus, contract, plant[1])
    loop = MotorLoop(contract, bus)
    loop.tick()
    loop.arm()
    assert loop.tick() in POWERED
    plant[0].kill()
    plant[0].wait()
    again = start(plant[1])
    try:
        while loop.tick() is not State.ESTOP:
            pass
        assert "lost its power" in loop.machine.cause
        assert not PlantControl(plant[1]).status()["enabled"]
        loop.tick()
        assert loop.reset().success
    finally:
        again.kill()
        again.wait()
        again.stdout.close()


def test_a_plant_that_does_not_answer_is_a_bus_error_in_bounded_time(contract, plant):
    bus = PlantBus(contract, plant[1], timeout_s=0.02)
    bus.open()
    plant[0].send_signal(signal.SIGSTOP)
    with pytest.raises(BusError, match="did not answer within 20 ms"):
        bus.read()


def test_a_plant_of_another_contract_is_refused_naming_the_difference(contract, plant):
    position = replace(contract.observations[0], scale=(1.0, 2.0))
    other = replace(contract, observations=(position, *contract.observations[1:]))
    with pytest.raises(ContractError, match=r"observations\[0\]\.scale"):
        PlantBus(other, plant[1]).open()


def test_a_second_plant_on_one_socket_is_refused_and_a_dead_ones_is_replaced(plant):
    command = [sys.executable, "-m", "sim.plant", "--task", "cartpole_swingup", "--socket", plant[1]]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert "another plant serves" in second.stderr
    plant[0].kill()
    plant[0].wait()
    third = start(plant[1])
    third.terminate()
    assert third.wait(20) == 0
    third.stdout.close()


def test_an_unknown_task_is_one_sentence():
    command = [sys.executable, "-m", "sim.plant", "--task", "cartpole", "--socket", "unused"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr.startswith("plant: no task 'cartpole'")
    assert len(result.stderr.splitlines()) == 1


def test_a_robot_with_other_actions_is_refused(shared):
    reacher = make_task("dmc:reacher-easy").contract
    with pytest.raises(BusError, match="runs cartpole_swingup with actions slider, not shoulder, wrist"):
        opened(PlantBus, reacher, shared)


def test_the_plugs_are_registered_under_their_names(contract, shared):
    bus = open_bus("mujoco", contract, socket=shared)
    assert bus.names == ("slider", "hinge")
    open_sensors("mujoco", contract, socket=shared).close()
    with pytest.raises(BusError, match="its options are socket, timeout_s"):
        open_bus("mujoco", contract, port=1)
