"""model_sync_node: follows a model store; verifies a new bundle here, lets the others load it, then has all of them swap."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from threading import Event as Flag
from threading import Thread

from std_msgs.msg import Header

from robot_wm.backend import Model
from robot_wm.errors import BundleError, RobotWmError, StoreError
from robot_wm.mailbox import Mailbox
from robot_wm.messages import Event
from robot_wm.realtime import step_back
from robot_wm.store import ModelStore
from robot_wm.verify import verify_on_device
from ros_nodes import topics
from ros_nodes.base import ERROR, OK, WARN, Base, Status
from ros_nodes.convert import event_from_msg, event_to_msg
from ros_nodes.node_process import run_node

KEPT = 3  # bundles in the cache: the one in use, the one before, the next


class ModelSyncNode(Base):
    """Publishes model (load, use); subscribes model_status (ready, using, refused)."""

    def __init__(self) -> None:
        super().__init__("model_sync_node")
        self.text("store", "", "Model store to follow: a directory, or user@host:path over ssh")
        self.text("cache", "", "Where bundles are copied to; empty: ~/.cache/robot_wm/models")
        self.text("provider", "auto", "Provider that verifies: auto, tensorrt, cuda, openvino, openvino-bf16 or cpu")
        self.text("nodes", "posterior_node,planner_node", "Nodes that must be ready before any of them swaps")
        self.number("poll_s", 0.5, 0.05, 3600.0, "How often the store is asked [s]")
        self.number("ready_s", 60.0, 1.0, 3600.0, "A bundle that is not loaded everywhere by then is given up [s]")

    def configure(self) -> None:
        self.contract = self.read_contract()
        self._current = self.read_bundle(self.contract).bundle_id
        self._store = ModelStore(self.value("store"))
        self._cache = Path(self.value("cache") or Path.home() / ".cache" / "robot_wm" / "models")
        self._answers: Mailbox[Event] = Mailbox(64)
        self._refused_id = ""  # not tried again until the store points elsewhere
        self._problem = ""
        self._swaps = 0
        self._end = Flag()
        self._thread: Thread | None = None
        self._models = self.advertise(Header, topics.MODEL, topics.latched())
        self.subscribe(Header, topics.MODEL_STATUS, self._on_status, topics.latched(10))

    def activate(self) -> None:
        self._end.clear()
        self._thread = Thread(target=self._work, name="model sync", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        """The worker may be amid a copy over the network; it is not waited for beyond a moment."""
        self._end.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None

    def status(self) -> Status:
        values: dict[str, object] = {"bundle": self._current, "swaps": self._swaps, "store": self._store.location}
        if self._thread is None or not self._thread.is_alive():
            return ERROR, "the worker has ended", values
        if self._problem:
            return WARN, self._problem, values
        return OK, f"bundle {self._current} in use", values

    def _on_status(self, msg: Header) -> None:
        self._answers.put(event_from_msg(msg, self.offset, topics.MODEL_STATUS))

    def _work(self) -> None:
        step_back()
        while not self._end.wait(self.value("poll_s")):
            try:
                wanted = self._store.pointer()
            except StoreError as error:
                self._problem = str(error)
                continue
            if wanted is None or wanted in (self._current, self._refused_id):
                continue
            try:
                self._swap(wanted)
                self._refused_id, self._problem = "", ""
            except RobotWmError as error:
                self._refused_id, self._problem = wanted, f"bundle {wanted} refused: {error}"
                self.get_logger().error(self._problem)

    def _swap(self, bundle_id: str) -> None:
        """Verify, let all load, let all use. Raises RobotWmError with the reason; unless all had loaded it and were told to use
        it, everything then stays as it was."""
        bundle = self._store.pull(bundle_id, self._cache / bundle_id, self.contract)
        verify_on_device(bundle, Model(bundle, self.value("provider")))
        self._tell("load", bundle_id, bundle.path)
        self._await("ready", bundle_id)
        self._tell("use", bundle_id, bundle.path)
        self._current = ""  # nobody knows until all have answered; whatever the store then points to is asked for
        self._await("using", bundle_id)
        self._current = bundle_id
        self._swaps += 1
        self.get_logger().info(f"bundle {bundle_id} in use")
        self._tidy()

    def _tell(self, kind: str, bundle_id: str, path: Path) -> None:
        self._answers.drain()
        event = Event(self.clock_.now(), kind, f"{bundle_id} {path.resolve()}")
        self._models.publish(event_to_msg(event, self.offset))

    def _await(self, kind: str, bundle_id: str) -> None:
        """Return when all nodes have answered `kind`. Raises BundleError when one refuses or does not answer in time."""
        waiting = {name.strip() for name in self.value("nodes").split(",") if name.strip()}
        deadline = time.monotonic() + float(self.value("ready_s"))
        while waiting:
            if self._end.wait(0.01):
                raise BundleError(f"stopped before {', '.join(sorted(waiting))} had it {kind}")
            if time.monotonic() > deadline:
                raise BundleError(f"{', '.join(sorted(waiting))} not {kind} after {self.value('ready_s'):g} s")
            for answer in self._answers.drain():
                node, given_id, reason = (*answer.note.split(" ", 2), "", "")[:3]
                if given_id != bundle_id:
                    continue
                if answer.kind == "refused":
                    raise BundleError(f"{node}: {reason}")
                if answer.kind == kind:
                    waiting.discard(node)

    def _tidy(self) -> None:
        """Keep the newest bundles in the cache."""
        found = [path for path in self._cache.iterdir() if (path / "manifest.json").is_file()]
        for path in sorted(found, key=lambda p: p.stat().st_mtime)[:-KEPT]:
            if path.name != self._current:
                shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    run_node(ModelSyncNode)


if __name__ == "__main__":
    main()
