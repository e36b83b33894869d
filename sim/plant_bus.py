"""The plant's clients: a motor bus, a sensor stream, and the control that a launcher needs."""

from __future__ import annotations

import json
import select
import socket
import time
from contextlib import suppress
from typing import Any

import numpy as np

from robot_wm.contract import Contract, parse_contract
from robot_wm.errors import BusError, MessageError
from robot_wm.messages import FloatArray, JointState
from sim.plant_wire import ENABLED, LARGEST, Kind, Message, connect, pack, unpack

CONTROL_TIMEOUT_S = 5.0


class PlantLink:
    """One connection; every call ends within `timeout_s`."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._sequence = 0

    @property
    def up(self) -> bool:
        return self._socket is not None

    def open(self) -> None:
        """Connect. Raises BusError."""
        self.close()
        self._socket = connect(self.path, self.timeout_s)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, kind: Kind, stamp: int = 0, values: FloatArray | None = None, sequence: int | None = None) -> int:
        """Send one message and return its sequence number. Raises BusError when the plant is gone or does not take it."""
        if self._socket is None:
            raise BusError(f"not connected to the plant at {self.path}")
        self._sequence = (self._sequence + 1 if sequence is None else sequence) & 0xFFFFFFFF
        message = Message(kind, self._sequence, stamp, np.zeros(0) if values is None else values)
        try:
            self._socket.send(pack(message))
        except OSError as error:
            self.close()
            raise BusError(f"plant at {self.path}: {error.strerror or error}") from error
        return self._sequence

    def receive(self, wait: bool = True) -> Message | None:
        """The next message; None when there is none and `wait` is false. Raises BusError after `timeout_s`."""
        if self._socket is None:
            raise BusError(f"not connected to the plant at {self.path}")
        if not wait and not select.select([self._socket], [], [], 0.0)[0]:
            return None
        try:
            data = self._socket.recv(LARGEST)
        except TimeoutError as error:
            raise BusError(f"plant at {self.path} did not answer within {self.timeout_s * 1e3:g} ms") from error
        except OSError as error:
            self.close()
            raise BusError(f"plant at {self.path}: {error.strerror or error}") from error
        if not data:
            self.close()
            raise BusError(f"plant at {self.path} has closed the connection")
        try:
            return unpack(data)
        except MessageError as error:
            raise BusError(str(error)) from error

    def ask(self, kind: Kind, answer: Kind, sequence: int | None = None) -> Message:
        """Send and wait for the answer with the same sequence, past older ones. Raises BusError, also when refused."""
        number = self.send(kind, sequence=sequence)
        end = time.monotonic() + self.timeout_s
        while True:
            message = self.receive()
            if message is not None and message.kind is Kind.REFUSED:
                raise BusError(f"plant at {self.path}: {message.text}")
            if message is not None and message.kind is answer and message.sequence == number:
                return message
            if time.monotonic() > end:
                raise BusError(f"plant at {self.path} did not answer within {self.timeout_s * 1e3:g} ms")


class PlantControl:
    """For whoever started the plant: episodes, figures, the end."""

    def __init__(self, path: str) -> None:
        """Connect. Raises BusError."""
        self._link = PlantLink(path, CONTROL_TIMEOUT_S)
        self._link.open()

    def reset(self, seed: int) -> dict[str, Any]:
        """Start an episode from `seed`; returns the status, whose `began` is its first instant [ns, monotonic]."""
        return self._text(Kind.RESET, seed)

    def status(self) -> dict[str, Any]:
        """Figures since the last reset: steps, reward_mean, counters."""
        return self._text(Kind.STATUS)

    def describe(self) -> dict[str, Any]:
        """Task, contract hash, action and joint names, stream topics, control_dt [s]."""
        return self._text(Kind.DESCRIBE)

    def stop(self) -> dict[str, Any]:
        """End the plant; returns its last status."""
        return self._text(Kind.STOP)

    def close(self) -> None:
        self._link.close()

    def _text(self, kind: Kind, sequence: int | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._link.ask(kind, Kind.TEXT, sequence).text)
        return answer


class PlantBus:
    """Motor bus of a plant at `socket`. After the plant was restarted it reconnects unpowered, and reports a fault."""

    def __init__(self, contract: Contract, socket: str, timeout_s: float = 0.02) -> None:
        self.contract = contract
        self.names: tuple[str, ...] = contract.action.names
        self._link = PlantLink(socket, timeout_s)
        self._powered = False  # what we asked for
        self._flags = 0  # what the plant last said

    def open(self) -> None:
        """Connect. Raises BusError when there is no plant or one of another robot, ContractError naming other differences."""
        control = PlantControl(self._link.path)
        about = control.describe()
        control.close()
        if tuple(about["actions"]) != self.contract.action.names:
            ours, theirs = ", ".join(self.contract.action.names), ", ".join(about["actions"])
            raise BusError(f"plant at {self._link.path} runs {about['task']} with actions {theirs}, not {ours}")
        self.contract.require_data_of(parse_contract(about["contract"]), f"plant at {self._link.path}")
        self.names = tuple(about["joints"])
        self._link.open()

    def close(self) -> None:
        if self._link.up:
            with suppress(BusError):  # a plant that is gone has no power to cut
                self.disable()
            self._link.close()

    def read(self) -> JointState:
        if not self._link.up:
            self._link.open()
        state = self._link.ask(Kind.READ, Kind.STATE)
        self._flags = state.flags
        count = len(self.names)
        if len(state.values) != 3 * count:
            raise BusError(f"plant at {self._link.path} sent {len(state.values)} values for {count} joints")
        position, velocity, effort = state.values.reshape(3, count)
        return JointState(state.stamp, self.names, position, velocity, effort)

    def write(self, values: FloatArray) -> None:
        self._link.send(Kind.COMMAND, time.monotonic_ns(), values)

    def enable(self) -> None:
        self._link.send(Kind.ENABLE)
        self._powered = True
        self._flags |= ENABLED  # until the next reading says otherwise

    def disable(self) -> None:
        self._powered = False
        self._link.send(Kind.DISABLE)

    def fault(self) -> str | None:
        if self._powered and not self._flags & ENABLED:
            return f"plant at {self._link.path} has lost its power: it was restarted or another client cut it"
        return None


class PlantSensors:
    """Task observations and rewards of a plant at `socket`; `lost` counts samples that never arrived."""

    def __init__(self, contract: Contract, socket: str, timeout_s: float = 1.0) -> None:
        self.contract = contract
        self.lost = 0
        self._link = PlantLink(socket, timeout_s)
        self._streams: tuple[str, ...] = ()
        self._expected: int | None = None

    def open(self) -> None:
        """Connect and subscribe. Raises BusError when there is no plant."""
        self._link.open()
        about = json.loads(self._link.ask(Kind.DESCRIBE, Kind.TEXT).text)
        self._streams = tuple(about["streams"])
        self._expected = None
        self._link.send(Kind.SUBSCRIBE)

    def close(self) -> None:
        self._link.close()

    def poll(self) -> list[tuple[str, int, FloatArray]]:
        """Everything since the last call, oldest first: topic, stamp [ns], values. Reconnects after a lost plant."""
        if not self._link.up:
            self.open()
        samples: list[tuple[str, int, FloatArray]] = []
        while True:
            try:
                message = self._link.receive(wait=False)
            except BusError:
                if samples:  # nothing that has come is lost; the next call says what happened
                    return samples
                raise
            if message is None:
                return samples
            if message.kind is not Kind.SAMPLE:
                continue
            if self._expected is not None:
                self.lost += (message.sequence - self._expected) & 0xFFFFFFFF
            self._expected = (message.sequence + 1) & 0xFFFFFFFF
            samples.append((self._streams[message.stream], message.stamp, message.values))
