"""Runs a whole stack on a machine without `ros2 launch`: start, wait, reset, arm, run, disarm, stop; nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from robot_wm.contract import Contract
from robot_wm.errors import BusError, RunError
from ros_nodes import topics
from ros_nodes.processes import Supervisor, free_domain, local_environment, without_shared_memory
from ros_nodes.session import Session
from ros_nodes.stack import BOARD, PLANT, Stack, board_command, node_command, plant_command, write_params

PLANTS = "robot_wm.plants"
PLANT_TIMEOUT_S = 20.0
START_TIMEOUT_S = 30.0
OF_THE_PLANT = ("motor_node", "sensor_node", "camera_node")  # these connect to it
STEP_S = 0.1
ERROR = 2  # diagnostic_msgs/DiagnosticStatus


class Plant(Protocol):
    """What a launcher asks of a simulated plant."""

    def reset(self, seed: int) -> dict[str, Any]:
        """Start an episode."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True)
class Fault:
    """Kill, freeze, thaw or restart one process during the run, `at` seconds after it was armed."""

    kind: str  # kill | freeze | thaw | restart
    name: str
    at: float


def parse_fault(kind: str, text: str) -> Fault:
    """`planner@3.0` → Fault. Raises RunError when it does not read like that."""
    name, _, at = text.partition("@")
    try:
        seconds = float(at)
    except ValueError as error:
        raise RunError(f"--{kind} {text!r} must read <process>@<seconds>, for example planner@3.0") from error
    return Fault(kind, name if name in (PLANT, BOARD) or name.endswith("_node") else f"{name}_node", seconds)


class Launch:
    """One running stack; made by `launched`."""

    def __init__(
        self,
        stack: Stack,
        contract: Contract,
        folder: Path,
        supervisor: Supervisor,
        session: Session,
        keep_going: bool,
        patience_s: float,
    ) -> None:
        self.stack = stack
        self.contract = contract
        self.supervisor = supervisor
        self.session = session
        self.keep_going = keep_going
        self.patience_s = patience_s
        self.plant: Plant | None = None
        self.last_state = ""  # what motor_node last said of itself
        self.provider = ""  # that planner_node runs on
        self.stopped = ""  # why the motors were e-stopped
        self.fell_silent: set[str] = set()  # nodes that hung, or died unnoticed
        self.recording_ended = ""  # why recorder_node stopped recording before the end
        self._params = write_params(stack, folder / "params.yaml")

    def start(self) -> None:
        """Start every process and return when all nodes are active. Raises RunError naming the one that is not."""
        if self.stack.plant:
            self.supervisor.start(plant_command(self.stack))
        waiting = [name for name in self.stack.nodes if self.stack.plant and name in OF_THE_PLANT]
        for name in self.stack.nodes:
            if name not in waiting:
                self.supervisor.start(node_command(self.stack, name, self._params))
        if self.stack.plant:
            self.plant = self._connect_plant()
        if self.stack.board:
            self.supervisor.start(board_command(self.stack))
            self._wait_for_port(Path(self.stack.bus_options["port"]))
        for name in waiting:
            self.supervisor.start(node_command(self.stack, name, self._params))
        self.session.wait_active(self.stack.nodes, self.patience_s)
        self.session.wait_well([name for name in self.stack.nodes if name != "model_sync_node"], self.patience_s)
        self.session.wait_listening("event", self.stack.listeners)
        if self.stack.bag is not None:
            self.session.wait_recorded(self._streams())

    def run(
        self, seconds: float, faults: Sequence[Fault], seed: int, progress: Callable[[float], None] | None = None
    ) -> None:
        """One episode: reset the plant, mark the start, arm, run for `seconds`, mark the end, disarm.

        The time that a restarted process takes to come back does not count.
        """
        if self.plant is not None:
            self.plant.reset(seed)
        self.session.mark("start", f"seed {seed}" if self.plant is not None else "")
        self.arm()
        begin = time.monotonic()
        due = sorted(faults, key=lambda fault: fault.at)
        while (elapsed := time.monotonic() - begin) < seconds:
            while due and due[0].at <= elapsed:
                before = time.monotonic()
                self._inflict(due.pop(0))
                begin += time.monotonic() - before
            self.session.spin(min(STEP_S, seconds - elapsed))
            self.fell_silent.update(self.session.silent(self.stack.nodes))
            if self._motor("state") == "estop":
                self.stopped = self.session.diagnostics["motor_node"][1]
                break
            if progress is not None:
                progress(time.monotonic() - begin)
        said = self.session.diagnostics
        self.last_state = said.get("motor_node", (0, "", {}))[1]
        self.provider = said.get("planner_node", (0, "", {}))[2].get("provider", "")
        level, message, _ = said.get("recorder_node", (0, "", {}))
        self.recording_ended = message if level == ERROR else ""
        self.session.mark("end")
        with contextlib.suppress(RunError):  # e-stopped, or killed by a fault: the figures are wanted all the more
            self.session.trigger("motor_node/disarm")
        self.session.spin(STEP_S)

    def stop(self) -> None:
        """Disarm and end everything, whoever commands first, the recorder last."""
        motor = "motor_node"
        if motor in self.supervisor.running():
            with contextlib.suppress(RunError):
                self.session.trigger(f"{motor}/disarm", 1.0)
        nodes = self.stack.nodes
        self.supervisor.stop(nodes[: nodes.index(motor)])
        self.supervisor.stop([motor])
        if self.plant is not None:
            self.plant.close()
        self.supervisor.stop()

    def check(self) -> None:
        """Called all the time: a process that ended by itself ends the run, unless it is to go on."""
        if not self.keep_going:
            self.supervisor.check()

    def _streams(self) -> list[str]:
        """What the recorder hears before anything is armed; on a loaded machine it finds its publishers one by one."""
        planned = [topics.LATENT, topics.PLAN] if self.stack.bundle is not None else []
        rewarded = [self.contract.reward.topic] if self.stack.plant and self.contract.reward.topic else []
        seen = topics.images(self.contract) if self.stack.cameras else {}
        return [topics.JOINT_STATES, topics.APPLIED, *planned, *rewarded, *seen]

    def arm(self) -> None:
        """Arm as soon as the motor loop has heard the joints."""
        deadline = time.monotonic() + 5.0
        while True:
            try:
                self.session.trigger("motor_node/arm")
                return
            except RunError:
                if time.monotonic() > deadline:
                    raise
                self.session.spin(STEP_S)

    def _inflict(self, fault: Fault) -> None:
        """Do it, then mark it in the bag."""
        if fault.kind != "restart":
            inflict, done = {
                "kill": (self.supervisor.kill, "killed"),
                "freeze": (self.supervisor.freeze, "froze"),
                "thaw": (self.supervisor.thaw, "thawed"),
            }[fault.kind]
            inflict(fault.name)
            self.session.mark("mark", f"{done} {fault.name}")
            return
        self.supervisor.restart(fault.name)
        if fault.name in self.stack.nodes:
            self.session.wait_active([fault.name])
            self.session.wait_well([fault.name])
        if self._motor("state") == "damped":
            self.arm()  # what an operator would do
        self.session.mark("mark", f"restarted {fault.name}")

    def _motor(self, key: str) -> str:
        """One of motor_node's newest figures."""
        return self.session.diagnostics.get("motor_node", (0, "", {}))[2].get(key, "")

    def _wait_for_port(self, port: Path) -> None:
        deadline = time.monotonic() + PLANT_TIMEOUT_S
        while not port.exists():
            self.supervisor.check()
            if time.monotonic() > deadline:
                raise RunError(f"the emulated board is not ready after {PLANT_TIMEOUT_S:g} s")
            time.sleep(STEP_S)

    def _connect_plant(self) -> Plant:
        """The plant bears the name of its sensor stream; the bus may be another, with emulated hardware between."""
        name = self.stack.sensors
        found = [entry for entry in entry_points(group=PLANTS) if entry.name == name]
        if not found:
            raise RunError(f"no plant {name!r} is installed; install robot_wm again")
        connect = found[0].load()
        deadline = time.monotonic() + PLANT_TIMEOUT_S
        while True:
            self.supervisor.check()
            try:
                plant: Plant = connect(self.stack.sensor_options["socket"])
                return plant
            except BusError as error:
                if time.monotonic() > deadline:
                    raise RunError(f"the plant is not ready after {PLANT_TIMEOUT_S:g} s: {error}") from error
                time.sleep(STEP_S)


