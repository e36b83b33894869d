"""motor_node: the motor loop on its own thread; it waits for nobody and stays safe when every other process dies."""

from __future__ import annotations

import gc
from collections.abc import Callable
from threading import Event as Flag
from threading import Thread
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Bool, Header
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robot_wm.arming_files import Papers
from robot_wm.buses.base import MotorBus, read_options
from robot_wm.buses.calibrated import open_calibrated
from robot_wm.contract import Contract
from robot_wm.estop_input import EstopInput
from robot_wm.excitation import Excitation
from robot_wm.messages import Applied, Event, JointState
from robot_wm.motor_loop import MotorLoop
from robot_wm.realtime import RealtimeOptions
from robot_wm.state_machine import POWERED, Answer, State, Transition
from robot_wm.watchdog import Watchdog
from ros_nodes import topics
from ros_nodes.base import ERROR, Base, Status
from ros_nodes.convert import (
    applied_to_msg,
    command_from_msg,
    event_from_msg,
    event_to_msg,
    joint_state_to_msg,
    plan_from_msg,
)
from ros_nodes.node_process import run_node

LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)

DEAD = Answer(False, "the motor loop does not run: activate motor_node first")


class MotorNode(Base):
    """Publishes joint_states, applied, state; subscribes plan, command, model_status, estop_clear.

    Serves ~/arm, ~/disarm, ~/estop and ~/reset.
    """

    def __init__(self) -> None:
        super().__init__("motor_node")
        self.text("bus", "", "Motor bus, a plug-in of the entry-point group robot_wm.buses")
        self.text("bus_options", "{}", "Options of the bus, as a JSON object")
        self.count("priority", 80, 0, 99, "SCHED_FIFO priority of the loop; 0: ordinary scheduling")
        self.count("cpu", -1, -1, 1023, "Core the loop is pinned to; -1: any")
        self.flag("lock_memory", True, "Keep the process from being swapped out")
        self.number(
            "watchdog_s", 0.5, 0.0, 10.0, "Another process cuts the power when the loop is silent so long [s]; 0: none"
        )
        self.number(
            "estop_clear_s",
            0.0,
            0.0,
            10.0,
            "E-stop unless the topic estop_clear says true so often [s]; 0: not asked for",
        )
        self.text("excitation", "", "Excite the joints while nobody commands: multisine, chirp or ou; empty: never")
        self.number("amplitude", 0.3, 0.0, 1.0, "Excitation: part of the way from the centre to the nearer limit")
        self.number("excitation_s", 0.0, 0.0, 86400.0, "Excitation: its length [s]; 0: without end")
        self.count("seed", 0, 0, 2**31 - 1, "Excitation: seed")
        self._thread: Thread | None = None
        self._bus: MotorBus | None = None
        self._watchdog: Watchdog | None = None

    def configure(self) -> None:
        self.contract = self.read_contract()
        self._options = options = read_options(self.value("bus_options"), "bus_options")
        rate = self.contract.motor_hz
        self._joints = self.advertise(JointStateMsg, topics.JOINT_STATES, topics.stream(rate))
        self._applied = self.advertise(JointStateMsg, topics.APPLIED, topics.stream(rate))
        self._states = self.advertise(Header, topics.STATE, topics.latched())
        excitation = self._excitation(self.contract)
        papers = Papers.read(self.contract, self.value("bundle"))
        self._bus, applied = open_calibrated(self.value("bus"), self.contract, options, papers.zeros)
        self._papers = papers.on_bus(applied)
        within_s = self.value("estop_clear_s")
        estop_input = EstopInput(within_s) if within_s else None
        self._loop = MotorLoop(
            self.contract,
            self._bus,
            self.clock_,
            self._publish,
            self._announce,
            excitation,
            self._papers.used(""),
            estop_input,
        )
        if estop_input is not None:
            self.subscribe(
                Bool,
                topics.ESTOP_CLEAR,
                lambda msg: estop_input.say(msg.data, self.clock_.now()),
                topics.latest(),
                always=True,
            )
        self._end = Flag()
        self.subscribe(JointTrajectory, topics.PLAN, self._on_plan, topics.latest())
        self.subscribe(JointStateMsg, topics.COMMAND, self._on_command, topics.command())
        self.subscribe(Header, topics.MODEL_STATUS, self._on_model_status, topics.latched(10), always=True)
        verbs: dict[str, Callable[[], Answer]] = {
            "arm": self._loop.arm,
            "disarm": self._loop.disarm,
            "estop": self._loop.estop,
            "reset": self._loop.reset,
        }
        for name, verb in verbs.items():
            self.serve(Trigger, f"~/{name}", self._service(verb))
        self.every(1.0, self._collect)
        self.every(0.1, self._watch)

    def activate(self) -> None:
        self._end.clear()
        if self.value("watchdog_s"):
            self._watchdog = Watchdog(self.contract, self.value("bus"), self._options, self.value("watchdog_s"))
        cpu = int(self.value("cpu"))
        options = RealtimeOptions(int(self.value("priority")), None if cpu < 0 else cpu, self.value("lock_memory"))
        self._thread = Thread(target=self._loop.run, args=(self._end, options), name="motor loop", daemon=True)
        self._thread.start()
        machine = self._loop.machine
        self._states.publish(event_to_msg(Event(machine.since, machine.state.value, machine.cause), self.offset))

    def deactivate(self) -> None:
        """The loop cuts the motors' power as it ends."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
            self._thread = None
        if self._watchdog is not None:
            self._watchdog.release()
            self._watchdog = None

    def cleanup(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def status(self) -> Status:
        health = self._loop.health()
        if self._thread is None or not self._thread.is_alive():
            return ERROR, "the motor loop has ended", dict(health.figures)
        if self._watchdog is not None and not self._watchdog.alive:
            return ERROR, f"{health.message}; the watchdog process has ended", dict(health.figures)
        return LEVELS[health.level], health.message, dict(health.figures)

    def _excitation(self, contract: Contract) -> Excitation | None:
        kind = self.value("excitation")
        if not kind:
            return None
        seed, duration = int(self.value("seed")), self.value("excitation_s")
        return Excitation(contract, kind, self.value("amplitude"), seed, duration_s=duration)

    def _publish(self, applied: Applied | None, joints: JointState | None, state: State) -> None:
        """Called by the loop every tick, on its thread."""
        if self._watchdog is not None:
            self._watchdog.beat(state in POWERED)
        if joints is not None:
            self._joints.publish(joint_state_to_msg(joints, self.offset))
        if applied is not None:
            self._applied.publish(applied_to_msg(applied, self.contract, self.offset))

    def _announce(self, change: Transition) -> None:
        self._states.publish(event_to_msg(Event(change.stamp, change.after.value, change.cause), self.offset))

    def _on_plan(self, msg: JointTrajectory) -> None:
        self._loop.plans.put(plan_from_msg(msg, self.contract, self.offset, topics.PLAN))

    def _on_command(self, msg: JointStateMsg) -> None:
        self._loop.commands.put(command_from_msg(msg, self.contract, self.offset, topics.COMMAND))

    def _on_model_status(self, msg: Header) -> None:
        """Hear which bundle planner_node plans with, for the check before arming and for what is played."""
        event = event_from_msg(msg, self.offset, topics.MODEL_STATUS)
        node, _, bundle_id = event.note.partition(" ")
        if node != "planner_node" or event.kind not in ("ready", "using"):
            return
        self._loop.plan_player.expect(bundle_id)
        if event.kind == "using":
            self._loop.papers = self._papers.used(bundle_id)

    def _service(self, verb: Callable[[], Answer]) -> Callable[[Any, Any], Any]:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            given = verb() if self._alive() or verb in (self._loop.disarm, self._loop.estop) else DEAD
            response.success, response.message = given.success, given.message
            return response

        return answer

    def _alive(self) -> bool:
        return self.active and self._thread is not None and self._thread.is_alive()

    def _watch(self) -> None:
        """A loop that has ended by itself ends the process, so that whoever supervises it starts it again, disarmed."""
        if self.active and not self._alive():
            self.broken = "the motor loop has ended"

    def _collect(self) -> None:
        """The loop has frozen the garbage collector; what the middleware leaves behind since is little and goes here."""
        if not gc.isenabled():
            gc.collect(1)


def main() -> None:
    run_node(MotorNode)


if __name__ == "__main__":
    main()
