"""The contract: one YAML file that names every observation and action, used by trainer, planner, bag reader, simulator and nodes.

A model depends on its *model-facing* part only (grid rate, observations, action and its range); that part is hashed, and a
bundle, a bag and a robot whose hashes differ refuse each other. Limits, topics and timing bounds may change without retraining.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from robot_wm.contract_calibration import CalibrationEntry, parse_calibrations
from robot_wm.contract_images import ImageObservation, parse_images
from robot_wm.errors import ContractError
from robot_wm.field_reader import FieldReader, short
from robot_wm.yaml_text import read_yaml

ENCODINGS = ("linear", "angle")
FIELDS = ("position", "velocity", "effort", "data")
MODES = ("position", "velocity", "effort")


@dataclass(frozen=True)
class Observation:
    """One vector observation: some components of one topic, in SI units."""

    name: str
    topic: str
    field: str  # position | velocity | effort of a JointState, or data: a 32FC1 tensor
    names: tuple[str, ...]  # joints, looked up by name; or one name per tensor component
    unit: tuple[str, ...]
    encoding: tuple[str, ...]  # linear: (x - mean) / scale; angle: (cos x, sin x), which ignores whole turns
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    rate_hz: float = 0.0  # expected rate of the topic; 0: unknown
    delay_s: float = 0.0  # expected delay from capture to arrival
    stale_s: float = 0.2  # older than this: posterior_node warns that it is missing
    anchored: bool = False  # keep these components readable in the latent (see models/networks.py)

    @property
    def size(self) -> int:
        """Number of raw components."""
        return len(self.names)

    @property
    def features(self) -> int:
        """Number of components after encoding."""
        return self.size + sum(kind == "angle" for kind in self.encoding)


@dataclass(frozen=True)
class Action:
    """What the robot is commanded with; -1..1 of the model maps to low..high."""

    names: tuple[str, ...]
    mode: str  # position | velocity | effort
    unit: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    topic: str = "applied"  # where bags hold what was really sent
    field: str = ""  # field of that topic; empty: the mode
    delay_s: float = 0.0  # from writing a command to its effect
    limit_low: tuple[float, ...] = ()  # tightened limits; empty: low
    limit_high: tuple[float, ...] = ()
    rate: tuple[float, ...] = ()  # largest change per second, SI units; empty: unlimited
    jerk: tuple[float, ...] = ()  # largest change per second of that rate, SI units; empty: unlimited

    @property
    def size(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Safety:
    """Bounds of the safety filter and the fallback ladder; every per-joint table is by joint name."""

    position: dict[str, tuple[float, float]] = field(default_factory=dict)
    velocity: dict[str, float] = field(default_factory=dict)
    plan_stale_s: float = 0.1  # no valid plan for this long: hold
    joint_stale_s: float = 0.05  # no joint state for this long: damp
    hold_s: float = 1.0  # holding for this long: damp
    hold_effort: tuple[float, ...] = ()  # effort mode: what hold sends; empty: zero
    damping: tuple[float, ...] = ()  # effort mode: damp sends -damping * velocity; empty: zero effort
    voltage: tuple[float, ...] = ()  # lowest and highest supply [V] to arm with; empty: any


@dataclass(frozen=True)
class Reward:
    """Where the reward comes from: a recorded topic, or `package.module:function` that relabels the bag."""

    topic: str = "reward"
    function: str = ""


@dataclass(frozen=True)
class Costs:
    """What a planner shall avoid: subtracted from the predicted return. Weights may change without retraining."""

    action: tuple[float, ...] = ()  # times the square of each normalised action, per step; empty: zero
    change: tuple[float, ...] = ()  # times the square of its change since the step before; empty: zero
    disagreement: float = 0.0  # times the standard deviation of the value heads at the end of the horizon
    functions: dict[str, float] = field(default_factory=dict)  # `package.module:function` → weight (models/costs.py)


@dataclass(frozen=True)
class Contract:
    """The whole agreement; see the module's first lines."""

    name: str
    model_hz: float
    motor_hz: float
    observations: tuple[Observation, ...]
    action: Action
    safety: Safety = field(default_factory=Safety)
    reward: Reward = field(default_factory=Reward)
    costs: Costs = field(default_factory=Costs)
    calibration: dict[str, CalibrationEntry] = field(default_factory=dict)  # kind → file
    episode_s: float = 10.0
    mirrored: bool = False  # negating all observations and actions gives a true motion of equal reward
    images: tuple[ImageObservation, ...] = ()

    @property
    def observation_size(self) -> int:
        """Raw components of all observations, concatenated in contract order."""
        return sum(o.size for o in self.observations)

    @property
    def feature_size(self) -> int:
        return sum(o.features for o in self.observations)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of whatever may arrive on its own, in the order of the model's mask: observations, then images."""
        return (*(o.name for o in self.observations), *(i.name for i in self.images))

    @property
    def joints(self) -> tuple[str, ...]:
        """The action's joints, then the others that are observed."""
        observed = [name for o in self.observations if o.field != "data" for name in o.names]
        return tuple(dict.fromkeys([*self.action.names, *observed]))

    def observation(self, name: str) -> Observation:
        for item in self.observations:
            if item.name == name:
                return item
        raise ContractError(
            f"contract {self.name}: no observation {name!r}; it has {', '.join(o.name for o in self.observations)}"
        )

    def slices(self) -> dict[str, slice]:
        """Where each observation lies in the concatenated raw vector."""
        result, start = {}, 0
        for item in self.observations:
            result[item.name] = slice(start, start + item.size)
            start += item.size
        return result

    def image(self, name: str) -> ImageObservation:
        for item in self.images:
            if item.name == name:
                return item
        raise ContractError(
            f"contract {self.name}: no image {name!r}; it has {', '.join(i.name for i in self.images) or 'none'}"
        )

    def topics(self) -> tuple[str, ...]:
        """Every topic that a bag for this contract must hold, in contract order, images last."""
        return (*self.numeric_topics(), *dict.fromkeys(i.topic for i in self.images))

    def numeric_topics(self) -> tuple[str, ...]:
        """The topics among them that carry no images."""
        names = [o.topic for o in self.observations] + [self.action.topic]
        if self.reward.topic and not self.reward.function:
            names.append(self.reward.topic)
        return tuple(dict.fromkeys(names))

    def model_facing(self) -> dict[str, Any]:
        """The part a model depends on, as plain data."""
        keep_obs = ("name", "field", "names", "unit", "encoding", "mean", "scale", "anchored")
        keep_action = ("names", "mode", "unit", "low", "high")
        facing: dict[str, Any] = {
            "model_hz": self.model_hz,
            "observations": [{key: _plain(getattr(o, key)) for key in keep_obs} for o in self.observations],
            "action": {key: _plain(getattr(self.action, key)) for key in keep_action},
        }
        if self.images:  # else absent: the hash of a contract without images is as old as its bundles
            facing["images"] = [{"name": i.name, "shape": _plain(i.shape)} for i in self.images]
        return facing

    @property
    def hash(self) -> str:
        """Hash of the model-facing part, 16 hex digits."""
        text = json.dumps(self.model_facing(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def differences(self, other: Contract) -> list[str]:
        """Model-facing fields that differ, as `path: ours != theirs`."""
        return list(_differences("", self.model_facing(), other.model_facing()))

    def require_same(self, other: Contract, what: str) -> None:
        """Raise ContractError naming the differing fields unless both contracts serve the same model."""
        if self.hash != other.hash:
            raise ContractError(f"{what} was made for another contract: {'; '.join(self.differences(other))}")

    def to_dict(self) -> dict[str, Any]:
        data = {key: _plain(value) for key, value in asdict(self).items()}
        return data if self.images else {key: value for key, value in data.items() if key != "images"}

    @property
    def rewarded(self) -> bool:
        """Whether there is something to plan for; otherwise a model learns the motion alone."""
        return bool(self.reward.topic or self.reward.function)

    def save(self, path: Path) -> None:
        path.write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=120))


