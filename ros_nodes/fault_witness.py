"""What the robot itself says during a fault campaign: states with their causes, diagnostics, logs, processes that have ended."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Header

from ros_nodes import topics
from ros_nodes.processes import Supervisor
from ros_nodes.session import Session


@dataclass(frozen=True)
class Sign:
    """How a fault shows itself: `where` is a node's diagnostics, `state` (of motor_node), `log <process>`, `silence <node>`,
    `ended <process>`, or `refused <node>`: it counts more messages refused than before."""

    where: str
    pattern: str = ""


class Witness:
    """Listens from its construction on; `begin` forgets what came before."""

    def __init__(self, session: Session, supervisor: Supervisor) -> None:
        self._session = session
        self._supervisor = supervisor
        self.state = ""  # of motor_node, as it last said
        self.states: list[str] = []  # `<state>: <cause>`
        self._said: dict[str, list[str]] = defaultdict(list)
        self._refused: dict[str, float] = {}
        self._refused_before: dict[str, float] = {}
        self._logs: dict[str, int] = {}
        session.subscribe(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, 100)
        session.subscribe(Header, topics.STATE, self._on_state, topics.latched())

    def begin(self) -> None:
        """A fault comes: only what is said from now on is about it."""
        self.states.clear()
        self._said.clear()
        self._refused_before = dict(self._refused)
        self._logs = {path.stem: path.stat().st_size for path in self._supervisor.logs.glob("*.log")}

    def forget(self, node: str) -> None:
        """The node is started again: it counts from nothing and has no state yet."""
        self._refused.pop(node, None)
        self._refused_before.pop(node, None)
        if node == "motor_node":
            self.state = ""

    def saw(self, sign: Sign) -> bool:
        """Whether a sign was seen since `begin`."""
        kind, _, name = sign.where.partition(" ")
        if kind == "state":
            return any(re.search(sign.pattern, text) for text in self.states)
        if kind == "log":
            return re.search(sign.pattern, self._log(name)) is not None
        if kind == "silence":
            return bool(self._session.silent([name]))
        if kind == "ended":
            return name not in self._supervisor.running()
        if kind == "refused":
            return self._refused.get(name, 0.0) > self._refused_before.get(name, 0.0)
        return any(re.search(sign.pattern, text) for text in self._said[sign.where])

    def summary(self) -> list[str]:
        """The states gone through since `begin`, for the record."""
        return list(self.states)

    def _log(self, name: str) -> str:
        path = self._supervisor.logs / f"{name}.log"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(self._logs.get(name, 0))
            return file.read().decode(errors="replace")

    def _on_state(self, msg: Header) -> None:
        self.state = msg.frame_id.partition(":")[0]
        self.states.append(msg.frame_id)

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            name = status.name.rpartition("/")[2]
            self._said[name].append(status.message)
            counts = [pair.value for pair in status.values if "refused" in pair.key and pair.value.isdigit()]
            if counts:
                self._refused[name] = float(sum(map(int, counts)))
