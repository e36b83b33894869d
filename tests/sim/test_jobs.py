"""Work side by side: results in the order of the items, each reported as it is done, the first error raised."""

import math
import subprocess
import sys
import time

import pytest

from sim.jobs import side_by_side


def test_results_come_in_the_order_of_the_items_and_each_is_reported_once():
    seen = []
    assert side_by_side(math.sqrt, [16.0, 4.0, 9.0, 4.0], 2, seen.append) == [4.0, 2.0, 3.0, 2.0]
    assert sorted(seen) == [2.0, 2.0, 3.0, 4.0]


def test_the_first_error_is_raised_here():
    with pytest.raises(ValueError, match="math domain error|expected a nonnegative"):
        side_by_side(math.sqrt, [-1.0, 4.0], 1)


PARENT = """
import os, time
from sim.jobs import side_by_side
def work(seconds):
    print(os.getpid(), flush=True)
    time.sleep(seconds)
if __name__ == "__main__":
    side_by_side(work, [600.0], 1)
"""


def test_workers_do_not_outlive_the_process_that_waits_for_them(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60.0
    while alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid):
    """Whether a process runs; what has ended but was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
