"""The meter tells when the machine stood still, and nothing of a machine that did not."""

import time

import pytest

from robot_wm.standstill import StandstillMeter


def test_pauses_of_any_core_are_counted_once_and_only_within_the_time_asked_for():
    meter = StandstillMeter()
    meter._poll = lambda: None
    meter._pauses = [(300, 500), (100, 200), (400, 600)]  # two cores
    assert meter.within(0, 1000) == pytest.approx(400e-9)
    assert meter.within(150, 450) == pytest.approx(200e-9)
    assert meter.within(200, 300) == 0.0


def test_the_watcher_watches_and_ends_with_its_context():
    with StandstillMeter() as meter:
        if not meter.permitted:
            pytest.skip("no real-time scheduling here")
        began = time.monotonic_ns()
        end = began + 50_000_000
        while time.monotonic_ns() < end:
            pass
        assert 0.0 <= meter.within(began, time.monotonic_ns()) < 5.0
    assert meter._process.returncode == 0


def test_a_process_that_is_stopped_for_a_while_looks_as_if_its_cores_had_stood_still():
    with StandstillMeter() as meter:
        if not meter.permitted:
            pytest.skip("no real-time scheduling here")
        began = time.monotonic_ns()
        meter._process.send_signal(19)
        time.sleep(0.2)
        meter._process.send_signal(18)
        deadline = time.monotonic() + 10.0
        while not (told := meter.within(began, time.monotonic_ns())) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert told > 0.1
