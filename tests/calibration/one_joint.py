"""One MuJoCo joint between end stops, with an encoder: what calibration has to find out is known exactly here."""

from dataclasses import dataclass

import mujoco
import numpy as np

MODEL = """
<mujoco>
  <option timestep="0.0005" gravity="{gravity} 0 0" integrator="implicitfast"/>
  <worldbody><body>
    <joint name="joint" type="hinge" axis="0 1 0" limited="{limited}" range="{low} {high}" solreflimit="{soft} 1"
      solimplimit=".9 .9 .001"
      damping="{viscous}" frictionloss="{coulomb}" armature="{inertia}"/>
    <geom type="capsule" fromto="0 0 0 .3 0 0" size=".01" mass="{mass}"/>
  </body></worldbody>
  <actuator><motor joint="joint"/></actuator>
</mujoco>
"""


def model(low=-100.0, high=100.0, soft=0.02, viscous=0.05, coulomb=0.02, inertia=0.01, mass=0.01, gravity=0.0):
    """The arm hangs along gravity (+x) at zero. Angles in degrees, everything else SI."""
    limited = "true" if high > low else "false"
    return mujoco.MjModel.from_xml_string(MODEL.format(**locals()))


@dataclass(frozen=True)
class Encoder:
    """`direction * q + offset`, wrapped into [0, 2 pi) and rounded to one of `ticks`."""

    direction: float = 1.0
    offset: float = 0.0
    ticks: int = 4096

    def read(self, q):
        step = 2 * np.pi / self.ticks
        return np.round(np.mod(self.direction * q + self.offset, 2 * np.pi) / step) * step % (2 * np.pi)


def simulate(physics, effort, seconds, rate=200.0):
    """Drive it with `effort(t, q, v)`; return times (N,) [s], true positions (N,) [rad] and efforts (N,), sampled at `rate`."""
    data = mujoco.MjData(physics)
    every = round(1.0 / rate / physics.opt.timestep)
    rows = []
    for i in range(round(seconds * rate) * every):
        data.ctrl[0] = effort(data.time, float(data.qpos[0]), float(data.qvel[0]))
        if i % every == 0:
            rows.append((data.time, data.qpos[0], data.ctrl[0]))
        mujoco.mj_step(physics, data)
    times, positions, efforts = np.array(rows).T
    return times, positions, efforts
