"""One MuJoCo joint between end stops, with an encoder: what calibration has to find out is known exactly here."""

from dataclasses import dataclass

import mujoco
import numpy as np

LOW, HIGH = -100.0, 65.0  # [deg]

MODEL = """
<mujoco>
  <option timestep="{step}" gravity="{gravity} 0 0" integrator="implicitfast"/>
  <worldbody><body>
    <joint name="joint" type="hinge" axis="0 1 0" limited="{limited}" range="{low} {high}" solreflimit="{soft} 1"
      solimplimit=".9 .9 .001"
      damping="{viscous}" frictionloss="{coulomb}" armature="{inertia}"/>
    <geom type="capsule" fromto="0 0 0 .3 0 0" size=".01" mass="{mass}"/>
  </body></worldbody>
  <actuator><motor joint="joint"/></actuator>
</mujoco>
"""


def model(
    low=-100.0, high=100.0, soft=0.02, viscous=0.05, coulomb=0.02, inertia=0.01, mass=0.01, gravity=0.0, step=0.0005
):
    """The arm lies along gravity (+x) at zero. Angles in degrees, everything else SI; low = high: no stops."""
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


def press(efforts=(0.1, 0.1, 0.2, 0.2, 0.4, 0.4), dwell=5.0, sign=-1.0):
    """To the low stop, to the high one, and so on, pushing with `efforts` and staying there."""

    def effort(t, q, v):
        i = min(int(t / dwell), len(efforts) - 1)
        return sign * (-1) ** i * efforts[i]

    return effort


def chirp(amplitude, band=(0.3, 8.0), period=10.0):
    """Up in `period` [s], then down, logarithmically."""
    rate = np.log(band[1] / band[0])

    def value(t):
        within = abs((t + period) % (2 * period) - period)
        return amplitude * np.sin(2 * np.pi * band[0] * period / rate * (np.exp(rate * within / period) - 1.0))

    return value


STEP = 0.0005  # the integrator moves the joint half of this early


def drive(delay, mode="effort", rate=200.0, seconds=20.0, amplitude=0.3, ticks=4096, gain=4.0, **physics):
    """Send a chirp at `rate`, each command acting `delay` [s] later; return the log (calibration.delay.Log) of the joint."""
    from calibration.delay import Log

    plant = model(0, 0, step=STEP, **({"coulomb": 0.02, "mass": 0.05, "gravity": 9.81} | physics))
    data, signal = mujoco.MjData(plant), chirp(amplitude)
    every, late = round(1 / rate / STEP), round(delay / STEP)
    sent, stamps, response = [], [], []
    for i in range(round(seconds / STEP)):
        if i % every == 0:
            sent.append(float(signal(i * STEP)))
            stamps.append(i * STEP)
            response.append(float(data.qpos[0]))
        acting = sent[(i - late) // every] if i >= late else 0.0
        if mode == "position":
            acting = gain * (acting - data.qpos[0]) - 0.1 * data.qvel[0]
        elif mode == "velocity":
            acting = gain * (acting - data.qvel[0])
        data.ctrl[0] = acting
        mujoco.mj_step(plant, data)
    step = 2 * np.pi / ticks
    return Log(np.array(stamps), np.array(sent), np.array(stamps), np.round(np.array(response) / step) * step)
