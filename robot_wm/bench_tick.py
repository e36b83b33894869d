"""`robot-wm bench tick`: what one turn of the motor loop and of the latent filter costs, and how punctual the loop is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

if TYPE_CHECKING:
    from robot_wm.contract import Contract
    from robot_wm.realtime import RealtimeOptions

LATE_S = 0.3  # how late the late correction is: everything since is replayed


def bench_tick(
    bundle: Annotated[Path | None, typer.Option(help="Bundle whose filter is timed too.")] = None,
    provider: Annotated[str, typer.Option(help="auto, tensorrt, cuda, openvino, openvino-bf16 or cpu.")] = "auto",
    joints: Annotated[int, typer.Option(help="Joints of the robot when no bundle is given.", min=1)] = 6,
    motor_hz: Annotated[float, typer.Option(help="Rate of the paced loop [Hz]; 0: the contract's.", min=0)] = 0.0,
    ticks: Annotated[int, typer.Option(help="Ticks to time.", min=100)] = 5000,
    seconds: Annotated[float, typer.Option(help="Time for each measurement of lateness [s].", min=0.1)] = 5.0,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Time the motor loop on a loopback bus: one tick, and its lateness with and without real-time scheduling."""
    from robot_wm.cli import emit

    emit(measure(bundle, provider, joints, motor_hz, ticks, seconds), json_, title="bench tick")


def measure(
    bundle: Path | None, provider: str, joints: int, motor_hz: float, ticks: int, seconds: float
) -> dict[str, Any]:
    """All figures; times in [ms]. Raises BundleError when the bundle cannot be used."""
    from dataclasses import replace

    from robot_wm.bundle import load_bundle
    from robot_wm.machine import describe_machine
    from robot_wm.realtime import RealtimeOptions

    loaded = None if bundle is None else load_bundle(bundle)
    contract = _arm(joints) if loaded is None else loaded.contract
    if motor_hz:
        contract = replace(contract, motor_hz=motor_hz)
    figures: dict[str, Any] = {
        **_quantiles("tick_ms", _tick_times(contract, ticks)),
        "ticks": ticks,
        "motor_hz": contract.motor_hz,
        "actions": contract.action.size,
        "lateness": {"default": _lateness(contract, seconds, None)},
    }
    figures["ticks_per_s"] = 1e3 / figures["tick_ms_mean"]
    figures["lateness"]["realtime"] = _lateness(contract, seconds, RealtimeOptions())
    figures["filter"] = (
        _filter_times(loaded, provider, ticks) if loaded is not None else "not measured: no bundle given"
    )
    figures["machine"] = describe_machine()
    return figures


def _arm(joints: int) -> Contract:
    """The contract of an arm with limits, rates, bounds and damping, so that every check has something to do."""
    from robot_wm.contract import parse_contract

    names = [f"joint_{i}" for i in range(joints)]
    observations = [
        {"name": field, "topic": "joint_states", "field": field, "names": names} for field in ("position", "velocity")
    ]
    action = {"names": names, "mode": "effort", "low": [-10] * joints, "high": [10] * joints, "rate": 200}
    bounds = {name: [-3.0, 3.0] for name in names}
    safety = {"position": bounds, "velocity": dict.fromkeys(names, 20.0), "damping": [0.5] * joints}
    table = {"name": f"{joints}-joint arm", "model_hz": 50, "motor_hz": 200, "observations": observations}
    return parse_contract({**table, "action": action, "safety": safety}, "bench tick")


