"""Safe excitation: signals that move a robot enough to learn from, inside its limits, repeatable from a seed.

They are requests like any other and pass the same safety filter (limits, rates, joint bounds) before they are sent.
"""

from __future__ import annotations

import math

import numpy as np

from robot_wm.contract import Contract
from robot_wm.errors import RunError
from robot_wm.messages import FloatArray

KINDS = ("multisine", "chirp", "ou")
TONES = 12  # of a multisine
PERIOD_S = 20.0  # of the lowest tone that fits, over which a multisine is scaled; a chirp sweeps up in it, then down
OU_STEP_S = 0.01
AT_LIMIT = 0.01  # of the range: nearer to a limit than this there is no room to swing


class Excitation:
    """A signal for every action, `amplitude` of the way from where it starts to the nearer limit, under a smooth envelope.

    Args:
        kind: multisine (random phases, tones spread over the band by action so that they can be told apart), chirp
            (logarithmic, up and down again, actions shifted in time), or ou (Ornstein-Uhlenbeck noise).
        amplitude: fraction of the room to the limits, above 0 and at most 1.
        band: lowest and highest frequency [Hz]; of ou, the second is the inverse correlation time / 2 pi.
        ramp_s: time [s] from rest to full amplitude and, before `duration_s`, back.
        duration_s: when it is over [s]; afterwards `action` returns None. 0: never.

    Raises:
        RunError: naming the option that cannot be used.
    """

    def __init__(
        self,
        contract: Contract,
        kind: str = "multisine",
        amplitude: float = 0.5,
        seed: int = 0,
        band: tuple[float, float] = (0.1, 3.0),
        ramp_s: float = 2.0,
        duration_s: float = 0.0,
    ) -> None:
        _check(kind, amplitude, band, ramp_s, duration_s, contract.motor_hz)
        action = contract.action
        self.kind, self.band, self.ramp_s, self.duration_s = kind, band, ramp_s, duration_s
        self._size = action.size
        self._low = np.array(action.limit_low or action.low)
        self._high = np.array(action.limit_high or action.high)
        self._amplitude = amplitude
        self._seed = seed
        if kind == "multisine":
            self._frequency, self._phase, self._gain = self._tones()
        self.restart()

    def restart(self, start: FloatArray | None = None) -> None:
        """Begin again at 0 s with the same signal, from and around `start` (A,) in SI units (default: zero, or the nearest
        limit where zero is outside). Where that is a limit, the signal moves to the middle of the range as it fades in."""
        low, high = self._low, self._high
        self._start = np.clip(np.zeros(self._size) if start is None else np.asarray(start, float), low, high)
        room = np.minimum(high - self._start, self._start - low)
        one_sided = room <= AT_LIMIT * (high - low)
        self._centre = np.where(one_sided, (low + high) / 2, self._start)
        self._reach = self._amplitude * np.where(one_sided, (high - low) / 2, room)
        self._rng = np.random.default_rng(self._seed)
        self._noise = np.zeros(self._size)
        self._noise_steps = 0

    def action(self, seconds: float) -> FloatArray | None:
        """The request (A,) in SI units `seconds` after the start (never going back), or None when it is over."""
        if self.duration_s and seconds >= self.duration_s:
            return None
        shape = {"multisine": self._multisine, "chirp": self._chirp, "ou": self._ou}[self.kind](seconds)
        goal = self._centre + self._reach * np.clip(shape, -1.0, 1.0)
        result: FloatArray = self._start + self._envelope(seconds) * (goal - self._start)
        return result

    def _envelope(self, seconds: float) -> float:
        if self.ramp_s <= 0.0:
            return 1.0
        rise = seconds / self.ramp_s
        fall = (self.duration_s - seconds) / self.ramp_s if self.duration_s else math.inf
        part = min(max(min(rise, fall), 0.0), 1.0)
        return 0.5 - 0.5 * math.cos(math.pi * part)

    def _tones(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Frequencies [Hz] and phases, each (A, TONES), and the gain (A, 1) that brings every sum to a peak of 1."""
        first, last = max(1, round(self.band[0] * PERIOD_S)), max(1, round(self.band[1] * PERIOD_S))
        lines = np.geomspace(first, max(last, first + 1), TONES * self._size)
        frequency = lines.reshape(TONES, self._size).T / PERIOD_S
        phase = np.random.default_rng(self._seed).uniform(0.0, 2 * math.pi, frequency.shape)
        time = np.arange(0.0, PERIOD_S, 0.25 / self.band[1])
        sums = np.sin(2 * math.pi * frequency[:, :, None] * time + phase[:, :, None]).sum(axis=1)
        return frequency, phase, 1.0 / np.abs(sums).max(axis=1, keepdims=True)

    def _multisine(self, seconds: float) -> FloatArray:
        waves = self._gain * np.sin(2 * math.pi * self._frequency * seconds + self._phase)
        result: FloatArray = waves.sum(axis=1)
        return result

    def _chirp(self, seconds: float) -> FloatArray:
        shifted = seconds + PERIOD_S * np.arange(self._size) / self._size
        within = np.abs((shifted + PERIOD_S) % (2 * PERIOD_S) - PERIOD_S)  # 0 up to PERIOD_S and back
        ratio = math.log(self.band[1] / self.band[0])
        turns = self.band[0] * PERIOD_S / ratio * (np.exp(ratio * within / PERIOD_S) - 1.0)
        result: FloatArray = np.sin(2 * math.pi * turns)
        return result

    def _ou(self, seconds: float) -> FloatArray:
        steps = int(seconds / OU_STEP_S)
        keep = math.exp(-2 * math.pi * self.band[1] * OU_STEP_S)
        while self._noise_steps < steps:
            self._noise = keep * self._noise + math.sqrt(1 - keep * keep) * self._rng.normal(0.0, 0.5, self._size)
            self._noise_steps += 1
        return self._noise


def _check(
    kind: str, amplitude: float, band: tuple[float, float], ramp_s: float, duration_s: float, motor_hz: float
) -> None:
    if kind not in KINDS:
        raise RunError(f"unknown excitation {kind!r}; choose {', '.join(KINDS)}")
    if not 0.0 < amplitude <= 1.0:
        raise RunError(f"excitation amplitude must be above 0 and at most 1, got {amplitude:g}")
    if not 0.0 < band[0] < band[1]:
        raise RunError(f"excitation band must rise from above 0 Hz, got {band[0]:g}..{band[1]:g} Hz")
    if band[1] > motor_hz / 2:
        raise RunError(f"excitation band ends at {band[1]:g} Hz, above half of motor_hz, {motor_hz / 2:g} Hz")
    if ramp_s < 0.0 or duration_s < 0.0 or (duration_s and duration_s < 2 * ramp_s):
        raise RunError(f"excitation of {duration_s:g} s has no room for two ramps of {ramp_s:g} s")
