import gc
import json
import threading

from typer.testing import CliRunner

from robot_wm import bench_tick, realtime


def refuse(*_):
    raise PermissionError(1, "Operation not permitted")


def test_it_prints_one_object_and_says_what_it_could_not_measure(monkeypatch):
    monkeypatch.setattr(realtime, "_schedule", refuse)
    monkeypatch.setattr(realtime, "_lock_memory", refuse)
    app = bench_tick.typer.Typer()
    app.command()(bench_tick.bench_tick)
    result = CliRunner().invoke(app, ["--ticks", "200", "--seconds", "0.2", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.splitlines()[-1])
    assert 0 < figures["tick_ms_p50"] <= figures["tick_ms_p99"] <= figures["tick_ms_p999"]
    assert figures["lateness"]["default"]["ticks"] > 1
    assert figures["lateness"]["realtime"].startswith("not measured: memory lock: Operation not permitted")
    assert figures["filter"] == "not measured: no bundle given"
    assert figures["machine"]["cpu"]


def test_measuring_leaves_the_process_as_it_was(monkeypatch):
    threads = threading.active_count()
    monkeypatch.setattr(realtime, "_schedule", refuse)
    monkeypatch.setattr(realtime, "_lock_memory", refuse)
    bench_tick.measure(None, "cpu", joints=2, motor_hz=100, ticks=100, seconds=0.1)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    assert threading.active_count() == threads
