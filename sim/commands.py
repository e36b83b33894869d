"""Commands of the simulator: `robot-wm eval`, `robot-wm collect` and `robot-wm flywheel`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with the figures as the last thing.")]


def evaluate(
    bundle: Annotated[Path, typer.Option(help="Bundle to evaluate.")],
    task: Annotated[str, typer.Option(help="Task; default: the one the bundle's contract names.")] = "",
    episodes: Annotated[int, typer.Option(help="Episodes, with seeds --seed, --seed + 1, ...", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the first episode.")] = 0,
    perception_delay_ms: Annotated[
        float, typer.Option(help="From capture to arrival, of all but images [ms].", min=0)
    ] = 0.0,
    jitter_ms: Annotated[float, typer.Option(help="Standard deviation of that delay [ms].", min=0)] = 0.0,
    dropout: Annotated[
        float, typer.Option(help="Chance that a reading, of all but images, never arrives.", min=0, max=1)
    ] = 0.0,
    image_delay_ms: Annotated[
        float | None, typer.Option(help="From capture to arrival of an image [ms]; default: the contract's.", min=0)
    ] = None,
    image_jitter_ms: Annotated[float, typer.Option(help="Standard deviation of that delay [ms].", min=0)] = 0.0,
    image_dropout: Annotated[float, typer.Option(help="Chance that an image never arrives.", min=0, max=1)] = 0.0,
    occlude: Annotated[
        float, typer.Option(help="Hide the cameras for so long at a random moment of each episode [s].", min=0)
    ] = 0.0,
    correction: Annotated[
        str,
        typer.Option(
            help="How what comes late corrects the latent: exact, as on the robot; or to compare with, naive (taken for "
            "current) or hold (not predicted to now). sim/corrections.py."
        ),
    ] = "exact",
    actuation_delay_ms: Annotated[float, typer.Option(help="From sending a command to its effect [ms].", min=0)] = 0.0,
    planning_delay_ms: Annotated[
        float, typer.Option(help="From the latent to the plan made from it [ms].", min=0)
    ] = 0.0,
    compensate: Annotated[bool, typer.Option(help="Plan for the moment at which a plan takes effect.")] = True,
    refinements: Annotated[int, typer.Option(help="Refinements per plan; 0: the manifest's budget.", min=0)] = 0,
    samples: Annotated[int, typer.Option(help="Samples per refinement; 0: the manifest's budget.", min=0)] = 0,
    planner: Annotated[str, typer.Option(help="mppi, cem, sampling or policy (robot_wm/search.py).")] = "mppi",
    fault: Annotated[str, typer.Option(help="What goes wrong, as wrong_sign (sim/faults.py); empty: nothing.")] = "",
    fault_at: Annotated[float, typer.Option(help="From so long after an episode's start on [s].", min=0)] = 2.0,
    fault_lasts: Annotated[float, typer.Option(help="For so long [s]; 0: for good.", min=0)] = 0.0,
    fault_joint: Annotated[int, typer.Option(help="Which joint, for faults of one.", min=0)] = 0,
    trust: Annotated[str, typer.Option(help="act on falling trust as on the robot, watch it, or off.")] = "act",
    provider: Annotated[str, typer.Option(help="auto, tensorrt, cuda, openvino, openvino-bf16 or cpu.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of one graph.", min=1)] = 1,
    bags: Annotated[Path | None, typer.Option(help="Record each episode into this directory.")] = None,
    runs: Annotated[Path, typer.Option(help="Where the run folder is made.")] = Path("runs"),
    video: Annotated[bool, typer.Option(help="Render a video of the first episode into the run folder.")] = True,
    json_: Json = False,
) -> None:
    """Closed loop in lockstep on a virtual clock, deterministic per seed, with injected delay, jitter and dropout.

    The run folder, named on standard error, holds the first episode's bag, report and video.
    """
    import sys

    from robot_wm.bundle import load_bundle
    from robot_wm.cli import emit, progress
    from robot_wm.evidence import leave_evidence
    from robot_wm.runs import RunFolder
    from robot_wm.search import search_named
    from sim import evaluate as evaluation
    from sim.disturbance import Disturbance
    from sim.faults import Fault
    from sim.lockstep import EpisodeResult
    from sim.video import film

    loaded = load_bundle(bundle)
    disturbance = Disturbance(
        perception_delay_ms / 1e3, jitter_ms / 1e3, dropout, actuation_delay_ms / 1e3, planning_delay_ms / 1e3,
        None if image_delay_ms is None else image_delay_ms / 1e3, image_jitter_ms / 1e3, image_dropout, occlude,
    )  # fmt: skip
    config = {"bundle": bundle.resolve(), "episodes": episodes, "seed": seed, "compensate": compensate}
    config |= {
        "refinements": refinements,
        "samples": samples,
        "planner": planner,
        "provider": provider,
        "threads": threads,
        "trust": trust,
        "correction": correction,
        **vars(disturbance),
    }
    wrong = Fault(fault, fault_at, fault_lasts or float("inf"), fault_joint) if fault else None
    folder = RunFolder.create("eval", config, runs, task or loaded.contract.name)
    first = folder.path / "bag" if bags is None else bags / "episode_0000"

    def bag_of(index: int) -> Path | None:
        if index == 0:
            return first
        return None if bags is None else bags / f"episode_{index:04d}"

    with progress() as bar:
        line = bar.add_task("episodes", total=episodes)

        def show(result: EpisodeResult) -> None:
            bar.update(line, advance=1, description=f"return {result.score:.0f}")

        figures = evaluation.evaluate(
            loaded, task or loaded.contract.name, episodes, seed, disturbance, compensate, refinements or None,
            search_named(planner), samples, provider, threads, bag_of, show, fault=wrong, trust=trust, correction=correction,
        )  # fmt: skip
    title = f"eval {loaded.manifest.name}"
    evidence = leave_evidence(folder, first, loaded.contract, figures, title, film if video else None)
    folder.figures(figures | {"bag": first, **evidence})
    print(f"run folder: {folder.path}", file=sys.stderr)
    emit(figures, json_, title=title)


def collect(
    task: Annotated[
        str, typer.Option(help="cartpole_camera, reacher_camera, cartpole_swingup or dmc:<domain>-<task>.")
    ],
    out: Annotated[Path, typer.Option(help="Directory of the bags, episode_0000 and so on.")],
    bundle: Annotated[
        str,
        typer.Option(help="Who drives: a bundle for the task or for its state-based sibling; empty: random actions."),
    ] = "",
    episodes: Annotated[int, typer.Option(help="Episodes, with seeds --seed, --seed + 1, ...", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the first episode.")] = 0,
    noise: Annotated[
        float,
        typer.Option(help="Largest standard deviation of an episode's noise, as a share of the action range.", min=0),
    ] = 0.3,
    hold_ms: Annotated[
        float, typer.Option(help="Longest time that a draw of the noise holds [ms]; 0: a model step.", min=0)
    ] = 500.0,
    jobs: Annotated[int, typer.Option(help="Episodes at a time, each in a process of its own.", min=1)] = 2,
    planner: Annotated[
        str, typer.Option(help="mppi, cem, sampling or policy; policy takes a fraction of the time.")
    ] = "mppi",
    refinements: Annotated[int, typer.Option(help="Refinements per plan; 0: the manifest's budget.", min=0)] = 0,
    seconds: Annotated[float, typer.Option(help="Length of an episode [s]; 0: the task's.", min=0)] = 0.0,
    image_delay_ms: Annotated[
        float | None, typer.Option(help="From capture to arrival of an image [ms]; default: the contract's.", min=0)
    ] = None,
    image_jitter_ms: Annotated[float, typer.Option(help="Standard deviation of that delay [ms].", min=0)] = 0.0,
    image_dropout: Annotated[float, typer.Option(help="Chance that an image never arrives.", min=0, max=1)] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Leave episodes that are in --out as they are.")] = False,
    json_: Json = False,
) -> None:
    """Record exploring episodes, one bag each, to train from: a bundle drives, with noise, and sometimes has to recover.

    A task that sees can be driven by a bundle that has every state measured; the bag holds what its own robot would record.
    """
    from robot_wm.cli import emit, progress
    from sim.collect import Played, Recipe
    from sim.collect import collect as collect_episodes
    from sim.disturbance import Disturbance

    delay = None if image_delay_ms is None else image_delay_ms / 1e3
    disturbance = Disturbance(image_delay_s=delay, image_jitter_s=image_jitter_ms / 1e3, image_dropout=image_dropout)
    drives = Path(bundle) if bundle else None
    recipe = Recipe(task, drives, noise, hold_ms / 1e3, planner, refinements or None, seconds, disturbance)
    with progress() as bar:
        line = bar.add_task("episodes", total=episodes)

        def show(played: Played) -> None:
            bar.update(line, advance=1, description=f"return {played.score:.0f}")

        figures = collect_episodes(recipe, out, episodes, seed, jobs, show, resume)
    emit(figures, json_, title=f"collect {task}")


def flywheel(
    task: Annotated[str, typer.Option(help="cartpole_swingup or dmc:<domain>-<task>.")],
    minutes: Annotated[float, typer.Option(help="Time budget, the final evaluation included [min].", min=0.1)] = 30.0,
    frames: Annotated[int, typer.Option(help="Simulator frames to stop after; 0: when the time is up.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights, data and noise.")] = 0,
    size: Annotated[str, typer.Option(help="nano, 1M, 5M or 19M.")] = "nano",
    family: Annotated[str, typer.Option(help="tdmpc2, rssm-gaussian or rssm-categorical.")] = "tdmpc2",
    updates_per_decision: Annotated[
        float,
        typer.Option(
            help="Updates for each action taken: 1 learns most from few frames, 0.5 most in little time.", min=0.01
        ),
    ] = 0.5,
    random_episodes: Annotated[int, typer.Option(help="Episodes of random actions first.", min=1)] = 5,
    episodes: Annotated[int, typer.Option(help="Episodes of the final evaluation.", min=1)] = 10,
    out: Annotated[
        Path | None,
        typer.Option(help="Directory of bags, bundles and the curve; default: runs/flywheel-<task>-<seed>."),
    ] = None,
    from_bundle: Annotated[
        Path | None, typer.Option(help="Begin with a bundle's weights and play instead of from nothing.", exists=True)
    ] = None,
    bags: Annotated[
        list[Path] | None,
        typer.Option(help="Bag to learn from beside those collected; may be given again.", exists=True),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in --out.")] = False,
    json_: Json = False,
) -> None:
    """Collect, train and export again and again: from nothing to a bundle that does the task."""
    import matplotlib  # noqa: F401 - the curve is plotted at the very end, and hours are lost without

    from robot_wm.cli import emit, progress
    from sim.flywheel import Flywheel, FlywheelConfig

    out = out or Path("runs") / f"flywheel-{task.replace(':', '_')}-{seed}"
    config = FlywheelConfig(
        task, minutes, frames, seed, size, random_episodes=random_episodes, updates_per_decision=updates_per_decision,
        final_episodes=episodes, family=family,
        from_bundle=str(from_bundle or ""), bags=tuple(map(str, bags or ())),
    )  # fmt: skip
    wheel = Flywheel(config, out, resume)
    with progress() as bar:
        line = bar.add_task("flywheel", total=minutes * 60.0)

        def show(row: dict[str, Any]) -> None:
            text = f"{row['frames']} frames, {row['updates']} updates, return {row['return']:.0f}"
            bar.update(line, completed=row["seconds"], description=text)

        figures = wheel.run(show)
    emit(figures, json_, title=f"flywheel {task}")


def bench_planner_ablation(
    bundle: Annotated[Path, typer.Option(help="Bundle to plan with.", exists=True)],
    budgets: Annotated[str, typer.Option(help="Samples x refinements, as 512x6,64x2.")] = "512x6,128x6,64x4,64x1",
    variations: Annotated[
        str,
        typer.Option(
            help="Of mppi, last_plan, correlated, keep_best, momentum, keep_spread, cem, sampling, policy, reference; empty: all."
        ),
    ] = "",
    episodes: Annotated[int, typer.Option(help="Episodes each, on equal seeds.", min=2)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the first episode.")] = 0,
    jobs: Annotated[int, typer.Option(help="Evaluations at a time.", min=1)] = 2,
    json_: Json = False,
) -> None:
    """Return against samples x refinements for each variation of the planner, with 95 % intervals."""
    from robot_wm.cli import emit, progress
    from sim.ablation import VARIATIONS, cells_for, measure, parse_budgets

    cells = cells_for(variations.split(",") if variations else list(VARIATIONS), parse_budgets(budgets))
    with progress() as bar:
        line = bar.add_task("evaluations", total=len(cells))
        rows = measure(bundle, cells, episodes, seed, jobs, lambda row: bar.update(line, advance=1))
    emit({"bundle": str(bundle), "rows": rows}, json_, title="bench planner-ablation")
