import json

from robot_wm.machine import describe_machine


def test_it_names_what_a_figure_depends_on():
    machine = describe_machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["memory_gib"] > 0
    assert "numpy" in machine["versions"]
    json.dumps(machine)
