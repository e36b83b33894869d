"""One training run: bags in, a bundle and a run folder out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.curves import Curves
from models.dataset import Dataset
from models.export import export_bundle
from models.families import DEFAULT, make_model
from models.teacher import Teacher
from models.train import Trainer, load_bundle_weights
from models.train_config import TrainConfig, config_for, learns_motion_alone, phases_for, taught
from models.world_model import WorldModel
from robot_wm.bundle import PlannerDefaults
from robot_wm.cli import progress
from robot_wm.contract import Contract, load_contract
from robot_wm.errors import RunError
from robot_wm.evidence import leave_report
from robot_wm.runs import RunFolder, code_version

CHECKPOINT = "checkpoint.pt"
STEPS = 20_000  # where neither steps nor minutes are given
CHUNK = 50  # updates between looks at the clock
LOGGED = 500  # updates between held-out figures and checkpoints


@dataclass(frozen=True)
class TrainJob:
    """What `robot-wm train` was asked for."""

    bags: tuple[Path, ...]
    contract: Path
    out: Path  # bundle to write
    size: str = "nano"
    family: str = DEFAULT
    steps: int = 0  # updates in all, those before a resumption included; 0: until the time is over
    minutes: float = 0.0  # of training; 0: until the steps are done
    seed: int = 0
    batch: int = 0  # windows per update; 0: the usual number
    overshooting: float | None = None  # weight of latent overshooting, of the RSSM families; None: the usual one
    validation: tuple[Path, ...] = ()
    resume: Path | None = None  # checkpoint, or the run folder that holds it
    from_bundle: Path | None = None
    teacher: Path | None = None  # bundle of a robot that measures more (models/teacher.py)
    name: str = ""
    runs: Path = Path("runs")
    device: str = "cpu"  # or cuda
    decay: bool = False  # let the learning rate fall along a cosine over `steps`
    samples: int = PlannerDefaults.samples  # the bundle's planning budget: per refinement ...
    refinements: int = PlannerDefaults.refinements  # ... and refinements per plan


def train_bags(job: TrainJob) -> dict[str, Any]:
    """Train on the job's bags, write the bundle and return the run's figures.

    Raises:
        RobotWmError: the contract, a bag, the checkpoint or the bundle to start from cannot be used, or a loss is not finite.
    """
    if job.resume and job.from_bundle:
        raise RunError("--resume continues a run and --from-bundle starts one: give one of them")
    contract = load_contract(job.contract)
    torch.manual_seed(job.seed)
    model = make_model(contract, job.size, job.family).to(device_named(job.device))
    if not contract.rewarded and not learns_motion_alone(contract, job.family):
        raise RunError(
            f"{job.contract}: nothing to learn: name a reward.topic or a reward.function, or mark observations as anchored "
            "(or train an RSSM family) to learn the motion alone"
        )
    teacher = _taught_by(job, contract, model) if job.teacher else None
    dataset = Dataset(job.bags, contract, phases=phases_for(contract, job.family))
    if teacher:
        teacher.watch(dataset, job.bags)
    validation = Dataset(job.validation, contract) if job.validation else None
    config = configure(job, contract, dataset)
    trainer = Trainer(model, dataset, config, teacher)
    if job.from_bundle:
        load_bundle_weights(model, job.from_bundle, contract)
    else:
        trainer.standardise()
    if job.resume:
        _resume(trainer, job.resume, dataset)
    folder = RunFolder.create("train", {"job": asdict(job), "train": asdict(config)}, job.runs, contract.name)
    steps = job.steps or (0 if job.minutes else config.optimiser.decay or STEPS)
    with Curves(folder.path) as curves:
        seconds, done = _loop(trainer, validation, folder.path, curves, steps, 60.0 * job.minutes)
    with trainer.averaged():
        figures = {
            "steps": trainer.step,
            "seconds": seconds,
            "updates_per_s": done / seconds if seconds else 0.0,
            "rows": len(dataset),
            "held_out": trainer.evaluate(validation) if validation else {},
        }
        bundle = export_bundle(
            model,
            contract,
            job.out,
            planner=planner_for(job, contract),
            provenance=_provenance(job, trainer, dataset),
            metrics={"held_out": figures["held_out"], "rows": len(dataset)},
            name=job.name,
            terminations=config.loss.with_terminals,
        )
    figures |= {"bundle": str(bundle.path), "bundle_id": bundle.bundle_id, "run": str(folder.path)}
    figures["report"], figures["notes"] = leave_report(folder, f"train {contract.name}", figures, curves.panels())
    folder.figures(figures)
    return figures


def _taught_by(job: TrainJob, contract: Contract, model: WorldModel) -> Teacher:
    """The teacher, which has handed over to the model what it has."""
    assert job.teacher is not None
    if job.family != DEFAULT:
        raise RunError(
            f"--teacher needs --family {DEFAULT}: a model of family {job.family} cannot take its dynamics over"
        )
    teacher = Teacher(job.teacher, contract)
    if teacher.size != job.size:
        raise RunError(f"--teacher {job.teacher} is of size {teacher.size}: give --size {teacher.size}")
    teacher.hand_over(model)
    return teacher


def planner_for(job: TrainJob, contract: Contract) -> PlannerDefaults:
    """The budget to plan with; where there is no reward nothing can be planned, and a horizon of 1 spares the tracing."""
    elites = min(PlannerDefaults.elites, max(1, job.samples // 4))
    horizon = PlannerDefaults.horizon if contract.rewarded else 1
    return PlannerDefaults(horizon=horizon, samples=job.samples, elites=elites, refinements=job.refinements)


def device_named(name: str) -> torch.device:
    """The device to train on. Raises RunError where there is no such."""
    if name not in ("cpu", "cuda"):
        raise RunError(f"--device {name}: choose cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RunError(f"--device cuda: PyTorch {torch.__version__} finds no GPU here; leave --device out")
    return torch.device(name)


def configure(job: TrainJob, contract: Contract, dataset: Dataset) -> TrainConfig:
    """The configuration for fixed bags: guarded against over-estimated values, with a termination head where one can learn."""
    config = config_for(
        contract,
        job.seed,
        offline=True,
        delays=dataset.delays,
        family=job.family,
        with_terminals=has_terminals(dataset),
    )
    if job.teacher:
        config = taught(config)
    if job.overshooting is not None:
        if config.loss.elbo is None:
            raise RunError(f"--overshooting is of the RSSM families, and {job.family} is none")
        elbo = replace(config.loss.elbo, overshooting=job.overshooting)
        config = replace(config, loss=replace(config.loss, elbo=elbo))
    if job.batch:
        config = replace(config, batch=job.batch)
    if job.decay and not job.steps:
        raise RunError("--decay needs --steps: over how many updates shall the learning rate fall?")
    if job.steps and (job.decay or config.optimiser.decay):
        config = replace(config, optimiser=replace(config.optimiser, decay=job.steps))
    return config


def has_terminals(dataset: Dataset) -> bool:
    """Whether any episode ends in a terminal state."""
    last = np.array([episode.start + episode.length - 1 for episode in dataset.episodes], np.int64)
    return bool(dataset.window(last, 1).terminal.any())


def _resume(trainer: Trainer, path: Path, dataset: Dataset) -> None:
    notes = trainer.load(path / CHECKPOINT if path.is_dir() else path)
    if sorted(notes.get("bags", [])) != sorted(dataset.hashes.values()):
        raise RunError(f"{path}: was trained on other bags; resume with the same ones, or start with --from-bundle")


def _loop(
    trainer: Trainer, validation: Dataset | None, folder: Path, curves: Curves, steps: int, seconds: float
) -> tuple[float, int]:
    """Update until `steps` or `seconds` are reached (0: no such bound); returns the time taken [s] and the updates made."""
    first, start = trainer.step, time.monotonic()
    notes = {"bags": sorted(trainer.dataset.hashes.values())} if isinstance(trainer.dataset, Dataset) else {}
    with _progress(steps, seconds) as advance:
        while True:
            elapsed = time.monotonic() - start
            if (steps and trainer.step >= steps) or (seconds and elapsed >= seconds):
                break
            count = min(CHUNK, steps - trainer.step) if steps else CHUNK
            figures = trainer.update(count)
            advance(trainer.step, elapsed)
            curves.log("train", figures, trainer.step)
            if trainer.step // LOGGED != (trainer.step - count) // LOGGED:
                trainer.save(folder / CHECKPOINT, notes)
                if validation:
                    curves.log("held_out", trainer.evaluate(validation, batches=2), trainer.step)
    trainer.save(folder / CHECKPOINT, notes)
    return time.monotonic() - start, trainer.step - first


@contextmanager
def _progress(steps: int, seconds: float) -> Iterator[Any]:
    """A progress bar over the bound that comes first in the bar's own measure: steps where given, else seconds."""
    with progress() as bar:
        task = bar.add_task("train", total=steps or seconds)
        yield lambda step, elapsed: bar.update(task, completed=step if steps else elapsed)


def _provenance(job: TrainJob, trainer: Trainer, dataset: Dataset) -> dict[str, Any]:
    return {
        "command": "train",
        "seed": job.seed,
        "steps": trainer.step,
        "bags": dataset.hashes,
        "from_bundle": str(job.from_bundle or ""),
        **({"teacher": trainer.teacher.bundle_id, "full_bags": trainer.teacher.hashes} if trainer.teacher else {}),
        "config": asdict(trainer.config),
        "code": code_version(),
    }
