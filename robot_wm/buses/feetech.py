"""Motor bus of Feetech STS and SMS servos, as in SO-100 and SO-101 arms, through the maker's SDK (docs/feetech.md)."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence

import numpy as np

from robot_wm.buses.feetech_port import FeetechProtocol
from robot_wm.buses.feetech_setup import FeetechFamily, FeetechServo
from robot_wm.buses.feetech_table import (
    CENTRE,
    LOAD_SIGN,
    LOAD_UNIT,
    LOCK,
    MODES,
    MOTION,
    OPERATING_MODE,
    PRESENT,
    PRESENT_LAYOUT,
    SIGN,
    STATUS,
    STEP,
    SUPPLY,
    TORQUE_ENABLE,
    pack_signed,
    signed,
    status_words,
)
from robot_wm.buses.servo_bus import ServoBus
from robot_wm.buses.servo_family import UnfitServo, require_within
from robot_wm.buses.servo_link import ServoLink
from robot_wm.buses.servo_options import joint_map, with_zeros
from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray, JointState

UNWATCHED = "these servos have no watchdog: they keep their last {} when this computer stops"


class FeetechBus(ServoBus[FeetechServo]):
    """See `ServoBus`. The servos have no watchdog: what they were told last they go on with when this computer stops.

    Args:
        port, baud: of the serial port; `/dev/serial/by-id/...` names an adapter wherever it is plugged in.
        ids: servo of each joint; absent: 1, 2, ... for the actions, then the other joints observed. Joints that are no actions are
            only measured, their torque stays off.
        zero: where the joint's zero is on the servo [rad], 0 is the middle of its turn (2048); absent: 0.
        direction: 1 or -1, by joint; absent: 1. position = direction × (servo − zero).
        effort_scale: effort [SI] at full PWM, by joint; absent: 1, an effort is then a part of full PWM.
        position_wrap: see `JointMap`; a motor in position control has none.
        models: expected model by joint, e.g. STS3215; absent: any STS or SMS servo.
        timeout_s, open_timeout_s: see `ServoBus`.
    """

    with_zeros = staticmethod(with_zeros)

    def __init__(
        self,
        contract: Contract,
        port: str,
        baud: int = 1_000_000,
        ids: Mapping[str, int] | None = None,
        zero: Mapping[str, float] | None = None,
        direction: Mapping[str, int] | None = None,
        effort_scale: Mapping[str, float] | None = None,
        position_wrap: Mapping[str, Sequence[float]] | None = None,
        models: Mapping[str, str] | None = None,
        timeout_s: float = 0.0,
        open_timeout_s: float = 3.0,
    ) -> None:
        scales = (zero or {}, direction or {}, effort_scale or {}, models or {}, position_wrap or {})
        joints = joint_map(contract, ids, *scales)
        self._mode, _, self._sign = MODES[joints.mode]
        link = ServoLink(port, baud, FeetechProtocol())
        super().__init__(contract, joints, link, FeetechFamily(), ids, models or {}, False, timeout_s, open_timeout_s)

    def write(self, values: FloatArray) -> None:
        """As every bus of servos; raises BusError where the torque is off: a goal would switch it on (LeRobot, STS3215)."""
        self.map.command(values)
        self.session.require_up()
        torque = [self.session.health.number(TORQUE_ENABLE, k) for k in range(self.map.motors)]
        if not (self._powered and all(torque)):
            raise BusError(f"servos at {self.session.link.serial.path}: the torque is off, nothing was sent")
        super().write(values)

    def disable(self) -> None:
        self._powered = False  # from now on no goal goes out, whatever is confirmed
        super().disable()

    def figures(self) -> dict[str, float | str]:
        """Those of every bus of servos, with a warning where a motor may run on without us."""
        figures = super().figures()
        if self.map.mode != "position":
            figures.setdefault("warning", UNWATCHED.format("speed" if self.map.mode == "velocity" else "PWM"))
        return figures

    def _pack(self, goal: int) -> bytes:
        return pack_signed(goal, self._sign)

    def _joints(self, stamp: int, values: bytes) -> JointState:
        raw = np.frombuffer(values, PRESENT_LAYOUT)
        units = np.array([servo.speed_unit for servo in self.session.servos])
        return JointState(
            stamp,
            self.names,
            self.map.position((signed(raw["position"], SIGN) - CENTRE) * STEP),
            self.map.velocity(signed(raw["speed"], SIGN) * units),
            self.map.effort(signed(raw["load"], LOAD_SIGN) * LOAD_UNIT),
        )

    def _power_up(self) -> None:
        link, path = self.session.link, self.session.link.serial.path
        self.session.write_all(LOCK, 1, self._motors)  # a servo that was restarted has forgotten lock and mode
        self.session.write_all(OPERATING_MODE, self._mode, self._motors)
        self._confirm(OPERATING_MODE, self._mode, time.monotonic_ns())
        motions = self._resting(link.sync_read(PRESENT, self._motors))
        link.sync_write(MOTION, dict(zip(self._motors, motions, strict=True)))
        for motion, found, wanted in zip(motions, link.sync_read(MOTION, self._motors), self._driven, strict=True):
            if motion != found:
                raise BusError(f"servos at {path}: {wanted.joint} did not take a goal that moves nothing")
        states = link.sync_read(SUPPLY, self._motors)
        bad = [f"{w.joint}: {status_words(s[STATUS])}" for w, s in zip(self._driven, states, strict=True) if s[STATUS]]
        if bad:
            raise UnfitServo(f"servos at {path}: {'; '.join(bad)}; wait until that is over")
        self.session.write_all(TORQUE_ENABLE, 1, self._motors)
        self._confirm(TORQUE_ENABLE, 1, time.monotonic_ns())
        self.session.heard = time.monotonic_ns()

    def _resting(self, present: list[bytes]) -> list[bytes]:
        """The register MOTION of each motor such that nothing moves: no ramp, its own position, no speed or PWM."""
        motions = []
        for wanted, servo, value in zip(self._driven, self._servos, present, strict=True):
            goal, speed = 0, 0
            if wanted.mode == "position":
                goal = int(signed(np.frombuffer(value, PRESENT_LAYOUT)["position"], SIGN)[0])
                goal, speed = require_within(wanted, servo, goal), servo.no_speed_limit
            motions.append(struct.pack("<BHHH", 0, goal, 0, speed))
        return motions
