"""The flywheel: collect → train → export, again and again. Two processes, one core each, real bags and bundles between.

While the collector plays an episode with the weights finished last, the trainer learns from all bags before it; then the
new bag joins the data and the new weights become the next bundle. One directory holds it all, so it can be resumed.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.dataset import Dataset
from models.export import BundleTemplate
from models.families import DEFAULT, make_model
from models.optimiser import falling
from models.train import Trainer, load_bundle_weights
from models.train_config import config_for
from robot_wm.bags.reader import open_bag
from robot_wm.bundle import PlannerDefaults, add_metrics, load_bundle
from robot_wm.contract import Contract
from robot_wm.errors import RunError
from robot_wm.runs import code_version
from sim.collector import Collect, Collector, Evaluate
from sim.tasks import make_task

SELECTION_SEED = 500_000  # episodes that choose among bundles
FINAL_SEED = 900_000  # episodes of the reported figure, never used for choosing
COLLECT_SEED = 10_000
CLEARLY_WORSE = 0.9  # return of the newest relative to that of the best
CHUNK = 10  # updates between looks at whether a core is free
SETTLE, SLOWEST = 0.7, 0.05  # after this part of the budget the learning rate falls, to this factor at its end


@dataclass(frozen=True)
class FlywheelConfig:
    """What decides a flywheel besides chance and the machine's speed."""

    task: str
    minutes: float = 30.0
    frames: int = 0  # simulator frames after which it stops with time left; 0: the time alone decides
    seed: int = 0
    size: str = "nano"
    family: str = DEFAULT
    batch: int = 256
    random_episodes: int = 5  # TD-MPC2: max(5 episodes, 1000 steps)
    updates_per_decision: float = 0.5  # TD-MPC2: 1; in the same time twice the episodes teach more
    evaluate_every: int = 25  # rounds
    selection_episodes: int = 3
    final_episodes: int = 10
    from_bundle: str = ""  # directory of a bundle whose weights and play to begin with; empty: from nothing
    bags: tuple[str, ...] = ()  # to learn from beside those it collects
    planner: PlannerDefaults | None = None  # None: `light_planner`


