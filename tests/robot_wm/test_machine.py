import json
import os

from robot_wm.machine import describe_machine, resident_mb


def test_it_names_what_a_figure_depends_on():
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0
    assert "numpy" in machine["versions"]
    json.dumps(machine)


def test_the_memory_of_this_process_grows_with_what_it_holds():
    before = resident_mb()
    held = bytearray(os.urandom(1 << 20) * 64)
    assert resident_mb() - before > 50, len(held)