def _tick_times(contract: Contract, count: int) -> list[float]:
    """Durations [ms] of `count` ticks that play plans, on a clock that moves one period per tick."""
    from time import perf_counter_ns

    from robot_wm.buses.loopback import LoopbackBus
    from robot_wm.messages import Plan
    from robot_wm.motor_loop import MotorLoop
    from robot_wm.timebase import Grid, VirtualClock

    clock, grid = VirtualClock(10**9), Grid(contract.model_hz)
    loop = MotorLoop(contract, LoopbackBus(contract, clock), clock, publish=lambda *_: None)
    loop.tick()
    loop.arm()
    rng = np.random.default_rng(0)
    actions = rng.uniform(contract.action.low, contract.action.high, (64, 3, contract.action.size))
    times, planned = [], -1
    for _ in range(count):
        clock.advance(round(1e9 / contract.motor_hz))
        k = grid.floor(clock.now())
        if k != planned:
            loop.plans.put(Plan(k, grid.stamp(k), grid.step, actions[k % 64], "bench"))
            planned = k
        began = perf_counter_ns()
        loop.tick()
        times.append((perf_counter_ns() - began) / 1e6)
    return times


def _lateness(contract: Contract, seconds: float, realtime: RealtimeOptions | None) -> dict[str, Any] | str:
    """Wake-up lateness of the paced loop in a thread of its own, or why it was not measured."""
    import threading

    from robot_wm.buses.loopback import LoopbackBus
    from robot_wm.motor_loop import MotorLoop
    from robot_wm.realtime import back_to_normal

    stop = threading.Event()
    loop = MotorLoop(contract, LoopbackBus(contract))
    thread = threading.Thread(target=loop.run, args=(stop, realtime), daemon=True)
    thread.start()
    stop.wait(seconds)
    stop.set()
    thread.join()
    if realtime is not None:
        back_to_normal()
        if not loop.realtime.scheduled:
            return f"not measured: {'; '.join(loop.realtime.refused)}"
    figures = loop.stats.figures()
    return {"ticks": figures["ticks"], "ticks_missed": figures["ticks_missed"]} | {
        f"{name}_ms": figures[f"lateness_ms_{name}"] for name in ("p50", "p99", "p999", "max")
    }


def _filter_times(bundle: Any, provider: str, count: int) -> dict[str, Any]:
    """What a measurement on time, one `LATE_S` late and a one-step prediction cost [ms]."""
    from time import perf_counter_ns

    from robot_wm.backend import Model
    from robot_wm.latent_filter import LatentFilter
    from robot_wm.messages import Applied, Measurement

    contract, model = bundle.contract, Model(bundle, provider, threads=1)
    latent_filter = LatentFilter(contract, model)
    grid, kind, late = latent_filter.grid, contract.observations[0], round(LATE_S * contract.model_hz)
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {"correct": [], "correct_late": [], "predict": []}
    for k in range(1, min(count, 2000)):
        latent_filter.applied(
            Applied(grid.stamp(k - 1), rng.uniform(contract.action.low, contract.action.high), "bench")
        )
        arrivals = [("correct", k)] + ([("correct_late", k - late)] if k > late else [])
        for name, instant in arrivals:
            # One nanosecond nearer to its instant than the last one there, so that it counts.
            stamp = grid.stamp(instant) - (1 if name == "correct" else 0)
            began = perf_counter_ns()
            latent_filter.observe(Measurement(kind.name, stamp, rng.normal(size=kind.size)))
            latent_filter.latent()
            times[name].append((perf_counter_ns() - began) / 1e6)
        began = perf_counter_ns()
        latent_filter.predict(grid.stamp(k + 1))
        times["predict"].append((perf_counter_ns() - began) / 1e6)
    result: dict[str, Any] = {
        "late_steps": late,
        "late_ms": 1e3 * LATE_S,
        "provider": model.provider,
        "bundle_id": bundle.bundle_id,
    }
    for name, values in times.items():
        result.update(_quantiles(f"{name}_ms", values[10:]))
    return result


def _quantiles(name: str, times: list[float]) -> dict[str, float]:
    figures = {f"{name}_{key}": float(np.percentile(times, q)) for key, q in (("p50", 50), ("p99", 99), ("p999", 99.9))}
    return {f"{name}_mean": float(np.mean(times)), **figures}
