"""posterior_node: whatever was measured and applied → the latent at each grid instant, corrected at the stamps of the data."""

from __future__ import annotations

import gc
from collections import deque

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Header

from robot_wm.backend import Model
from robot_wm.bundle import Bundle
from robot_wm.errors import BackendError, MessageError
from robot_wm.image_streams import ImageStreams
from robot_wm.info import CorrectionInfo
from robot_wm.latent_filter import Correction
from robot_wm.messages import Event, Measurement
from robot_wm.perception import Perception, warm_up
from robot_wm.timebase import NS_PER_S
from robot_wm.trust_file import TrustSpec, load_trust
from robot_wm.trust_ladder import Rung, arming_status
from ros_nodes import topics
from ros_nodes.base import ERROR, OK, WARN, Base, Status
from ros_nodes.convert import (
    StampGuard,
    applied_from_msg,
    event_from_msg,
    event_to_msg,
    info_to_msg,
    joint_state_from_msg,
    latent_to_msg,
    measurements_from_joints,
    measurements_from_tensor,
    require_past,
    tensor_from_msg,
    time_from_msg,
)
from ros_nodes.model_client import ModelClient
from ros_nodes.node_process import run_node

GRAPHS = ("encode", "posterior", "prior")
JUDGING = ("readout",)  # what judging corrections needs besides


