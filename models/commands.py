"""`robot-wm train`, `robot-wm export` and `robot-wm bench train|plan|soak`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def train(
    contract: Annotated[Path, typer.Option(help="Contract file: what to read and what to predict.")],
    out: Annotated[Path, typer.Option(help="Bundle to write.")],
    bags: Annotated[list[Path] | None, typer.Argument(help="Bags to learn from.")] = None,
    size: Annotated[str, typer.Option(help="nano, 1M, 5M or 19M.")] = "nano",
    family: Annotated[str, typer.Option(help="tdmpc2, rssm-gaussian or rssm-categorical.")] = "tdmpc2",
    steps: Annotated[int, typer.Option(help="Updates; 0: until the minutes are over, or 20000.", min=0)] = 0,
    minutes: Annotated[float, typer.Option(help="Time to train [min]; 0: until the steps are done.", min=0.0)] = 0.0,
    decay: Annotated[
        bool,
        typer.Option(
            "--decay",
            help="Let the learning rate fall to 1 % over --steps (to resume such a run, give the same --steps).",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, windows and noise.")] = 0,
    batch: Annotated[int, typer.Option(help="Windows per update; 0: the usual number.", min=0)] = 0,
    overshooting: Annotated[
        float | None, typer.Option(help="Weight of latent overshooting, of the RSSM families.", min=0.0)
    ] = None,
    samples: Annotated[int, typer.Option(help="Planning budget of the bundle: samples per refinement.", min=32)] = 512,
    refinements: Annotated[int, typer.Option(help="... and refinements per plan.", min=1)] = 6,
    val: Annotated[list[Path] | None, typer.Option(help="Bag for held-out figures; may be given again.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder or checkpoint to continue exactly.")] = None,
    from_bundle: Annotated[Path | None, typer.Option(help="Bundle whose weights to start from.")] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Bundle of a robot that acts alike and measures more: learn to know from images what it knows. Beside each bag "
            "its episode with every state, as `robot-wm collect` writes it (full/)."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle; default: of its folder.")] = "",
    runs: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
    threads: Annotated[int, typer.Option(help="Threads; 0: as many as cores.", min=0)] = 0,
    device: Annotated[str, typer.Option(help="cpu, or cuda: an update is then one CUDA graph.")] = "cpu",
    json_: Json = False,
) -> None:
    """Learn a world model from bags and write a bundle.

    The run folder holds a checkpoint (`--resume`) and TensorBoard figures (`tensorboard --logdir runs`).
    """
    import torch

    from models.train_run import TrainJob, train_bags
    from robot_wm.cli import emit

    if threads:
        torch.set_num_threads(threads)
    job = TrainJob(
        bags=tuple(bags or ()),
        contract=contract,
        out=out,
        size=size,
        family=family,
        steps=steps,
        minutes=minutes,
        seed=seed,
        batch=batch,
        overshooting=overshooting,
        validation=tuple(val or ()),
        resume=resume,
        from_bundle=from_bundle,
        teacher=teacher,
        name=name,
        runs=runs,
        device=device,
        decay=decay,
        samples=samples,
        refinements=refinements,
    )
    emit(train_bags(job), json_, title="train")


def export(
    bundle: Annotated[Path, typer.Argument(help="Bundle with weights.", exists=True)],
    out: Annotated[Path, typer.Option(help="Bundle to write; may be the same.")],
    contract: Annotated[
        Path | None, typer.Option(help="Contract with other costs or limits; default: its own.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write a bundle's weights again with the graphs of this version, or with a contract's other cost functions."""
    from models.export import export_again
    from robot_wm.cli import emit
    from robot_wm.contract import load_contract

    written = export_again(bundle, out, load_contract(contract) if contract else None)
    figures = {"bundle": str(written.path), "bundle_id": written.bundle_id, "parity": written.manifest.parity}
    emit(figures, json_, title="export")


def bench_train(
    size: Annotated[str, typer.Option(help="nano, 1M, 5M or 19M.")] = "nano",
    batch: Annotated[int, typer.Option(help="Windows per update.", min=8)] = 256,
    threads: Annotated[int, typer.Option(help="Threads; 0: as many as cores.", min=0)] = 0,
    seconds: Annotated[float, typer.Option(help="Time for both trainers together [s].", min=2.0)] = 30.0,
    json_: Json = False,
) -> None:
    """Time the trainer beside a plain eager one with the same losses, and say where the time goes."""
    from models.bench import measure
    from robot_wm.cli import emit

    emit(measure(size, batch, threads, seconds), json_, title="bench train")


def bench_plan(
    size: Annotated[str, typer.Option(help="Random weights of this size: nano, 1M, 5M or 19M; empty: --bundle.")] = "",
    bundle: Annotated[Path, typer.Option(help="Bundle to plan with.")] = Path("models/zoo/cartpole_swingup"),
    horizon: Annotated[int, typer.Option(help="Model steps, with --size.", min=1)] = 3,
    samples: Annotated[int, typer.Option(help="Samples per refinement, with --size.", min=64)] = 512,
    refinements: Annotated[int, typer.Option(help="Refinements per plan; 0: the bundle's budget, or 6.", min=0)] = 0,
    provider: Annotated[str, typer.Option(help="auto, tensorrt, cuda, openvino, openvino-bf16 or cpu.")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of one refinement.", min=1)] = 2,
    plans: Annotated[int, typer.Option(help="Plans to time; 0: 300, or 30 with --size.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights and noise.")] = 0,
    json_: Json = False,
) -> None:
    """Time the planner: p50, p99 and p99.9 per plan and per refinement.

    With --size also the plain PyTorch reference, the library pytorch-mppi where it is installed, and the machine's rate of
    matrix products, in turns in the same run.
    """
    from robot_wm.cli import emit

    if size:
        from models.bench_plan import measure as compare

        figures = compare(size, horizon, samples, refinements or 6, provider, threads, plans or 30, seed)
    else:
        from robot_wm.bench_plan import measure

        figures = measure(bundle, provider, threads, refinements, plans or 300, seed)
    emit(figures, json_, title="bench plan")


def bench_soak(
    plans: Annotated[int, typer.Option(help="Plans to make.", min=100)] = 180_000,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    json_: Json = False,
) -> None:
    """Plan at virtual time with random models, readings, resets and missed deadlines; fails on any plan out of bounds."""
    from models.soak import soak
    from robot_wm.cli import emit, progress

    with progress() as bar:
        line = bar.add_task("plans", total=plans)
        figures = soak(plans, seed, progress=lambda done: bar.update(line, completed=done))
    emit(figures, json_, title="bench soak")
