"""The whole stack as real processes against the real-time plant: it runs, survives the death of any process but the motor
node, swaps models while it runs, and leaves nothing behind.

No test judges how well the model controls; bounds on time are the contract's, widened by what a loaded machine adds.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")
pytest.importorskip("mujoco", reason="needs the extra `sim`")

from robot_wm.bags.align import align
from robot_wm.bags.reader import open_bag
from robot_wm.bundle import load_bundle
from robot_wm.run_figures import run_figures
from robot_wm.store import ModelStore
from robot_wm.timebase import NS_PER_S
from ros_nodes.processes import free_domain
from sim.tasks import make_task

pytestmark = pytest.mark.ros
SLACK_S = 0.25  # a loaded machine
SWAPS = int(os.environ.get("ROBOT_WM_SWAPS", "2"))  # of bundles during one run


def ours(*words):
    """Process ids whose command line holds all the `words`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if all(word in text for word in words) and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


def applied(bag):
    """Stamps [s], values and sources of what the motors got."""
    series = bag.read_joints("applied", "effort", ["slider"])
    sources = np.array([name.partition(":")[0] for name in bag.frame_ids("applied")])
    return series.stamps / NS_PER_S, series.values[:, 0], sources


def marks(bag):
    return {event.note: event.stamp / NS_PER_S for event in bag.events() if event.kind == "mark"}


def said(bag, node):
    """Everything a node said of itself in diagnostics."""
    return [s.message for _, m in bag.messages("diagnostics") for s in m.status if s.name == node]


@pytest.mark.realtime
def test_killing_planner_and_posterior_leaves_the_motors_safe_and_restarting_them_resumes(robot_wm, patient):
    faults = ["--kill", "planner@1", "--restart", "planner@2", "--kill", "posterior@3.5", "--restart", "posterior@4.7"]
    status, figures, errors = robot_wm("sim", "--bundle", patient, "--seconds", 7, "--no-report", "--json", *faults)
    assert status == 0, errors
    assert figures["processes"] == 8
    bag = open_bag(figures["bag"])
    stamps, values, sources = applied(bag)
    at = marks(bag)
    contract = bag.contract
    assert np.all(np.abs(values) <= contract.action.high[0])
    stale = contract.safety.plan_stale_s + 1.5 / contract.model_hz + SLACK_S
    for name in ("planner_node", "posterior_node"):
        killed, restarted = at[f"killed {name}"], at[f"restarted {name}"]
        # The latents of a dead posterior serve the planner until they are too old.
        bound = stale + (0.2 if name == "posterior_node" else 0.0)
        dead = (stamps > killed + bound) & (stamps < killed + 1.0)  # no restart is sooner
        assert dead.any()
        assert not np.any(sources[dead] == "plan"), name
        later = stamps > restarted
        assert np.any(sources[later] == "plan"), f"{name}: control does not resume"
    alive = np.diff(stamps)
    assert alive.max() < 0.7  # no death is shorter than 1 s: none stops the motor loop
    assert any("no plan or command for 0.1 s" in text for text in said(bag, "motor_node"))
    assert any(text.startswith("no latent for") for text in said(bag, "planner_node"))


@pytest.mark.realtime
def test_the_same_motor_node_drives_the_plant_through_an_emulated_board_on_a_pty(robot_wm, patient):
    status, figures, errors = robot_wm(
        "sim", "--bundle", patient, "--bus", "serial", "--seconds", 5, "--no-report", "--json"
    )
    assert status == 0, errors
    assert figures["ticks_by_source"].get("plan", 0) > 0
    run = Path(figures["run"])
    board = json.loads((run / "logs" / "board.log").read_text().splitlines()[-1])["device"]
    assert board["executed"] > 100
    assert board["crc"] == board["framing"] == board["lost"] == board["duplicate"] == 0
    joints = open_bag(figures["bag"]).read_joints("joint_states", "position", ["slider", "hinge"])
    assert np.all(np.diff(joints.stamps) > 0)


