"""The emulated servos: their rules, and as a process between a plant and the bus."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("scservo_sdk", reason="needs the extra `serial`")

from robot_wm.buses.feetech import FeetechBus
from robot_wm.buses.feetech_table import (
    GOAL_POSITION,
    GOAL_PWM,
    LOAD_SIGN,
    LOCK,
    OPERATING_MODE,
    PRESENT,
    TORQUE_ENABLE,
    TORQUE_LIMIT,
    pack_signed,
)
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.contract import parse_contract
from sim.feetech_core import SILENCE, FeetechChain
from sim.feetech_packets import BROADCAST, Instruction, Packet, PacketDecoder, encode
from sim.feetech_servo import OVERHEATING, EmulatedFeetech


def chain_in(mode):
    data = {
        "name": "arm",
        "model_hz": 50,
        "observations": [{"name": "p", "topic": "joint_states", "field": "position", "names": ["a", "b"]}],
        "action": {"names": ["a", "b"], "mode": mode, "low": [-1, -1], "high": [1, 1]},
    }
    physics = LoopbackBus(parse_contract(data))
    physics.open()
    return FeetechChain(physics, 2, mode, {"a": 2.0})


def ask(chain, id_, instruction, parameters=b"", now=0):
    return PacketDecoder().feed(chain.receive(encode(Packet(id_, instruction, parameters)), now))


def write(chain, id_, register, data):
    """The answers."""
    return ask(chain, id_, Instruction.WRITE, bytes([register.address]) + data)


def test_a_ping_is_answered_with_the_status():
    chain = chain_in("effort")
    assert ask(chain, 2, Instruction.PING) == [Packet(2, 0)]
    chain.overheat(0)
    assert ask(chain, BROADCAST, Instruction.PING) == [Packet(1, OVERHEATING), Packet(2, 0)]
    assert ask(chain, 3, Instruction.PING) == []


def test_every_servo_answers_a_sync_read_by_itself_and_a_write_to_all_is_not_answered():
    chain = chain_in("effort")
    chain.absent.add(1)
    asked = bytes([PRESENT.address, PRESENT.size, 1, 2])
    assert ask(chain, BROADCAST, Instruction.SYNC_READ, asked) == [Packet(2, 0, b"\x00\x08" + bytes(4))]
    assert write(chain, BROADCAST, TORQUE_ENABLE, b"\1") == []
    assert write(chain, 2, TORQUE_ENABLE, b"\0") == [Packet(2, 0)]
    assert ask(chain, 2, Instruction.READ, bytes([TORQUE_ENABLE.address, 1])) == [Packet(2, 0, b"\0")]


def test_what_is_written_to_the_eeprom_stays_only_where_it_is_not_locked():
    servo = EmulatedFeetech(1)
    servo.write(LOCK.address, b"\1")
    servo.write(OPERATING_MODE.address, b"\2")
    servo.power_cycle()
    assert servo.get(OPERATING_MODE) == 0 and servo.get(LOCK) == 0
    servo.write(OPERATING_MODE.address, b"\2")
    servo.power_cycle()
    assert servo.get(OPERATING_MODE) == 2


def test_what_is_measured_cannot_be_written():
    servo = EmulatedFeetech(1)
    assert not servo.write(PRESENT.address, b"\0\0") and not servo.write(55, b"\1\1") and not servo.write(3, b"\1")
    assert servo.write(TORQUE_LIMIT.address, b"\0\1")


def test_a_goal_position_switches_the_torque_on_and_is_kept_within_the_limits():
    chain = chain_in("position")
    write(chain, 1, GOAL_POSITION, b"\xff\x7f")
    assert chain.servos[0].torque and chain.physics.enabled
    assert chain.physics.written[0] == pytest.approx(2047 * 2 * np.pi / 4096)


def test_pwm_is_limited_by_the_torque_limit_and_there_is_no_watchdog():
    chain = chain_in("effort")
    write(chain, 1, OPERATING_MODE, b"\2")
    write(chain, 1, TORQUE_LIMIT, (500).to_bytes(2, "little"))
    write(chain, 1, GOAL_PWM, pack_signed(-800, LOAD_SIGN))
    assert not chain.physics.enabled
    write(chain, 1, TORQUE_ENABLE, b"\1")
    assert chain.physics.written == pytest.approx([-0.5 * 2.0, 0.0])
    chain.tick(3600 * 10**9)
    assert chain.physics.written == pytest.approx([-1.0, 0.0])


def test_a_servo_that_is_too_hot_gives_no_torque_until_it_is_cool():
    chain = chain_in("effort")
    write(chain, 1, OPERATING_MODE, b"\2")
    write(chain, 1, TORQUE_ENABLE, b"\1")
    assert chain.enabled
    chain.overheat(0)
    assert not chain.enabled and not chain.physics.enabled


def test_a_packet_that_does_not_go_on_is_given_up():
    chain = chain_in("effort")
    ping = encode(Packet(2, Instruction.PING))
    chain.receive(b"\xff\xff\x01\xf0", 0)
    chain.tick(SILENCE)
    assert chain.receive(ping, SILENCE) == b""
    chain.tick(2 * SILENCE + 1)
    assert chain.receive(ping, 3 * SILENCE) == encode(Packet(2, 0))


def begin(*arguments):
    process = subprocess.Popen([sys.executable, "-m", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert json.loads(process.stdout.readline())["ready"]
    return process


def test_an_effort_moves_the_reacher_behind_the_servos(tmp_path):
    pytest.importorskip("dm_control", reason="needs the extra `sim`")
    from sim.tasks import make_task

    socket, link, scale = tmp_path / "plant.sock", tmp_path / "servos", {"shoulder": 1.0, "wrist": 1.0}
    plant = begin("sim.plant", "--task", "reacher_easy", "--socket", socket)
    servos = begin("sim.feetech_servos", "--socket", socket, "--link", link, "--effort-scale", json.dumps(scale))
    options = {"effort_scale": scale, "timeout_s": 5.0, "open_timeout_s": 20.0}
    bus = FeetechBus(make_task("reacher_easy").contract, str(link), **options)
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
        assert counts["goals"] > 0 and counts["checksum"] == counts["refused"] == counts["physics"] == 0
    finally:
        for process in (servos, plant):
            process.kill()
            process.wait()
            process.stdout.close()
