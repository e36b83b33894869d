"""A motor bus without motors: simple joints in the computer, for benchmarks, dry runs and fault injection."""

from __future__ import annotations

import numpy as np

from robot_wm.contract import Contract
from robot_wm.errors import BusError
from robot_wm.messages import FloatArray, JointState
from robot_wm.timebase import NS_PER_S, Clock, MonotonicClock

FRICTION = 1.0  # [1/s] of the unit-inertia joints in effort mode
LONGEST_STEP_S = 0.1  # a joint that nobody looked at for longer does not jump


class LoopbackBus:
    """Position mode follows at once, velocity mode integrates, effort mode drives a unit inertia with friction.

    `read_error`, `write_error` and `fault_text` inject faults: while one is set, that call fails with it.
    """

    def __init__(self, contract: Contract, clock: Clock | None = None) -> None:
        self.names = contract.joints
        self.enabled = False
        self.written: FloatArray = np.zeros(contract.action.size)
        self.writes = 0
        self.read_error = self.write_error = self.fault_text = ""
        self.position = np.zeros(len(self.names))
        self.velocity = np.zeros(len(self.names))
        self._mode = contract.action.mode
        self._clock = clock or MonotonicClock()
        self._stamp = self._clock.now()

    def open(self) -> None:
        self._stamp = self._clock.now()

    def close(self) -> None:
        self.enabled = False

    def read(self) -> JointState:
        if self.read_error:
            raise BusError(self.read_error)
        now = self._clock.now()
        self._step(min((now - self._stamp) / NS_PER_S, LONGEST_STEP_S))
        self._stamp = now
        effort = np.zeros(len(self.names))
        if self._mode == "effort" and self.enabled:
            effort[: self.written.size] = self.written
        return JointState(now, self.names, self.position.copy(), self.velocity.copy(), effort)

    def write(self, values: FloatArray) -> None:
        if self.write_error:
            raise BusError(self.write_error)
        self.written = np.array(values, np.float64)
        self.writes += 1

    def enable(self) -> None:
        if self.write_error:
            raise BusError(self.write_error)
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def fault(self) -> str | None:
        return self.fault_text or None

    def _step(self, dt: float) -> None:
        driven = slice(0, self.written.size)
        if not self.enabled or self._mode == "effort":
            force = np.zeros(len(self.names))
            if self.enabled:
                force[driven] = self.written
            self.velocity += (force - FRICTION * self.velocity) * dt
            self.position += self.velocity * dt
        elif self._mode == "velocity":
            self.velocity[driven] = self.written
            self.position[driven] += self.written * dt
        elif dt > 0.0:
            self.velocity[driven] = (self.written - self.position[driven]) / dt
            self.position[driven] = self.written
