"""planner_node: newest latent → plan that starts when it takes effect, on its own thread with absolute deadlines."""

from __future__ import annotations

import gc
from collections import Counter, deque
from threading import Event as Flag
from threading import Thread

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from robot_wm.backend import Model
from robot_wm.bundle import Bundle
from robot_wm.errors import BackendError
from robot_wm.mailbox import Mailbox
from robot_wm.messages import Applied, Event, Latent, Plan
from robot_wm.planner import Planner
from robot_wm.replanner import NoLatent, Replanner, require_reach
from robot_wm.search import search_named
from robot_wm.timebase import NS_PER_S, Grid
from robot_wm.trust_ladder import Answers, Rung, Standing, arming_status, rung_named
from robot_wm.verify import verify_on_device
from ros_nodes import topics
from ros_nodes.base import ERROR, OK, WARN, Base, Status
from ros_nodes.convert import (
    applied_from_msg,
    event_from_msg,
    info_to_msg,
    latent_from_msg,
    plan_to_msg,
    require_past,
)
from ros_nodes.model_client import ModelClient
from ros_nodes.node_process import run_node

Item = Latent | Applied | Event | Planner | Standing


class PlannerNode(Base):
    """Subscribes latent, applied, event, trust; publishes plan, plan_info."""

    def __init__(self) -> None:
        super().__init__("planner_node")
        self.count("seed", 0, 0, 2**31 - 1, "Seed of the planner's counter-based noise")
        self.text("provider", "auto", "Execution provider: auto, tensorrt, cuda, openvino, openvino-bf16 or cpu")
        self.text("planner", "mppi", "How plans are refined: mppi, cem, sampling or policy (robot_wm/search.py)")
        self.count("threads", 1, 1, 64, "Threads of the planning graphs")
        self.count("every_steps", 1, 1, 100, "Model steps between two plans")
        self.number("budget_s", 0.0, 0.0, 1.0, "Begin at the latest this long before a plan's start [s]; 0: 0.7 period")
        self.number(
            "margin_s", 0.002, 0.0, 0.1, "A plan is ready this long before its first command has to be sent [s]"
        )
        self.number("cautious_doubt", 1.0, 0.0, 1e6, "Added to the disagreement cost while trust says cautious")
        self.number("cautious_horizon", 0.5, 0.0, 1.0, "Part of the horizon that is searched then")
        self.number("latent_stale_s", 0.2, 0.01, 10.0, "Without a latent younger than this no plan is made [s]")

    def configure(self) -> None:
        self.contract = self.read_contract()
        bundle = self.read_bundle(self.contract)
        bundle.require_reward()
        self._inbox: Mailbox[Item] = Mailbox(4096)
        self._period = Grid(self.contract.model_hz).step * int(self.value("every_steps"))
        self._budget = round(self.value("budget_s") * NS_PER_S) or round(0.7 * self._period)
        self._margin = round(self.value("margin_s") * NS_PER_S)
        model = self._open(bundle)
        verify_on_device(bundle, model)  # of bundles that come while it plans, model_sync_node has done it
        planner = self._warm(bundle, model)
        answers = Answers(self.value("cautious_doubt"), self.value("cautious_horizon"))
        self._replanner = Replanner(self.contract, planner, self.clock_, self.value("latent_stale_s"), answers)
        self._thread: Thread | None = None
        self._end = Flag()
        self._arrived = Flag()  # a latent is in the inbox
        self._problem = "no latent yet"
        self._sources: Counter[str] = Counter()
        self._recent: deque[tuple[float, int, float]] = deque(maxlen=100)  # seconds, refinements, latent age
        rate = NS_PER_S / self._period
        self._plans = self.advertise(JointTrajectory, topics.PLAN, topics.plan(rate))
        self._infos = self.advertise(DiagnosticArray, topics.PLAN_INFO, topics.stream(rate))
        self.subscribe(Image, topics.LATENT, self._on_latent, topics.latest())
        self.subscribe(JointStateMsg, topics.APPLIED, self._on_applied, topics.stream(self.contract.motor_hz))
        self.subscribe(Header, topics.EVENT, self._on_event, topics.stream(10))
        self.subscribe(Header, topics.TRUST, self._on_trust, topics.latched())
        self._models = ModelClient(
            self, self.contract, bundle, self._load, self._inbox.put, lambda: self._replanner.current
        )

    def activate(self) -> None:
        gc.collect()
        gc.freeze()
        self._end.clear()
        self._thread = Thread(target=self._work, name="planner", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def status(self) -> Status:
        recent, standing = list(self._recent), self._replanner.standing
        total = sum(self._sources.values())
        values: dict[str, object] = {"plans": total, "bundle": self._replanner.current}
        planner = self._replanner.planners[self._replanner.current]
        values |= {"provider": planner.model.provider, "samples": planner.budget.samples}
        values["trust"] = standing.rung.label
        values |= {f"plans {source}": count for source, count in self._sources.items()}
        if recent:
            milliseconds = np.array([item[0] for item in recent]) * 1e3
            values["plan ms p50"] = float(np.percentile(milliseconds, 50))
            values["plan ms p99"] = float(np.percentile(milliseconds, 99))
            values["refinements p50"] = float(np.median([item[1] for item in recent]))
            values["latent age ms p50"] = float(np.median([item[2] for item in recent])) * 1e3
        if self._thread is None or not self._thread.is_alive():
            return ERROR, "the planning thread has ended", values
        if self._problem:
            return WARN, self._problem, values
        if standing.rung is not Rung.NORMAL:
            values |= arming_status(standing.rung)
            return WARN, f"planning with little trust ({standing.rung.label}: {standing.cause})", values
        return OK, "planning", values

    def _load(self, bundle: Bundle) -> Planner:
        return self._warm(bundle, self._open(bundle))

    def _open(self, bundle: Bundle) -> Model:
        require_reach(self.contract, bundle.manifest.planner.horizon, self._period, self._budget)
        return Model(bundle, self.value("provider"), threads=1, planner_threads=int(self.value("threads")))

    def _warm(self, bundle: Bundle, model: Model) -> Planner:
        """A planner that has run before it is needed; the first runs of a graph are slow."""
        search = search_named(self.value("planner"))
        planner = Planner(self.contract, model, int(self.value("seed")), self.clock_, search)
        fitted = planner.fitted(self._budget / NS_PER_S)
        if fitted.budget.samples != planner.budget.samples:
            self.get_logger().warning(
                f"this machine is slow for bundle {bundle.bundle_id}: planning with {fitted.budget.samples} samples instead of "
                f"{planner.budget.samples}, so that two refinements fit into {self._budget / NS_PER_S:.3f} s"
            )
        return fitted

    def _on_latent(self, msg: Image) -> None:
        latent = latent_from_msg(msg, self.offset, topics.LATENT, self._replanner.grid)
        require_past(latent.stamp, self.clock_.now(), topics.LATENT)
        self._inbox.put(latent)
        self._arrived.set()

    def _on_applied(self, msg: JointStateMsg) -> None:
        applied = applied_from_msg(msg, self.contract, self.offset, topics.APPLIED)
        require_past(applied.stamp, self.clock_.now(), topics.APPLIED)
        self._inbox.put(applied)

    def _on_event(self, msg: Header) -> None:
        self._inbox.put(event_from_msg(msg, self.offset, topics.EVENT))

    def _on_trust(self, msg: Header) -> None:
        event = event_from_msg(msg, self.offset, topics.TRUST)
        self._inbox.put(Standing(rung_named(event.kind), event.note))

    def _work(self) -> None:
        """One plan per period: wait for its latent, plan, publish."""
        start = self._replanner.next_start(self.clock_.now(), self._budget)
        while not self._end.is_set():
            self._await_latent(start)
            try:
                plan, info = self._replanner.plan(start, self._replanner.sent(start) - self._margin)
                self._send(plan)
                self._infos.publish(info_to_msg(info, start, "planner_node", self.offset))
            except NoLatent as error:
                self._problem = str(error)
            except BackendError as error:
                self._problem = f"no plan: {error}"
            start = max(start + self._period, self._replanner.next_start(self.clock_.now(), self._budget // 2))

    def _await_latent(self, start: int) -> None:
        """Return when the newest latent that can be had for `start` is there, at the latest with the budget left."""
        latest = self._replanner.sent(start) - self._budget
        self._read_inbox()
        while not self._replanner.fresh(start) and (left := latest - self.clock_.now()) > 0 and not self._end.is_set():
            self._arrived.wait(left / NS_PER_S)
            self._arrived.clear()
            self._read_inbox()

    def _send(self, plan: Plan) -> None:
        self._plans.publish(plan_to_msg(plan, self.contract, self.offset))
        self._sources[plan.stats.source] += 1
        self._recent.append((plan.stats.seconds, plan.stats.refinements, plan.stats.latent_age_s))
        self._problem = ""

    def _read_inbox(self) -> None:
        for item in self._inbox.drain():
            if isinstance(item, Latent):
                self._on_newest(item)
            elif isinstance(item, Applied):
                self._replanner.applied(item)
            elif isinstance(item, Planner):
                self._replanner.add(item)
                self._models.ready(item.model.bundle_id)
            elif isinstance(item, Standing):
                self._replanner.trust(item)
            elif item.kind == "start":
                self._replanner.restart()

    def _on_newest(self, latent: Latent) -> None:
        """Give the latent to the replanner, which switches bundles on the first one that bears a new id."""
        before, held = self._replanner.current, set(self._replanner.planners)
        self._replanner.latent(latent)
        if self._replanner.current != before:
            for bundle_id in held - set(self._replanner.planners):
                self._models.dropped(bundle_id)
            self._models.using(self._replanner.current)


def main() -> None:
    run_node(PlannerNode)


if __name__ == "__main__":
    main()
