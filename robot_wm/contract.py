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

from robot_wm.contract_action import Action, parse_action
from robot_wm.contract_calibration import CalibrationEntry, parse_calibrations
from robot_wm.contract_images import ImageObservation, parse_images
from robot_wm.contract_objective import Costs, Reward, parse_costs, parse_reward
from robot_wm.contract_observations import Observation, parse_observation
from robot_wm.contract_safety import Safety, parse_safety
from robot_wm.errors import ContractError
from robot_wm.field_reader import FieldReader, short
from robot_wm.yaml_text import read_yaml


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
            for item, image in zip(facing["images"], self.images, strict=True):
                if image.history > 1:
                    item |= {"history": image.history, "rate_hz": image.rate_hz}
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

    def require_data_of(self, other: Contract, what: str) -> None:
        """As `require_same`, for recordings and simulated robots: of how many frames a model makes use does not matter there."""
        plain, theirs = (replace(c, images=tuple(replace(i, history=1) for i in c.images)) for c in (self, other))
        plain.require_same(theirs, what)

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
    observations = tuple(parse_observation(reader, item, f"observations[{i}]") for i, item in enumerate(items))
    names = [o.name for o in observations]
    if len(set(names)) != len(names):
        raise ContractError(f"{source}: observations: names must differ, got {', '.join(names)}")
    model_hz = reader.number(table["model_hz"], "model_hz", above=0.0)
    action = parse_action(reader, table["action"])
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
        safety=parse_safety(reader, table.get("safety") or {}),
        reward=parse_reward(reader, table.get("reward") or {}),
        costs=parse_costs(reader, table.get("costs") or {}, action.size),
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
