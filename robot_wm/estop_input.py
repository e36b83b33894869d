"""What must keep saying that all is clear, or the robot stops: a button's node, a light curtain, a dead man's switch."""

from __future__ import annotations

from robot_wm.timebase import NS_PER_S

PRESSED = "the e-stop input is not clear"


class EstopInput:
    """Stops the robot when it is told to, and when it has been told nothing for `within_s` [s]: a wire that is cut looks like that.

    `say` may be called by another thread than the loop's.
    """

    def __init__(self, within_s: float) -> None:
        self._within = round(within_s * NS_PER_S)
        self._last: tuple[bool, int] | None = None  # what was said, and when [ns]
        self._pressed = False  # since the loop has looked

    def say(self, clear: bool, now: int) -> None:
        """Whether all is clear at `now` [ns, monotonic]."""
        if not clear:
            self._pressed = True
        self._last = (clear, now)

    def fault(self, now: int) -> str:
        """Why the robot must not move at `now` [ns], or nothing. A stop that was already taken back is told once."""
        pressed, self._pressed = self._pressed, False
        if self._last is None:
            return "the e-stop input has said nothing yet"
        clear, stamp = self._last
        if pressed or not clear:
            return PRESSED
        silent = now - stamp
        return f"the e-stop input is silent for {silent / NS_PER_S:.2f} s" if silent > self._within else ""