def test_a_pulled_cable_is_an_emergency_stop_that_the_run_tells(robot_wm, bundle):
    status, _, errors = robot_wm(
        "sim",
        "--bundle",
        bundle,
        "--bus",
        "serial",
        "--bus-faults",
        "hangup@1",
        "--seconds",
        6,
        "--no-report",
        "--json",
    )
    assert status == 1
    assert "e-stopped" in errors
    assert "no connection to" in errors


def test_a_motor_node_that_hangs_is_killed_and_the_power_is_cut(robot_wm, patient, tmp_path):
    status, _, errors = robot_wm("sim", "--bundle", patient, "--seconds", 30, "--no-report", "--freeze", "motor@1")
    assert status == 1
    assert "motor_node ended with" in errors
    assert "silent for 0.5 s; killed it and cut the motors' power" in log(tmp_path, "motor_node")


def test_killing_the_recorder_costs_the_robot_nothing_and_the_bag_at_most_half_a_second(robot_wm, patient):
    status, figures, errors = robot_wm(
        "sim", "--bundle", patient, "--seconds", 2.5, "--no-report", "--json", "--kill", "recorder@2"
    )
    assert status == 0, errors
    assert figures["motor"].startswith("armed")
    assert figures["bag"].endswith("bag_salvaged")
    assert figures["seconds"] >= 1.5 - SLACK_S


def test_a_full_disk_ends_the_recording_never_the_robot_and_the_run_fails_saying_so(patient, program, tmp_path):
    command = [
        *program,
        "sim",
        "--bundle",
        patient,
        "--seconds",
        4,
        "--no-report",
        "--json",
        "--runs",
        tmp_path / "runs",
    ]
    process = subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        wait_for(lambda: " armed: " in log(tmp_path, "motor_node"), 60)
        (recorder,) = ours(str(tmp_path), "ros_nodes.recorder_node")
        (file,) = tmp_path.glob("runs/*/bag/*.mcap")
        full = file.stat().st_size + 50_000  # bytes a file may grow to
        resource.prlimit(recorder, resource.RLIMIT_FSIZE, (full, full))
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "the bag is incomplete: " in errors.strip().splitlines()[-1]
    figures = json.loads(output.splitlines()[-1])
    assert figures["motor"].startswith("armed")
    assert figures["ticks"] > 50  # what was recorded before reads without salvage
    assert not figures["bag"].endswith("salvaged")


