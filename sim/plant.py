"""The plant as a process of its own: `python -m sim.plant --task cartpole_swingup --socket run/plant.sock`.

It serves any number of clients over a Unix socket (`sim/plant_wire.py`) from one thread: wait for a message or the next step,
do the steps that are due, answer. It prints one JSON line when it is ready and one with its figures at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import sys
from collections import deque
from pathlib import Path

import numpy as np

from robot_wm.errors import BusError, MessageError, RobotWmError, RunError
from robot_wm.launched_by import launcher
from robot_wm.realtime import RealtimeOptions, go_realtime
from robot_wm.timebase import NS_PER_S, Clock, MonotonicClock
from sim.plant_core import Plant
from sim.plant_wire import ENABLED, LARGEST, TRIPPED, Kind, Message, check_path, connect, pack, unpack
from sim.tasks import make_task

LONGEST_WAIT_S = 0.5  # so that a signal or a lost parent is noticed
QUEUE = 16384  # messages kept for a client that does not read; then the oldest go, and it sees the gap


class Client:
    """One connection and what still has to go out on it."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self.link = link
        self.subscribed = False
        self._queue: deque[bytes] = deque(maxlen=QUEUE)

    def send(self, message: Message) -> None:
        self._queue.append(pack(message))
        self.flush()

    def flush(self) -> None:
        """Send as much as the client takes. Raises OSError when it is gone."""
        while self._queue:
            try:
                self.link.send(self._queue[0])
            except BlockingIOError:
                return
            self._queue.popleft()


class PlantServer:
    """Serves one plant until a client or a signal stops it."""

    def __init__(self, plant: Plant, path: Path | str, clock: Clock | None = None) -> None:
        """Listen at `path`. Raises RunError when another plant does, BusError when the path is too long."""
        self.plant = plant
        self.path = check_path(path)
        self.clock = clock or MonotonicClock()
        self.stopping = False
        self._sequence = 0
        self._clients: list[Client] = []
        self._listener = _listen(self.path)

    def serve(self, with_parent: bool = False) -> None:
        """Run until `stopping`; `with_parent` also ends when the process that started this one is gone."""
        parent = launcher()
        while not self.stopping and not (with_parent and os.getppid() != parent):
            wait = min(max(self.plant.due - self.clock.now(), 0) / NS_PER_S, LONGEST_WAIT_S)
            readable, _, _ = select.select([self._listener, *(c.link for c in self._clients)], [], [], wait)
            self.plant.advance(self.clock.now())
            if self._listener in readable:
                self._clients.append(Client(self._listener.accept()[0]))
            for client in [c for c in self._clients if c.link in readable]:
                self._serve_client(client)
            self._stream()

    def close(self) -> None:
        """Disconnect everyone and remove the socket."""
        for client in self._clients:
            client.link.close()
        self._listener.close()
        Path(self.path).unlink(missing_ok=True)

    def _serve_client(self, client: Client) -> None:
        """Handle all that one client has sent; a client that is gone is forgotten, what it commanded runs out."""
        try:
            while True:
                data = client.link.recv(LARGEST)
                if not data:
                    raise ConnectionResetError("client closed its end")
                self._handle(client, data)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        client.link.close()
        self._clients.remove(client)

    def _handle(self, client: Client, data: bytes) -> None:
        try:
            message = unpack(data)
        except MessageError as error:
            client.send(Message(Kind.REFUSED, text=str(error)))
            return
        plant, now = self.plant, self.clock.now()
        plant.advance(now)
        if message.kind is Kind.READ:
            client.send(self._state(message.sequence))
        elif message.kind is Kind.COMMAND:
            reason = plant.command(message.stamp, message.values, now)
            if reason:
                client.send(Message(Kind.REFUSED, message.sequence, text=reason))
        elif message.kind is Kind.ENABLE:
            plant.enable(now)
        elif message.kind is Kind.DISABLE:
            plant.disable(now)
        elif message.kind is Kind.SUBSCRIBE:
            client.subscribed = True
        else:
            self._control(client, message)

    def _control(self, client: Client, message: Message) -> None:
        """The launcher's messages, answered with JSON."""
        if message.kind is Kind.RESET:
            self.plant.reset(message.sequence, self.clock.now())
        elif message.kind is Kind.STOP:
            self.stopping = True
        elif message.kind not in (Kind.STATUS, Kind.DESCRIBE):
            client.send(Message(Kind.REFUSED, message.sequence, text=f"a plant takes no {message.kind.name} message"))
            return
        answer = self._description() if message.kind is Kind.DESCRIBE else self.plant.status()
        client.send(Message(Kind.TEXT, message.sequence, text=json.dumps(answer)))

    def _state(self, sequence: int) -> Message:
        joints = self.plant.joints()
        flags = ENABLED * self.plant.enabled | TRIPPED * self.plant.tripped()
        values = np.concatenate([joints.position, joints.velocity, joints.effort])
        return Message(Kind.STATE, sequence, joints.stamp, values, flags=flags)

    def _description(self) -> dict[str, object]:
        contract = self.plant.contract
        return {
            "task": contract.name,
            "contract": contract.to_dict(),
            "actions": contract.action.names,
            "joints": self.plant.joints().names,
            "streams": self.plant.streams,
            "control_dt": self.plant.task.control_dt,
        }

    def _stream(self) -> None:
        """Hand the new samples to every subscriber, and what is left from before."""
        samples = list(self.plant.samples)
        self.plant.samples.clear()
        for client in list(self._clients):
            try:
                for i, sample in enumerate(samples if client.subscribed else ()):
                    number = self._sequence + i
                    client.send(Message(Kind.SAMPLE, number, sample.stamp, sample.values, stream=sample.stream))
                client.flush()
            except OSError:
                self._drop(client)
        self._sequence += len(samples)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the process; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m sim.plant", description="A MuJoCo task in real time.")
    parser.add_argument("--task", required=True, help="cartpole_swingup or dmc:<domain>-<task>")
    parser.add_argument("--socket", required=True, help="path of the Unix socket to serve")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode's initial state")
    parser.add_argument("--with-parent", action="store_true", help="end when the process that started this one is gone")
    parser.add_argument("--priority", type=int, default=60, help="SCHED_FIFO priority where permitted, 0: none (60)")
    options = parser.parse_args(arguments)
    try:
        plant = Plant(make_task(options.task), options.seed, MonotonicClock().now())
        server = PlantServer(plant, options.socket)
    except RobotWmError as error:
        print(f"plant: {error}", file=sys.stderr)
        return 1

    def stop(*_: object) -> None:
        server.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # Physics waits for no other process; below a motor loop's 80.
    realtime = go_realtime(RealtimeOptions(priority=options.priority, lock_memory=False))
    ready = {"ready": True, "socket": server.path, "task": options.task, "realtime": realtime.summary()}
    print(json.dumps(ready), flush=True)
    try:
        server.serve(options.with_parent)
    finally:
        server.close()
    print(json.dumps(plant.status()), flush=True)
    return 0


def _listen(path: str) -> socket.socket:
    """A listening socket at `path`; one that a dead plant left behind is replaced."""
    if Path(path).exists():
        try:
            connect(path, 1.0).close()
        except BusError:
            Path(path).unlink(missing_ok=True)
        else:
            raise RunError(f"another plant serves {path}; stop it or choose another --socket")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(8)
    return listener


if __name__ == "__main__":
    sys.exit(main())
