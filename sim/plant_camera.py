"""The cameras of a real-time plant, in a process of their own: drawn on a thread, delivered as late as the contract says."""

from __future__ import annotations

from collections import Counter
from threading import Event as Flag
from threading import Thread
from typing import cast

from robot_wm.contract import Contract
from robot_wm.contract_images import ImageObservation
from robot_wm.errors import RunError
from robot_wm.images import Pixels
from robot_wm.mailbox import Mailbox
from robot_wm.messages import FloatArray
from robot_wm.timebase import NS_PER_S, Clock, Grid, MonotonicClock
from sim.plant_bus import PlantSensors
from sim.tasks import STATE_TOPIC, SeeingTask, make_task

Exposure = tuple[str, int, FloatArray]  # name, stamp, state of the scene
Picture = tuple[str, int, Pixels]


class PlantCamera:
    """The contract's images of the plant at `socket`, each at its own rate and `delay_s` after its capture, or when it is drawn.

    A picture that has not been begun when the next one is due is skipped.
    """

    def __init__(
        self, contract: Contract, socket: str, task: str = "", timeout_s: float = 1.0, clock: Clock | None = None
    ) -> None:
        """`task`: default the contract's name. Raises RunError for a task without cameras."""
        scene = make_task(task or contract.name)
        if not scene.contract.images:
            raise RunError(f"task {task or contract.name} has no camera")
        scene.contract.require_data_of(contract, f"task {task or contract.name}")
        self.counts: Counter[str] = Counter()
        self._scene = cast("SeeingTask", scene)
        self._clock = clock or MonotonicClock()
        self._poses = PlantSensors(contract, socket, timeout_s)
        self._grid = Grid(1.0 / scene.control_dt)
        self._images = {item.name: item for item in contract.images}
        self._exposed: dict[str, Mailbox[Exposure]] = {name: Mailbox() for name in self._images}
        self._drawn: Mailbox[Picture | Exception] = Mailbox(64)
        self._waiting: list[Picture] = []  # on their way
        self._due, self._end = Flag(), Flag()
        self._thread: Thread | None = None

    def open(self) -> None:
        """Connect and begin to draw. Raises BusError when there is no plant."""
        self._poses.open()
        self._end.clear()
        self._thread = Thread(target=self._draw, name="camera", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._poses.close()
        if self._thread is not None:
            self._end.set()
            self._due.set()
            self._thread.join()
            self._thread = None

    def figures(self) -> dict[str, float | str]:
        return dict(self.counts)

    def poll(self) -> list[Picture]:
        """Pictures that have arrived since the last call. Raises BusError without a plant, RunError when nothing can be drawn."""
        for drawn in self._drawn.drain():
            if isinstance(drawn, Exception):
                raise drawn
            self._waiting.append(drawn)
        for topic, stamp, state in self._poses.poll():
            if topic == STATE_TOPIC:
                self._expose(stamp, state)
        now = self._clock.now()
        there = [picture for picture in self._waiting if self._arrival(picture) <= now]
        self._waiting = [picture for picture in self._waiting if self._arrival(picture) > now]
        return there

    def _arrival(self, picture: Picture) -> int:
        name, stamp, _ = picture
        return stamp + round(self._images[name].delay_s * NS_PER_S)

    def _expose(self, stamp: int, state: FloatArray) -> None:
        step = self._grid.nearest(stamp)
        for name, item in self._images.items():
            if step % _period(item, self._grid.hz) == 0:
                late = self._exposed[name].take()  # either we get it back or it is being drawn
                self.counts[f"skipped {name}"] += late is not None
                self._exposed[name].put((name, stamp, state))
                self._due.set()

    def _draw(self) -> None:
        """The only thread that touches OpenGL."""
        try:
            while not self._end.is_set():
                self._due.wait()
                self._due.clear()
                for exposed in self._exposed.values():
                    exposure = exposed.take()
                    if exposure is not None:
                        name, stamp, state = exposure
                        self._scene.show(state)
                        taken = self._scene.capture(name, stamp)
                        if taken is not None:
                            self._drawn.put((name, stamp, cast("Pixels", taken.values)))
        except Exception as error:  # noqa: BLE001 - `poll` raises it
            self._drawn.put(error)


def _period(item: ImageObservation, control_hz: float) -> int:
    """Control steps between two pictures."""
    return max(1, round(control_hz / item.rate_hz)) if item.rate_hz else 1
