import json
from pathlib import Path

import pytest

from robot_wm.machine import describe_machine, resident_mb


def test_it_names_what_a_figure_depends_on():
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0
    assert "numpy" in machine["versions"]
    json.dumps(machine)


def test_the_memory_of_this_process_is_what_the_kernel_says_elsewhere():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    assert resident_mb() == pytest.approx(int(line.split()[1]) * 1.024e-3, rel=0.05)