@pytest.mark.realtime
def test_bundles_swap_while_running_and_a_tampered_one_is_refused_with_the_reason(bundle, another, program, tmp_path):
    first, second, third = load_bundle(bundle), another("second"), another("third")
    store = ModelStore(tmp_path / "store")
    store.push(third.path)
    store.push(first.path)
    (tmp_path / "store" / "bundles" / third.bundle_id / "note.txt").write_text("tampered")
    params = tmp_path / "sync.yaml"
    params.write_text(f"/**/model_sync_node:\n  ros__parameters: {{poll_s: 0.1, cache: {tmp_path}/cache}}\n")
    command = [*program, "sim", "--bundle", bundle, "--seconds", 600, "--no-report", "--store", store.location]
    command += ["--params-file", params, "--runs", tmp_path / "runs"]
    process = subprocess.Popen([*map(str, command)], cwd=tmp_path)
    try:
        wait_for(lambda: " armed: " in log(tmp_path, "motor_node"), 60)
        store.rollback()  # to the third
        wait_for(lambda: "refused" in log(tmp_path, "model_sync_node"), 60)
        swaps = []  # how long each took [s]
        for swap in range(SWAPS):
            pushed, before = (first if swap % 2 else second), len(log(tmp_path, "model_sync_node"))
            began = time.monotonic()
            store.push(pushed.path)
            in_use = f"bundle {pushed.bundle_id} in use"
            wait_for(lambda said=in_use, at=before: said in log(tmp_path, "model_sync_node")[at:], 60)
            swaps.append(time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(60)
    refusal = log(tmp_path, "model_sync_node")
    assert f"bundle {third.bundle_id} refused" in refusal
    assert "note.txt does not match its digest" in refusal
    (path,) = tmp_path.glob("runs/*/bag")
    bag = open_bag(path)
    plans = [plan for _, plan in bag.plans(first.contract)]
    order = [name for name, _ in groupby(plan.bundle_id for plan in plans)]
    pushes = [(second if k % 2 else first).bundle_id for k in range(SWAPS + 1)]
    assert order in (
        pushes,
        pushes[:-1],
    )  # one switch a push, nothing mixed; the run may end before the last one's first plan
    gap_s = max(b.start - a.start for a, b in pairwise(plans)) / NS_PER_S
    figures = run_figures(bag, first.contract)
    ticks = f"{figures['ticks_missed']} of {figures['ticks']} ticks missed"
    print(f"{SWAPS} swaps: {ticks}, longest gap {gap_s * first.contract.model_hz:.1f} periods")
    assert gap_s < min(swaps) / 4  # planning goes on while the next bundle is loaded and warmed up


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_stopping_the_launcher_stops_everything(patient, program, tmp_path, number):
    command = [*program, "sim", "--bundle", patient, "--seconds", "60", "--no-report", "--runs", tmp_path / "runs"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        wait_for(lambda: " armed: " in log(tmp_path, "motor_node"), 60)
        process.send_signal(number)
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode != 0
    assert "disarmed: " in log(tmp_path, "motor_node")
    assert ours(str(tmp_path)) == []


@pytest.mark.parametrize("moment", ["disarmed: ", " armed: "], ids=["while starting", "while running"])
def test_nodes_end_when_the_launcher_is_killed(patient, program, tmp_path, moment):
    command = [*program, "sim", "--bundle", patient, "--seconds", "60", "--no-report", "--runs", tmp_path / "runs"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    try:
        wait_for(lambda: moment in log(tmp_path, "motor_node"), 60)
    finally:
        process.kill()
    process.communicate(timeout=30)
    wait_for(lambda: not ours(str(tmp_path)), 30)


def test_a_run_that_cannot_start_says_why_in_one_sentence(robot_wm, bundle, tmp_path):
    status, _, errors = robot_wm("sim", "--bundle", bundle, "--task", "dmc:reacher-easy", "--no-report", "--json")
    assert status == 1
    assert "with actions" in errors
    status, _, errors = robot_wm("sim", "--bundle", tmp_path / "none", "--json")
    assert (status, errors.count("\n")) == (1, 1)
    assert "is not a bundle" in errors or "not a bundle" in errors


@pytest.mark.realtime
def test_a_robot_without_a_model_is_excited_and_recorded(robot_wm, tmp_path, monkeypatch):
    """`record` needs a contract and a bus; here the bus leads to a plant that we start."""
    socket, path = tmp_path / "plant.sock", tmp_path / "contract.yaml"
    contract = make_task("cartpole_swingup").contract
    replace(contract, safety=replace(contract.safety, joint_stale_s=10.0, hold_s=60.0)).save(path)
    plant = subprocess.Popen([sys.executable, "-m", "sim.plant", "--task", "cartpole_swingup", "--socket", str(socket)])
    try:
        wait_for(socket.exists, 60)
        options = json.dumps({"socket": str(socket)})
        with free_domain() as domain:
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            common = ["--contract", path, "--bus", "mujoco", "--bus-options", options, "--no-report", "--json"]
            common += ["--sensors", "mujoco", "--sensor-options", options]
            status, figures, errors = robot_wm("record", *common, "--drive", "excite", "--seconds", 4)
    finally:
        plant.terminate()
        plant.wait(30)
    assert status == 0, errors
    _, values, sources = applied(open_bag(figures["bag"]))
    excited = values[sources == "excite"]
    assert len(excited) > 100  # of 400; a loaded machine misses some
    assert 0.5 < np.abs(excited).max() <= 3.0 + 1e-9  # 0.3 of the way to the limit
    assert figures["plans"] == 0
    (episode,) = align(open_bag(figures["bag"]), open_bag(figures["bag"]).contract)
    assert episode.action.std() > 0.01


def log(folder, node):
    """What a node of the one run under `folder` has said."""
    found = list(folder.glob(f"runs/*/logs/{node}.log"))
    return found[0].read_text() if found else ""


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
    return found