class Flywheel:
    """One directory: `bags`, `bundle` (newest), `averaged`, `best`, `checkpoint.pt`, `state.json`, `curve.json`, `curve.png`."""

    def __init__(self, config: FlywheelConfig, out: Path, resume: bool, clock: Callable[[], float] = time.monotonic):
        """Start in an empty directory, or go on in one. Raises RunError when `resume` and the directory disagree, BagError."""
        self.config = config
        for bag in config.bags:
            open_bag(Path(bag))  # a torn one is told before anything is played
        self.out = out
        self.task = make_task(config.task)
        self._clock = clock
        self._began = clock()
        self._state = self._restore() if resume else self._begin()
        torch.manual_seed(config.seed)
        self.model = make_model(self.task.contract, config.size, config.family)
        if config.from_bundle:
            load_bundle_weights(self.model, Path(config.from_bundle), self.task.contract)
        self._train = replace(
            config_for(self.task.contract, seed=config.seed, family=config.family), batch=config.batch
        )
        self._trainer: Trainer | None = None
        self._template: BundleTemplate | None = None
        self._round_s = 0.0  # of the latest round
        self._play_s = 0.0  # of the latest evaluated episode

    def run(self, report: Callable[[dict[str, Any]], None] = lambda row: None) -> dict[str, Any]:
        """Go round until the time is up, then evaluate; returns the figures. `report` gets each row of the curve."""
        collector = Collector(self.config.task)
        try:
            while self._has_time():
                began = self._clock()
                report(self._round(collector))
                self._round_s = self._clock() - began
            return self._finish(collector)
        finally:
            collector.close()

    def _round(self, collector: Collector) -> dict[str, Any]:
        """Collect one episode, train meanwhile, and make the next bundle."""
        state, index = self._state, len(self._state["curve"])
        bag = self.out / "bags" / f"episode_{index:04d}"
        shutil.rmtree(bag, ignore_errors=True)
        began_with = Path(self.config.from_bundle) if self.config.from_bundle else None
        bundle = self.out / "bundle" if index >= self.config.random_episodes else began_with
        collector.submit(Collect(bag, COLLECT_SEED + 1000 * self.config.seed + index, bundle))
        losses = self._train_on(state["bags"], collector.busy)
        score = collector.result()
        state["bags"].append(str(bag.relative_to(self.out)))
        row = {
            "episode": index,
            "frames": (index + 1) * self.task.length,
            "updates": self._trainer.step if self._trainer else 0,
            "return": score,
            "losses": losses,
        }
        if index + 1 >= self.config.random_episodes:
            self._export("bundle")
        if self._trainer is not None and (index + 1) % self.config.evaluate_every == 0:
            row["evaluation"] = self._select(collector)
        row["seconds"] = self._elapsed()
        state["curve"].append(row)
        self._save()
        return row

    def _train_on(self, bags: list[str], busy: Callable[[], bool]) -> dict[str, float]:
        """One update per decision of the newest bag, and those of all random episodes once they are there."""
        if len(bags) < self.config.random_episodes:
            return {}
        paths = [self.out / bag for bag in bags]
        decisions = self.task.length * self.task.control_dt * self.task.contract.model_hz
        if self._trainer is None:
            dataset = Dataset([*map(Path, self.config.bags), *paths], self.task.contract, cache_dir=self.out / "cache")
            self._trainer = Trainer(self.model, dataset, self._train)
            if (self.out / "checkpoint.pt").exists():
                self._trainer.load(self.out / "checkpoint.pt")
            else:
                decisions *= len(paths)
                if not self.config.from_bundle:
                    self._trainer.standardise()
        else:
            self._trainer.dataset.add(paths[-1])  # type: ignore[attr-defined]
        settle = (
            0.0 if self.config.from_bundle else SETTLE
        )  # weights that are good already need no rate that changes much
        self._trainer.scale_rate(falling((self._spent() - settle) / (1.0 - settle), SLOWEST))
        return self._update(self._trainer, round(decisions * self.config.updates_per_decision), busy)

    @staticmethod
    def _update(trainer: Trainer, count: int, busy: Callable[[], bool]) -> dict[str, float]:
        """Make `count` updates, on every core once the other process has played its episode; mean of the losses."""
        rows, cores = [], len(os.sched_getaffinity(0))
        for chunk in np.diff([*range(0, count, CHUNK), count]):
            torch.set_num_threads(max(1, cores - 1) if busy() else cores)
            rows.append(trainer.update(int(chunk)))
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}

    def _export(self, name: str, averaged: bool = False) -> Path:
        """Write the present weights, or their average, as the bundle `name`."""
        if self._template is None:
            planner = self.config.planner or light_planner(self.task.contract)
            self._template = BundleTemplate.trace(self.model, self.task.contract, planner)
        with self._trainer.averaged() if averaged and self._trainer else nullcontext():
            self._template.write(self.model, self.out / name, self._provenance(), name=self.task.contract.name)
        return self.out / name

    def _select(self, collector: Collector) -> float:
        """Evaluate the averaged weights and keep them as `best/` unless they are clearly worse than those there: of two that a few
        episodes cannot tell apart, those with more training."""
        averaged, began = self._export("averaged", averaged=True), self._clock()
        collector.submit(Evaluate(averaged, self.config.selection_episodes, SELECTION_SEED))
        score = float(collector.result()["return_mean"])
        self._play_s = (self._clock() - began) / self.config.selection_episodes
        if score >= CLEARLY_WORSE * self._state["best"]:
            self._state["best"] = score
            _replace(averaged, self.out / "best")
        return score

    def _finish(self, collector: Collector) -> dict[str, Any]:
        """Evaluate the selected bundle on episodes of their own, and leave it as `final/` with its history."""
        if self._trainer is None:
            raise RunError(f"{self.out}: the time was up before the first training; give it more --minutes")
        self._select(collector)
        final = self.out / "final"
        collector.submit(Evaluate(self.out / "best", self.config.final_episodes, FINAL_SEED))
        figures = collector.result()
        curve = self._state["curve"]
        _replace(self.out / "best", final)
        add_metrics(final, {key: figures[key] for key in ("return_mean", "return_std", "returns", "seed")})
        figures |= {
            "frames": curve[-1]["frames"],
            "updates": curve[-1]["updates"],
            "minutes": self._elapsed() / 60.0,
            "updates_per_s": curve[-1]["updates"] / self._elapsed(),
            "selected_by": self._state["best"],
            "bundle": str(final),
            "curve": str(self.out / "curve.json"),
        }
        self._save()
        plot_curve(curve, self.out / "curve.png", self.config.task)
        return figures

    def _provenance(self) -> dict[str, Any]:
        hashes = self._trainer.dataset.hashes if self._trainer else {}  # type: ignore[attr-defined]
        config = asdict(self.config)
        command = "robot-wm flywheel --task {task} --minutes {minutes:g} --seed {seed}".format(**config)
        command += "".join(f" --bags {bag}" for bag in self.config.bags)
        usual = FlywheelConfig(self.config.task)
        for option in ("frames", "size", "family", "updates_per_decision", "random_episodes", "from_bundle"):
            if config[option] != getattr(usual, option):
                command += f" --{option.replace('_', '-')} {config[option]}"
        began_with = self.config.from_bundle
        lineage = {"from": load_bundle(began_with).manifest.provenance} if began_with else {}
        return lineage | {
            "command": command,
            "config": config,
            "bags": {path.removeprefix(f"{self.out}/bags/"): digest for path, digest in hashes.items()},
            "code": code_version(),
            "frames": self._frames(),
            "updates": self._trainer.step if self._trainer else 0,
        }

    def _has_time(self) -> bool:
        """Whether one more round fits before the final evaluation has to begin."""
        curve = self._state["curve"]
        episodes = self.config.final_episodes + self.config.selection_episodes
        round_s = self._round_s if len(curve) > self.config.random_episodes + 1 else 0.0
        in_time = self._elapsed() + 1.2 * round_s + episodes * self._play_s < 60.0 * self.config.minutes
        return in_time and not 0 < self.config.frames <= self._frames()

    def _spent(self) -> float:
        """How much of the budget is gone: of the time, or of the frames where that is more."""
        time_spent = self._elapsed() / (60.0 * self.config.minutes)
        return max(time_spent, self._frames() / self.config.frames) if self.config.frames else time_spent

    def _frames(self) -> int:
        return len(self._state["curve"]) * self.task.length

    def _elapsed(self) -> float:
        return float(self._state["seconds"]) + self._clock() - self._began

    def _begin(self) -> dict[str, Any]:
        if self.out.exists() and any(self.out.iterdir()):
            raise RunError(f"{self.out}: is not empty; go on with --resume, or choose another --out")
        (self.out / "bags").mkdir(parents=True, exist_ok=True)
        return {"seconds": 0.0, "best": 0.0, "bags": [], "curve": [], "config": self._identity()}

    def _restore(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads((self.out / "state.json").read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"{self.out}: nothing to resume: state.json cannot be read") from error
        if state["config"] != json.loads(json.dumps(self._identity())):
            raise RunError(f"{self.out}: was begun with another configuration: {state['config']}")
        return state

    def _identity(self) -> dict[str, Any]:
        """The configuration without the budget, which may grow."""
        return {key: value for key, value in asdict(self.config).items() if key not in ("minutes", "frames")}

    def _save(self) -> None:
        """Checkpoint and state, each whole or not at all."""
        if self._trainer is not None:
            self._trainer.save(self.out / "checkpoint.pt")
        for name, data in (
            ("state.json", self._state | {"seconds": self._elapsed()}),
            ("curve.json", self._state["curve"]),
        ):
            temporary = self.out / f".{name}"
            temporary.write_text(json.dumps(data, indent=1) + "\n")
            os.replace(temporary, self.out / name)


def light_planner(contract: Contract) -> PlannerDefaults:
    """A budget that leaves the core to the trainer: 32 samples per action beside the policy's proposals, 64 to 512, four times."""
    samples = min(max(32 * contract.action.size, 64), 512)
    return PlannerDefaults(samples=samples, elites=samples // 4, refinements=4)


def plot_curve(curve: list[dict[str, Any]], path: Path, title: str) -> None:
    """Return of the exploring episodes and of the evaluations against simulator frames."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([r["frames"] for r in curve], [r["return"] for r in curve], ".-", linewidth=0.8, label="exploring")
    chosen = [r for r in curve if "evaluation" in r]
    axes.plot([r["frames"] for r in chosen], [r["evaluation"] for r in chosen], "o-", label="evaluation")
    axes.set(title=title, xlabel="simulator frames", ylabel="return", ylim=(0, 1000))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def _replace(source: Path, target: Path) -> None:
    """Copy a bundle, never leaving half of one at `target`."""
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(temporary, target)
    load_bundle(target)
