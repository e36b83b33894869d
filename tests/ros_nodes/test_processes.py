"""Supervised processes: logs, last words, restarts, an end for those that refuse to, and domains of their own."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")

import os

import yaml

from robot_wm.contract_action import Action
from robot_wm.errors import RunError
from ros_nodes import processes
from ros_nodes.launcher import Fault, parse_fault
from ros_nodes.processes import Command, Supervisor, free_domain, local_environment
from ros_nodes.stack import Stack, board_command, emulated_efforts, node_command, plant_command, write_params

SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(2, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


@pytest.fixture
def supervisor(tmp_path):
    supervisor = Supervisor(tmp_path / "logs", os.environ)
    yield supervisor
    supervisor.stop(patience_s=0.0)


def start(supervisor, name, code):
    """Start it and return when it has said that it is ready."""
    supervisor.start(Command(name, ("-c", code)))
    deadline = time.monotonic() + 20.0
    while "ready" not in supervisor.last_words(name):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_ends_by_itself_is_named_with_its_last_words(supervisor):
    supervisor.start(Command("planner_node", ("-c", "print('a'); raise SystemExit('no bundle')")))
    supervisor.processes["planner_node"].wait(20)
    with pytest.raises(RunError, match=r"planner_node ended with exit status 1: .*no bundle"):
        supervisor.check()


def test_stopping_asks_first_and_kills_what_does_not_listen(supervisor):
    start(supervisor, "polite", SLEEPER)
    start(supervisor, "stubborn", STUBBORN)
    polite, stubborn = supervisor.processes["polite"], supervisor.processes["stubborn"]
    assert supervisor.stop(["polite"], patience_s=20.0) == []
    assert polite.returncode is not None
    assert supervisor.stop(patience_s=0.1) == ["stubborn"]
    assert stubborn.returncode == -signal.SIGKILL
    assert supervisor.running() == []


def test_a_ctrl_c_in_the_middle_of_a_poll_does_not_keep_it_from_stopping(supervisor, monkeypatch):
    """The exception then leaves a lock inside `Popen` taken: waiting for that process would never end."""
    monkeypatch.setattr(processes, "KILL_S", 0.1)
    start(supervisor, "sleeper", SLEEPER)
    process = supervisor.processes["sleeper"]
    process._waitpid_lock.acquire()
    assert supervisor.stop(patience_s=0.1) == ["sleeper"]
    process._waitpid_lock.release()
    assert process.wait(20) == -signal.SIGINT or process.returncode in (1, -signal.SIGKILL)


def test_a_killed_process_is_no_error_and_can_be_started_again(supervisor):
    start(supervisor, "recorder_node", SLEEPER)
    supervisor.kill("recorder_node")
    supervisor.check()
    supervisor.restart("recorder_node")
    assert supervisor.running() == ["recorder_node"]
    assert supervisor.started == 2
    with pytest.raises(RunError, match="no process 'camera'; there are recorder_node"):
        supervisor.kill("camera")


def test_a_frozen_process_goes_on_when_thawed_and_ends_when_stopped(supervisor):
    start(supervisor, "planner_node", SLEEPER)
    process = supervisor.processes["planner_node"]
    for frozen, change in ((True, supervisor.freeze), (False, supervisor.thaw), (True, supervisor.freeze)):
        change("planner_node")
        deadline = time.monotonic() + 20.0
        while ("T (stopped)" in Path(f"/proc/{process.pid}/status").read_text()) != frozen:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert supervisor.stop(patience_s=20.0) == []


def test_two_runs_get_different_domains_and_give_them_back():
    with free_domain() as first, free_domain() as second:
        assert first != second
    with pytest.raises(RunError, match="no free ROS domain"), free_domain([first]), free_domain([first]):
        pass
    with free_domain([first]) as again:
        assert again == first


def test_a_local_run_keeps_to_the_loopback_interface_without_shared_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    environment = local_environment(42, tmp_path)
    assert environment["ROS_DOMAIN_ID"] == "42"
    assert "ROS_LOCALHOST_ONLY" not in environment
    profiles = (tmp_path / "fastdds.xml").read_text()
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == str(tmp_path / "fastdds.xml")
    assert "<address>127.0.0.1</address>" in profiles
    assert "UDPv4" in profiles
    assert "SHM" not in profiles


def test_faults_read_like_planner_at_three_seconds():
    assert parse_fault("kill", "planner@3.0") == Fault("kill", "planner_node", 3.0)
    assert parse_fault("restart", "plant@1") == Fault("restart", "plant", 1.0)
    assert parse_fault("freeze", "motor@2") == Fault("freeze", "motor_node", 2.0)
    assert parse_fault("kill", "board@2") == Fault("kill", "board", 2.0)
    with pytest.raises(RunError, match="must read <process>@<seconds>"):
        parse_fault("kill", "planner")


def test_a_stack_starts_what_it_has_and_stops_whoever_commands_first(tmp_path):
    robot = Stack(
        contract=tmp_path / "c.yaml", bus="framed", bus_options={"port": "/dev/ttyUSB0"}, bag=tmp_path / "bag"
    )
    assert robot.nodes == ("motor_node", "recorder_node")
    full = Stack(None, "mujoco", {}, tmp_path / "b", "mujoco", store="s", bag=tmp_path / "bag", plant=("--task", "x"))
    assert full.nodes.index("planner_node") < full.nodes.index("motor_node") < full.nodes.index("recorder_node")
    assert full.listeners == 3
    assert plant_command(full).arguments == ("-m", "sim.plant", "--task", "x")
    emulated = Stack(None, "serial", {"port": "p/board"}, plant=("--task", "x"), board=("--link", "p/board"))
    assert board_command(emulated).arguments == ("-m", "sim.serial_board", "--watchdog", "500", "--link", "p/board")
    servos = Stack(None, "dynamixel", {"port": "p/board"}, plant=("--task", "x"), board=("--link", "p/board"))
    assert board_command(servos).arguments == ("-m", "sim.dynamixel_servos", "--link", "p/board")
    assert board_command(replace(servos, bus="feetech")).arguments[:2] == ("-m", "sim.feetech_servos")
    data = yaml.safe_load(write_params(robot, tmp_path / "params.yaml").read_text())
    assert data["/**/motor_node"]["ros__parameters"] == {
        "autostart": True,
        "contract": str(tmp_path / "c.yaml"),
        "bus": "framed",
        "bus_options": '{"port": "/dev/ttyUSB0"}',
    }


def test_a_node_gets_the_users_params_after_ours_and_its_namespace(tmp_path):
    stack = Stack(None, "mujoco", namespace="/left/", params_file=tmp_path / "mine.yaml")
    arguments = node_command(stack, "motor_node", tmp_path / "ours.yaml").arguments
    assert arguments[:2] == ("-m", "ros_nodes.motor_node")
    assert arguments.index(str(tmp_path / "ours.yaml")) < arguments.index(str(tmp_path / "mine.yaml"))
    assert "__ns:=/left" in arguments
    assert sys.executable not in arguments


def test_a_simulated_effort_is_three_amperes_or_full_pwm_at_its_largest():
    action = Action(("a", "b"), "effort", ("", ""), (-1.0, -6.0), (1.0, 3.0))
    assert emulated_efforts("dynamixel", action) == {"a": pytest.approx(1 / 3), "b": 2.0}
    assert emulated_efforts("feetech", action) == {"a": 1.0, "b": 6.0}
    assert emulated_efforts("dynamixel", replace(action, mode="position")) == {}
    assert emulated_efforts("serial", action) == {}
