"""A motor loop on a virtual clock with a loopback bus, and what it published: shared by the motor tests."""

import numpy as np

from conftest import slider_contract
from robot_wm.buses.loopback import LoopbackBus
from robot_wm.messages import Command, Plan
from robot_wm.motor_loop import MotorLoop
from robot_wm.timebase import VirtualClock

TICK = 10_000_000
STEP = 20_000_000


class Bench:
    """Steps the loop; `sent` is everything published, `transitions` every change of state."""

    def __init__(self, contract=None, excitation=None, bus=None):
        self.contract = contract or slider_contract()
        self.clock = VirtualClock(1_000_000_000)
        self.bus = bus or LoopbackBus(self.contract, self.clock)
        self.sent, self.transitions = [], []
        self.loop = MotorLoop(
            self.contract,
            self.bus,
            self.clock,
            publish=lambda applied, joints, state: self.sent.append((applied, joints, state)),
            listener=self.transitions.append,
            excitation=excitation,
        )

    def tick(self, count=1):
        for _ in range(count):
            self.clock.advance(TICK)
            state = self.loop.tick()
        return state

    def arm(self):
        self.tick()
        assert self.loop.arm().success
        return self.tick()

    def plan(self, values=(1.0, 2.0, 3.0), start=None, index=0, bundle="b", step=STEP):
        """A plan, from the next tick on unless told otherwise."""
        begin = self.clock.now() + TICK if start is None else start
        return Plan(index, begin, step, np.array(values, float).reshape(len(values), -1), bundle)

    def command(self, value, stamp=None):
        return Command(self.clock.now() + TICK if stamp is None else stamp, np.atleast_1d(np.array(value, float)))

    @property
    def applied(self):
        return self.sent[-1][0]