class PosteriorNode(Base):
    """Subscribes the contract's observations and images, applied, event; publishes latent, correction_info, trust."""

    def __init__(self) -> None:
        super().__init__("posterior_node")
        self.text("provider", "auto", "Execution provider: auto, tensorrt, cuda, openvino, openvino-bf16 or cpu")
        self.number("history_s", 1.0, 0.1, 10.0, "Observations older than this can no longer correct the latent [s]")
        self.number("encoder_busy_s", 0.0, 0.0, 10.0, "Test aid: an image encoder that computes for so long [s]")

    def configure(self) -> None:
        self.contract = self.read_contract()
        bundle = self.read_bundle(self.contract)
        self._specs: dict[str, TrustSpec | None] = {}  # by bundle id
        model = self._load(bundle)
        self._perception = Perception(self.contract, model, self.clock_, self.value("history_s"))
        self._perception.judge_by(self._specs[bundle.bundle_id])
        self._images = ImageStreams(self.contract, model, self.clock_, self.value("encoder_busy_s"))
        self._loaded: dict[str, Model] = {}
        self._wanted = ""  # bundle to swap to as soon as it is loaded
        self._stamp_guards = {topic: StampGuard(topic) for topic in topics.observed(self.contract)}
        self._latent_at = 0  # when the last latent went out [ns]
        self._problem = ""
        self._recent: deque[CorrectionInfo] = deque(maxlen=100)
        rate = self.contract.model_hz
        self._latents = self.advertise(Image, topics.LATENT, topics.latest())
        self._infos = self.advertise(DiagnosticArray, topics.CORRECTION_INFO, topics.stream(rate))
        self._trusts = self.advertise(Header, topics.TRUST, topics.latched())
        self._listen()
        self._heard: dict[str, int] = {}  # when each observation was last accepted [ns]
        self._models = ModelClient(
            self,
            self.contract,
            bundle,
            self._load,
            self._keep,
            lambda: self._perception.filter.model.bundle_id,
            self._want,
        )

    def _listen(self) -> None:
        rate = self.contract.motor_hz
        for topic, kind in topics.observed(self.contract).items():
            read = self._joints if kind is JointStateMsg else self._tensor
            self.subscribe(
                kind, topic, lambda msg, topic=topic, read=read: self._observe(read(msg, topic)), topics.stream(rate)
            )
        for topic, names in topics.images(self.contract).items():
            self.subscribe(
                Image, topic, lambda msg, topic=topic, names=names: self._on_image(msg, topic, names), topics.foreign()
            )
        if self.contract.images:
            self.every(1.0 / self.contract.model_hz, self._correct_late)
        self.subscribe(JointStateMsg, topics.APPLIED, self._on_applied, topics.stream(rate))
        self.subscribe(Header, topics.EVENT, self._on_event, topics.stream(10))

    def activate(self) -> None:
        gc.collect()
        gc.freeze()
        self._perception.restart(self.clock_.now())
        self._images.start()
        self._say_trust(always=True)

    def deactivate(self) -> None:
        self._images.stop()
        self.remains = self.status()[2]  # what became of every image

    def status(self) -> Status:
        values: dict[str, object] = {"bundle": self._perception.filter.model.bundle_id}
        values |= {f"measurements {outcome}": count for outcome, count in self._perception.filter.outcomes.items()}
        values |= self._images.figures()
        recent = list(self._recent)
        if recent:
            values["correction ms p50"] = float(np.median([info.seconds for info in recent])) * 1e3
            values["delay ms p50"] = float(np.median([info.delay_s for info in recent])) * 1e3
            values["innovation"] = float(np.mean([info.innovation for info in recent]))
        trust = self._perception.trust
        values["trust"] = "not judged: the bundle has no trust.yaml" if trust is None else trust.rung.label
        values |= {} if trust is None or not recent else {f"surprise {k}": v for k, v in recent[-1].surprise.items()}
        values |= {} if trust is None else {"trust alarms": trust.figures.alarms}
        silent = (self.clock_.now() - self._latent_at) / NS_PER_S
        if self._problem:
            return ERROR, self._problem, values
        if silent > max(o.stale_s for o in self.contract.observations):
            since = f"for {silent:.1f} s" if self._latent_at else "yet"
            return WARN, f"no usable observation {since}", values
        now = self.clock_.now()
        wanted = (*self.contract.observations, *self.contract.images)
        missing = [o.name for o in wanted if now - self._heard.get(o.name, 0) > o.stale_s * NS_PER_S]
        if missing:
            return WARN, f"correcting without {', '.join(missing)}", values
        if trust is not None and trust.rung is not Rung.NORMAL:
            values |= arming_status(trust.rung)
            return WARN, f"the model is contradicted: {trust.rung.label} ({trust.ladder.cause})", values
        return OK, "correcting", values

    def _load(self, bundle: Bundle) -> Model:
        spec = self._specs[bundle.bundle_id] = load_trust(bundle)
        model = Model(bundle, self.value("provider"), graphs=GRAPHS if spec is None else (*GRAPHS, *JUDGING))
        warm_up(model)
        if spec is not None:
            for _ in range(3):  # the first runs of a graph are slow
                model.readout(np.repeat(model.initial_latent[None], 2, axis=0))
        return model

    def _joints(self, msg: JointStateMsg, topic: str) -> list[Measurement]:
        state = joint_state_from_msg(msg, self.offset, topic)
        self._stamp_guards[topic].check(state.stamp, self.clock_.now())
        return measurements_from_joints(state, self.contract, topic)

    def _tensor(self, msg: Image, topic: str) -> list[Measurement]:
        stamp, values, _ = tensor_from_msg(msg, self.offset, topic)
        self._stamp_guards[topic].check(stamp, self.clock_.now())
        return measurements_from_tensor(stamp, values, self.contract, topic)

    def _on_image(self, msg: Image, topic: str, names: tuple[str, ...]) -> None:
        """Hand it to the encoders; `_correct_late` has what comes of it."""
        try:
            stamp = time_from_msg(msg.header.stamp, self.offset, topic)
        except MessageError:
            for name in names:
                self._images.refuse(name, "malformed")
            raise
        for name in names:
            self._images.put(name, stamp, msg)

    def _correct_late(self) -> None:
        """Tell the filter of the images that have been encoded since."""
        measurements, refused = self._images.take()
        for correction in refused:
            self.refuse(correction.name, correction.reason)
        for measurement in measurements:
            self._correct([measurement])

    def _observe(self, measurements: list[Measurement]) -> None:
        self._swap()
        self._correct_late()
        self._correct(measurements)

    def _correct(self, measurements: list[Measurement]) -> None:
        try:
            corrections, latent, info = self._perception.observe(measurements)
        except BackendError as error:
            self._problem = f"no latent: {error}"
            for measurement in measurements:
                self._images.settle(Correction(measurement.name, measurement.stamp, "invalid"))
            return
        for correction in corrections:
            self._images.settle(correction)
            if correction.outcome == "accepted":
                self._heard[correction.name] = self.clock_.now()
            if correction.reason:
                self.refuse(correction.name, correction.reason)
        if latent is not None and info is not None:
            self._latents.publish(latent_to_msg(latent, self.offset))
            self._infos.publish(info_to_msg(info, latent.stamp, "posterior_node", self.offset))
            self._say_trust()
            self._recent.append(info)
            self._latent_at, self._problem = self.clock_.now(), ""

    def _say_trust(self, always: bool = False) -> None:
        """Publish the rung that trust stands on when it has changed."""
        trust = self._perception.trust
        if always or (trust is not None and trust.take_changes()):
            now = self.clock_.now()
            self._trusts.publish(event_to_msg(Event(now, "normal") if trust is None else trust.event(now), self.offset))

    def _on_applied(self, msg: JointStateMsg) -> None:
        applied = applied_from_msg(msg, self.contract, self.offset, topics.APPLIED)
        require_past(applied.stamp, self.clock_.now(), topics.APPLIED)
        self._perception.applied(applied)

    def _on_event(self, msg: Header) -> None:
        event = event_from_msg(msg, self.offset, topics.EVENT)
        if event.kind == "start":
            self._perception.restart(event.stamp)
            self._say_trust()

    def _keep(self, model: Model) -> None:
        """Called by the loading thread; the swap itself happens between two observations."""
        self._loaded[model.bundle_id] = model
        self._models.ready(model.bundle_id)

    def _want(self, bundle_id: str) -> None:
        self._wanted = bundle_id

    def _swap(self) -> None:
        """Change the model if told to, once it has encoded the kept images; it encodes other raw observations as it replays."""
        current = self._perception.filter.model
        if not self._wanted or self._wanted == current.bundle_id:
            self._wanted = ""
            return
        model = self._loaded.get(self._wanted)
        encoded = None if model is None else self._images.prepare(model, self._perception.filter.images())
        if model is None or encoded is None:
            return
        self._perception.swap(model, encoded)
        self._perception.judge_by(self._specs[model.bundle_id])
        self._images.swap(model)
        for bundle_id in set(self._loaded) - {model.bundle_id}:
            self._models.dropped(bundle_id)
        self._loaded = {current.bundle_id: current}  # for one-step rollback
        self._wanted = ""
        self._models.using(model.bundle_id)


def main() -> None:
    run_node(PosteriorNode)


if __name__ == "__main__":
    main()