def load_contract(path: Path | str) -> Contract:
    """Read and validate a contract file.

    Raises:
        ContractError: naming the file and the field that is missing, unknown or wrong.
    """
    path = Path(path)
    try:
        data = read_yaml(path.read_text())
    except OSError as error:
        raise ContractError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ContractError(f"{path}: is not YAML: {str(error).splitlines()[0]}") from error
    return parse_contract(data, str(path), path.resolve().parent)


def parse_contract(data: Any, source: str = "contract", folder: Path | None = None) -> Contract:
    """Build a validated contract from plain data.

    Args:
        source: names it in errors.
        folder: where relative paths begin; None: they are left as they are.

    Raises:
        ContractError: naming the field that is missing, unknown or wrong.
    """
    reader = FieldReader(source)
    table = reader.table(data, "", Contract, required=("name", "model_hz", "observations", "action"))
    items = reader.listing(table["observations"], "observations")
    if not items:
        raise ContractError(f"{source}: observations: at least one is needed")
    observations = tuple(_observation(reader, item, f"observations[{i}]") for i, item in enumerate(items))
    names = [o.name for o in observations]
    if len(set(names)) != len(names):
        raise ContractError(f"{source}: observations: names must differ, got {', '.join(names)}")
    model_hz = reader.number(table["model_hz"], "model_hz", above=0.0)
    action = _action(reader, table["action"])
    mirrored = reader.flag(table.get("mirrored", False), "mirrored")
    images = parse_images(reader, table.get("images") or [], names)
    shared = {o.topic for o in observations} & {i.topic for i in images}
    if shared:
        raise ContractError(f"{source}: images: topic {min(shared)} carries an observation already")
    if mirrored:
        _require_centred(reader, observations, action)
        if images:
            raise reader.fail("images", "must be empty for a mirrored robot: no camera took a mirrored image")
    return Contract(
        name=reader.text(table["name"], "name"),
        model_hz=model_hz,
        motor_hz=reader.number(table.get("motor_hz", max(100.0, model_hz)), "motor_hz", above=0.0),
        observations=observations,
        action=action,
        safety=_safety(reader, table.get("safety") or {}),
        reward=_reward(reader, table.get("reward") or {}),
        costs=_costs(reader, table.get("costs") or {}, action.size),
        calibration=parse_calibrations(reader, table.get("calibration") or {}, folder),
        episode_s=reader.number(table.get("episode_s", 10.0), "episode_s", above=0.0),
        mirrored=mirrored,
        images=images,
    )


