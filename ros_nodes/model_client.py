"""The nodes' side of a hot swap: load and warm up the announced bundle in the background, say so, and use it when told.

`model` carries `load: <id> <path>` and `use: <id> <path>` from model_sync_node, latched, so that a restarted node catches up;
`model_status` carries `ready: <node> <id>`, `using: <node> <id>` or `refused: <node> <id> <reason>` back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Generic, TypeVar

from std_msgs.msg import Header

from robot_wm.bundle import Bundle, load_bundle
from robot_wm.contract import Contract
from robot_wm.errors import BundleError, MessageError, RobotWmError
from robot_wm.messages import Event
from robot_wm.realtime import step_back
from ros_nodes import topics
from ros_nodes.base import Base
from ros_nodes.convert import event_from_msg, event_to_msg

T = TypeVar("T")


class ModelClient(Generic[T]):
    """Calls `load` (slow, in a background thread) and then `deliver(loaded)` for each announced bundle."""

    def __init__(
        self,
        node: Base,
        contract: Contract,
        bundle: Bundle,
        load: Callable[[Bundle], T],
        deliver: Callable[[T], None],
        current: Callable[[], str],
        use: Callable[[str], None] | None = None,
    ) -> None:
        """`current()` is the bundle in use; `use(bundle_id)` is called when the swap is due, a node that follows the latents
        needs none."""
        self._node = node
        self._contract = contract
        self._loaded = {bundle.bundle_id}
        self._loading: set[str] = set()
        self._load, self._deliver, self._current, self._use = load, deliver, current, use
        self._status = node.advertise(Header, topics.MODEL_STATUS, topics.latched(10))
        node.subscribe(Header, topics.MODEL, self._on_model, topics.latched(1))
        self.using(bundle.bundle_id)

    def ready(self, bundle_id: str) -> None:
        """Tell that the bundle is loaded, warmed up and waits to be used."""
        self._loaded.add(bundle_id)
        self._loading.discard(bundle_id)
        self._say("ready", bundle_id)

    def using(self, bundle_id: str) -> None:
        """Tell that the bundle is in use; only it and the one before stay loaded."""
        self._say("using", bundle_id)

    def dropped(self, bundle_id: str) -> None:
        """The node has let this bundle go; it would have to be loaded again."""
        self._loaded.discard(bundle_id)

    def _on_model(self, msg: Header) -> None:
        event = event_from_msg(msg, self._node.offset, topics.MODEL)
        bundle_id, _, path = event.note.partition(" ")
        if event.kind not in ("load", "use") or not bundle_id or not path:
            raise MessageError(
                f"{topics.MODEL}: {msg.frame_id!r} is neither `load: <id> <path>` nor `use: <id> <path>`"
            )
        if bundle_id not in self._loaded | self._loading:
            self._loading.add(bundle_id)
            Thread(target=self._work, args=(bundle_id, Path(path)), name="model loader", daemon=True).start()
        elif event.kind == "load" and bundle_id in self._loaded:
            self.ready(bundle_id)
        if event.kind == "use" and bundle_id == self._current():
            self.using(bundle_id)
        elif event.kind == "use" and self._use is not None:
            self._use(bundle_id)

    def _work(self, bundle_id: str, path: Path) -> None:
        try:
            step_back()
            bundle = load_bundle(path, self._contract)
            if bundle.bundle_id != bundle_id:
                raise BundleError(f"{path}: is bundle {bundle.bundle_id}, announced was {bundle_id}")
            self._deliver(self._load(bundle))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, the running bundle stays and somebody hears of it
            reason = str(error) if isinstance(error, RobotWmError) else f"{type(error).__name__}: {error}"
            self._loading.discard(bundle_id)
            self._node.get_logger().error(f"bundle {bundle_id} refused: {reason}")
            self._say("refused", bundle_id, reason)

    def _say(self, kind: str, bundle_id: str, reason: str = "") -> None:
        note = f"{self._node.get_name()} {bundle_id} {reason}".rstrip()
        event = Event(self._node.clock_.now(), kind, note)
        self._status.publish(event_to_msg(event, self._node.offset))
