import gc
import os
import threading

import pytest

from robot_wm import realtime
from robot_wm.realtime import RealtimeOptions, RealtimeReport, go_realtime


@pytest.fixture(autouse=True)
def _restore_gc():
    yield
    gc.unfreeze()
    gc.enable()


def in_a_thread(options):
    """Scheduling belongs to a thread, so that the suite's own thread keeps its own."""
    reports = []
    thread = threading.Thread(target=lambda: reports.append(go_realtime(options)))
    thread.start()
    thread.join()
    return reports[0]


def test_nothing_asked_for_is_nothing_granted_and_nothing_refused():
    report = go_realtime(RealtimeOptions(priority=0, lock_memory=False, freeze_gc=False))
    assert report == RealtimeReport()
    assert report.summary() == "not real-time"


def test_what_the_system_refuses_is_reported_and_the_rest_is_still_done(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(realtime, "_lock_memory", refuse)
    report = in_a_thread(RealtimeOptions(priority=50, cpu=min(os.sched_getaffinity(0))))
    assert not report.scheduled
    assert not report.memory_locked
    assert report.pinned
    assert report.gc_frozen
    assert report.refused == (
        "memory lock: Operation not permitted",
        "SCHED_FIFO 50: Operation not permitted",
    )
    assert report.summary().startswith("pinned, gc frozen; refused: memory lock")


def test_a_core_that_does_not_exist_is_refused():
    report = in_a_thread(RealtimeOptions(priority=0, cpu=4095, lock_memory=False, freeze_gc=False))
    assert not report.pinned
    assert "core 4095" in report.refused[0]


def test_the_collector_is_frozen_and_off():
    go_realtime(RealtimeOptions(priority=0, lock_memory=False))
    assert not gc.isenabled()
    assert gc.get_freeze_count() > 0
