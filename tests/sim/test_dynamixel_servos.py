"""The emulated servos: their rules, and as a process between a plant and the bus."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("dynamixel_sdk", reason="needs the extra `serial`")

from robot_wm.buses.dynamixel import DynamixelBus
from robot_wm.buses.dynamixel_table import (
    BUS_WATCHDOG,
    GOAL_CURRENT,
    GOAL_POSITION,
    HARDWARE_ERROR,
    OPERATING_MODE,
    STATUS_RETURN_LEVEL,
    TORQUE_ENABLE,
    WATCHDOG_TRIPPED,
)
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.contract import parse_contract
from sim.dynamixel_core import DynamixelChain
from sim.dynamixel_packets import BROADCAST, Error, Instruction, Packet, PacketDecoder, encode
from sim.dynamixel_servo import EmulatedDynamixel


def effort_contract():
    data = {
        "name": "arm",
        "model_hz": 50,
        "observations": [{"name": "p", "topic": "joint_states", "field": "position", "names": ["a", "b"]}],
        "action": {"names": ["a", "b"], "mode": "effort", "low": [-1, -1], "high": [1, 1]},
    }
    return parse_contract(data)


@pytest.fixture
def chain():
    physics = LoopbackBus(effort_contract())
    physics.open()
    return DynamixelChain(physics, 2, "effort", {"a": 2.0})


def ask(chain, id_, instruction, parameters=b"", now=0):
    return PacketDecoder().feed(chain.receive(encode(Packet(id_, instruction, parameters)), now))


def write(chain, id_, register, value, now=0):
    """The error of the answer, or None."""
    data = register.address.to_bytes(2, "little") + register.pack(value)
    answers = ask(chain, id_, Instruction.WRITE, data, now)
    return answers[0].parameters[0] if answers else None


def test_a_ping_is_answered_with_model_and_firmware(chain):
    assert ask(chain, 2, Instruction.PING) == [Packet(2, Instruction.STATUS, bytes([0, 0xFC, 0x03, 45]))]
    assert [packet.id for packet in ask(chain, BROADCAST, Instruction.PING)] == [1, 2]
    assert ask(chain, 3, Instruction.PING) == []


def test_writing_has_the_rules_of_the_manual():
    servo = EmulatedDynamixel(1)
    assert servo.write(OPERATING_MODE.address, b"\0") == Error.NONE
    assert servo.write(OPERATING_MODE.address, b"\x09") == Error.DATA_RANGE
    assert servo.write(GOAL_CURRENT.address, b"\1") == Error.DATA_LENGTH
    assert servo.write(GOAL_CURRENT.address, GOAL_CURRENT.pack(-1193)) == Error.NONE
    assert servo.write(GOAL_CURRENT.address, GOAL_CURRENT.pack(-1194)) == Error.DATA_LIMIT
    assert servo.write(HARDWARE_ERROR.address, b"\0") == Error.ACCESS
    assert servo.write(150, b"\0") == servo.write(103, b"\0") == Error.ACCESS
    servo.write(OPERATING_MODE.address, b"\3")
    assert servo.write(GOAL_POSITION.address, GOAL_POSITION.pack(4096)) == Error.DATA_LIMIT
    servo.put(TORQUE_ENABLE, 1)
    assert servo.write(OPERATING_MODE.address, b"\0") == Error.ACCESS  # the EEPROM is locked
    assert servo.read(66, 2) is None and servo.read(64, 2) == b"\1\0"


def test_a_tripped_watchdog_makes_goals_read_only_until_zero_is_written(chain):
    write(chain, 1, OPERATING_MODE, 0)
    write(chain, 1, BUS_WATCHDOG, 5)
    write(chain, 1, TORQUE_ENABLE, 1, now=0)
    assert write(chain, 1, GOAL_CURRENT, 100, now=0) == 0
    assert chain.physics.written[0] == pytest.approx(100 * 2.69e-3 * 2.0)
    chain.tick(100_000_000)
    assert not chain.servos[0].tripped
    chain.tick(100_000_001)
    assert chain.servos[0].get(BUS_WATCHDOG) == WATCHDOG_TRIPPED and chain.physics.written[0] == 0.0
    assert chain.servos[0].torque
    assert write(chain, 1, GOAL_CURRENT, 100) == Error.DATA_RANGE
    assert write(chain, 1, BUS_WATCHDOG, 5) == Error.DATA_RANGE
    assert write(chain, 1, BUS_WATCHDOG, 0) == Error.NONE
    assert write(chain, 1, GOAL_CURRENT, 100) == Error.NONE


def test_an_overheated_servo_alerts_and_stays_off_until_it_was_power_cycled(chain):
    write(chain, 1, TORQUE_ENABLE, 1)
    assert chain.enabled
    chain.overheat(0)
    assert not chain.enabled and not chain.physics.enabled
    assert write(chain, 1, TORQUE_ENABLE, 1) == Error.RESULT_FAIL | Error.ALERT
    chain.servos[0].cool()
    assert write(chain, 1, TORQUE_ENABLE, 1) == Error.RESULT_FAIL | Error.ALERT
    assert ask(chain, 1, Instruction.REBOOT)[0].parameters == b"\0"
    assert write(chain, 1, TORQUE_ENABLE, 1) == 0


def test_the_status_return_level_decides_what_is_answered(chain):
    read = b"\x40\0\1\0"
    assert write(chain, 1, STATUS_RETURN_LEVEL, 1) is None
    assert len(ask(chain, 1, Instruction.READ, read)) == 1
    write(chain, 1, STATUS_RETURN_LEVEL, 0)
    assert ask(chain, 1, Instruction.READ, read) == []
    assert len(ask(chain, 1, Instruction.PING)) == 1
    assert write(chain, BROADCAST, STATUS_RETURN_LEVEL, 2) is None
    assert chain.servos[0].get(STATUS_RETURN_LEVEL) == 2


def test_a_fast_sync_read_stops_at_a_servo_that_is_missing_and_a_plain_one_does_not(chain):
    chain.absent.add(1)
    present = b"\x7e\0\x0a\0\1\2"
    assert ask(chain, BROADCAST, Instruction.FAST_SYNC_READ, present) == []
    assert [packet.id for packet in ask(chain, BROADCAST, Instruction.SYNC_READ, present)] == [2]


def begin(*arguments):
    process = subprocess.Popen([sys.executable, "-m", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["ready"]
    return process


def test_an_effort_moves_the_reacher_behind_the_servos(tmp_path):
    pytest.importorskip("dm_control", reason="needs the extra `sim`")
    from sim.tasks import make_task

    socket, link, scale = tmp_path / "plant.sock", tmp_path / "servos", {"shoulder": 1 / 3, "wrist": 1 / 3}
    plant = begin("sim.plant", "--task", "reacher_easy", "--socket", socket)
    arguments = ("--socket", socket, "--link", link, "--effort-scale", json.dumps(scale))
    servos = begin("sim.dynamixel_servos", *arguments)
    options = {"effort_scale": scale, "timeout_s": 5.0, "open_timeout_s": 20.0, "watchdog_s": 2.5}
    bus = DynamixelBus(make_task("reacher_easy").contract, str(link), **options)
    try:
        bus.open()
        assert bus.names == ("shoulder", "wrist")
        bus.enable()
        end = time.monotonic() + 60
        while bus.read().velocity[0] < 0.2:
            assert time.monotonic() < end
            bus.write(np.array([1.0, 0.0]))
        bus.close()
        servos.terminate()
        counts = json.loads(servos.communicate(timeout=20)[0].splitlines()[-1])["device"]
        assert counts["goals"] > 0 and counts["crc"] == counts["refused"] == counts["physics"] == 0
    finally:
        for process in (servos, plant):
            process.kill()
            process.wait()
            process.stdout.close()


def test_scales_that_are_no_json_are_one_sentence(tmp_path):
    command = [sys.executable, "-m", "sim.dynamixel_servos", "--socket", "none", "--link", str(tmp_path / "b")]
    done = subprocess.run([*command, "--effort-scale", "1"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "'1' must be a JSON object of numbers" in done.stderr