@contextlib.contextmanager
def launched(
    stack: Stack,
    contract: Contract,
    folder: Path,
    local: bool,
    keep_going: bool = False,
    patience_s: float = START_TIMEOUT_S,
) -> Iterator[Launch]:
    """Start a stack and stop it however the block ends: normally, on an error, Ctrl-C or SIGTERM.

    Args:
        contract: the stack's, or its bundle's.
        folder: gets the resolved parameters and the processes' logs.
        local: choose a free ROS domain and keep to this machine; otherwise the environment decides, as on a robot.
        patience_s: for every node to become active, and then to be well.
    """
    logs = folder / "logs"
    with contextlib.ExitStack() as cleanup:
        environment = cleanup.enter_context(_environment(local, folder))
        cleanup.enter_context(_terminated_like_interrupted())
        supervisor = Supervisor(logs, environment)
        cleanup.callback(supervisor.stop)
        launch: Launch | None = None

        def check() -> None:
            if launch is not None:
                launch.check()

        session = cleanup.enter_context(Session(stack.namespace, check))
        launch = Launch(stack, contract, folder, supervisor, session, keep_going, patience_s)
        try:
            launch.start()
            yield launch
        finally:
            with _undisturbed():
                launch.keep_going = True  # ending is no longer an error
                launch.stop()


@contextlib.contextmanager
def _environment(local: bool, folder: Path) -> Iterator[Mapping[str, str]]:
    """The environment of all processes, ours included while it lasts."""
    before = dict(os.environ)
    with contextlib.ExitStack() as domain:
        if local:
            given = os.environ.get("ROS_DOMAIN_ID")
            number = int(given) if given else domain.enter_context(free_domain())
            environment = local_environment(number, folder)
        else:
            environment = without_shared_memory(folder)
        os.environ.clear()
        os.environ.update(environment)
        try:
            yield environment
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: everything is stopped in order."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C must not interrupt the stopping of motors."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