def _require_centred(reader: FieldReader, observations: tuple[Observation, ...], action: Action) -> None:
    for i, item in enumerate(observations):
        if any(item.mean):
            raise reader.fail(f"observations[{i}].mean", "must be 0 for a mirrored robot")
    if any(low != -high for low, high in zip(action.low, action.high, strict=True)):
        raise reader.fail("action.low", "must be minus action.high for a mirrored robot")


def _observation(reader: FieldReader, data: Any, where: str) -> Observation:
    table = reader.table(data, where, Observation, required=("name", "topic", "field", "names"))
    names = reader.names(table["names"], f"{where}.names")
    size = len(names)
    encoding = reader.texts(table.get("encoding", "linear"), f"{where}.encoding", size, ENCODINGS)
    scale = reader.numbers(table.get("scale", 1.0), f"{where}.scale", size, above=0.0)
    return Observation(
        name=reader.text(table["name"], f"{where}.name"),
        topic=reader.text(table["topic"], f"{where}.topic"),
        field=reader.choice(table["field"], f"{where}.field", FIELDS),
        names=names,
        unit=reader.texts(table.get("unit", ""), f"{where}.unit", size),
        encoding=encoding,
        mean=reader.numbers(table.get("mean", 0.0), f"{where}.mean", size),
        scale=scale,
        rate_hz=reader.number(table.get("rate_hz", 0.0), f"{where}.rate_hz", at_least=0.0),
        delay_s=reader.number(table.get("delay_s", 0.0), f"{where}.delay_s", at_least=0.0),
        stale_s=reader.number(table.get("stale_s", 0.2), f"{where}.stale_s", above=0.0),
        anchored=reader.flag(table.get("anchored", False), f"{where}.anchored"),
    )


def _action(reader: FieldReader, data: Any) -> Action:
    table = reader.table(data, "action", Action, required=("names", "mode", "low", "high"))
    names = reader.names(table["names"], "action.names")
    size = len(names)
    low = reader.numbers(table["low"], "action.low", size)
    high = reader.numbers(table["high"], "action.high", size)
    limit_low = reader.numbers(table.get("limit_low") or low, "action.limit_low", size)
    limit_high = reader.numbers(table.get("limit_high") or high, "action.limit_high", size)
    for i, name in enumerate(names):
        if not low[i] < high[i]:
            raise ContractError(f"{reader.source}: action.low: {low[i]} of {name} must be below action.high {high[i]}")
        if not low[i] <= limit_low[i] < limit_high[i] <= high[i]:
            raise ContractError(
                f"{reader.source}: action.limit_low/limit_high: {limit_low[i]}..{limit_high[i]} of {name} must lie "
                f"within low..high {low[i]}..{high[i]}; limits may only be tightened"
            )
    bounds = {
        name: reader.numbers(table[name], f"action.{name}", size, above=0.0)
        for name in ("rate", "jerk")
        if table.get(name) not in (None, [], ())
    }
    field_name = reader.text(table.get("field", ""), "action.field")
    return Action(
        names=names,
        mode=reader.choice(table["mode"], "action.mode", MODES),
        unit=reader.texts(table.get("unit", ""), "action.unit", size),
        low=low,
        high=high,
        topic=reader.text(table.get("topic", "applied"), "action.topic"),
        field=reader.choice(field_name, "action.field", FIELDS) if field_name else "",
        delay_s=reader.number(table.get("delay_s", 0.0), "action.delay_s", at_least=0.0),
        limit_low=limit_low,
        limit_high=limit_high,
        **bounds,
    )


def _safety(reader: FieldReader, data: Any) -> Safety:
    table = reader.table(data, "safety", Safety)
    defaults = Safety()
    position = {}
    for joint, bounds in reader.mapping(table.get("position") or {}, "safety.position").items():
        low, high = reader.numbers(bounds, f"safety.position.{joint}", 2)
        if not low < high:
            raise ContractError(f"{reader.source}: safety.position.{joint}: {low} must be below {high}")
        position[joint] = (low, high)
    velocity = {
        joint: reader.number(value, f"safety.velocity.{joint}", above=0.0)
        for joint, value in reader.mapping(table.get("velocity") or {}, "safety.velocity").items()
    }
    times = {
        name: reader.number(table.get(name, getattr(defaults, name)), f"safety.{name}", above=0.0)
        for name in ("plan_stale_s", "joint_stale_s", "hold_s")
    }
    return Safety(
        position=position,
        velocity=velocity,
        hold_effort=reader.numbers(table.get("hold_effort") or (), "safety.hold_effort"),
        damping=reader.numbers(table.get("damping") or (), "safety.damping"),
        voltage=_voltage(reader, table.get("voltage") or ()),
        **times,
    )


def _voltage(reader: FieldReader, data: Any) -> tuple[float, ...]:
    bounds = reader.numbers(data, "safety.voltage", at_least=0.0)
    if bounds and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise reader.fail("safety.voltage", f"must be [lowest, highest] in V, got {short(list(bounds))}")
    return bounds


def _reward(reader: FieldReader, data: Any) -> Reward:
    table = reader.table(data, "reward", Reward)
    function = reader.text(table.get("function", ""), "reward.function")
    if function and function.count(":") != 1:
        raise ContractError(f"{reader.source}: reward.function: {function!r} must read package.module:function")
    return Reward(topic=reader.text(table.get("topic", "reward"), "reward.topic"), function=function)


def _costs(reader: FieldReader, data: Any, size: int) -> Costs:
    table = reader.table(data, "costs", Costs)
    weights = {
        name: reader.numbers(table[name], f"costs.{name}", size, at_least=0.0)
        for name in ("action", "change")
        if table.get(name) not in (None, [], ())
    }
    functions = reader.mapping(table.get("functions") or {}, "costs.functions")
    for name in functions:
        if name.count(":") != 1:
            raise ContractError(f"{reader.source}: costs.functions: {name!r} must read package.module:function")
    return Costs(
        disagreement=reader.number(table.get("disagreement", 0.0), "costs.disagreement", at_least=0.0),
        functions={
            name: reader.number(weight, f"costs.functions.{name}", above=0.0) for name, weight in functions.items()
        },
        **weights,
    )


def tighten(contract: Contract, low: tuple[float, ...], high: tuple[float, ...]) -> Contract:
    """Return the contract with narrower action limits [SI units]; same hash. Raises ContractError if they are wider."""
    data = contract.to_dict()
    data["action"].update(limit_low=list(low), limit_high=list(high))
    return replace(contract, action=parse_contract(data, contract.name).action)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _differences(path: str, ours: Any, theirs: Any) -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = dict.fromkeys([*ours, *theirs])
        return [d for k in keys for d in _differences(f"{path}.{k}".lstrip("."), ours.get(k), theirs.get(k))]
    nested = isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs)
    if nested and any(isinstance(item, dict) for item in ours):
        return [d for i in range(len(ours)) for d in _differences(f"{path}[{i}]", ours[i], theirs[i])]
    return [] if ours == theirs else [f"{path}: {short(ours)} != {short(theirs)}"]
