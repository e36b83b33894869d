"""The launch files against the API of `launch` and `launch_ros`, recorded by stand-ins: neither package is on PyPI."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = ("sim", "robot")
ARGUMENTS = {"namespace", "params_file", "bundle", "task", "log_level", "autostart"}

# Keyword arguments of the real classes (Humble and Jazzy) that we may use.
API = {
    "launch": {"LaunchDescription": ()},
    "launch.actions": {
        "DeclareLaunchArgument": ("default_value", "description", "choices"),
        "ExecuteProcess": ("cmd", "name", "cwd", "env", "additional_env", "output", "on_exit", "shell"),
        "Shutdown": ("reason",),
    },
    "launch.conditions": {"IfCondition": ()},
    "launch.substitutions": {"LaunchConfiguration": ("default",), "PathJoinSubstitution": ()},
    "launch_ros": {},
    "launch_ros.actions": {
        "LifecycleNode": (
            *("package", "executable", "name", "namespace", "parameters", "remappings", "arguments", "ros_arguments"),
            *("additional_env", "condition", "respawn", "respawn_delay", "output"),
        )
    },
    "launch_ros.parameter_descriptions": {"ParameterValue": ("value_type",)},
    "launch_ros.substitutions": {"FindPackageShare": ()},
}


class Recorded:
    """Stands for any action or substitution: keeps what it was made with, refuses what the real class would refuse."""

    allowed: tuple[str, ...] = ()

    def __init__(self, *given, **options):
        unknown = set(options) - set(self.allowed)
        assert not unknown, f"{type(self).__name__} takes no {unknown}"
        self.given, self.options = given, options


@pytest.fixture
def load(monkeypatch):
    """Import a launch file as `ros2 launch` does and return the entities of its description."""
    for module, classes in API.items():
        stand_in = types.ModuleType(module)
        for name, allowed in classes.items():
            setattr(stand_in, name, type(name, (Recorded,), {"allowed": allowed}))
        monkeypatch.setitem(sys.modules, module, stand_in)

    def run(name):
        spec = importlib.util.spec_from_file_location(f"{name}_launch", ROOT / "launch" / f"{name}.launch.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (entities,) = module.generate_launch_description().given
        return entities

    return run


def of(entities, kind):
    return [entity for entity in entities if type(entity).__name__ == kind]


@pytest.mark.parametrize("name", FILES)
def test_it_declares_the_documented_arguments_each_with_a_description(load, name):
    declared = of(load(name), "DeclareLaunchArgument")
    assert {argument.given[0] for argument in declared} >= ARGUMENTS
    assert all(argument.options["description"].endswith(".") for argument in declared)


@pytest.mark.parametrize("name", FILES)
def test_it_uses_only_arguments_that_it_declares(load, name):
    entities = load(name)
    declared = {argument.given[0] for argument in of(entities, "DeclareLaunchArgument")}
    assert set(used(entities)) <= declared


def used(value):
    """Names of every LaunchConfiguration inside."""
    if isinstance(value, Recorded):
        if type(value).__name__ == "LaunchConfiguration":
            yield value.given[0]
        yield from used([*value.given, *value.options.values()])
    elif isinstance(value, dict):
        yield from used(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from used(item)


@pytest.mark.parametrize("name", FILES)
def test_every_node_is_an_executable_of_the_package_and_takes_the_params_file(load, name):
    scripts = (ROOT / "setup.py").read_text()
    nodes = of(load(name), "LifecycleNode")
    assert len(nodes) >= 5
    for node in nodes:
        assert node.options["package"] == "robot_wm"
        assert node.options["executable"] == node.options["name"]
        assert f'"{node.options["executable"]}"' in scripts
        assert (ROOT / "ros_nodes" / f"{node.options['executable']}.py").is_file()
        assert next(iter(used(node.options["parameters"]))) == "params_file"
        assert node.options["additional_env"]["FASTDDS_BUILTIN_TRANSPORTS"] == "UDPv4"


def test_the_simulated_plant_is_a_process_of_its_own_that_ends_the_launch_when_it_ends(load):
    (plant,) = of(load("sim"), "ExecuteProcess")
    assert plant.options["cmd"][1:3] == ["-m", "sim.plant"]
    assert type(plant.options["on_exit"]).__name__ == "Shutdown"


@pytest.mark.parametrize("name", FILES)
def test_the_example_params_are_declared_by_their_nodes(name):
    pytest.importorskip("rclpy", reason="needs ROS 2 (the extra `ros`, or a ROS install)")
    data = yaml.safe_load((ROOT / "ros_nodes" / "params" / f"{name}.yaml").read_text())
    base = (ROOT / "ros_nodes" / "base.py").read_text()
    for key, table in data.items():
        source = (ROOT / "ros_nodes" / f"{key.rpartition('/')[2]}.py").read_text() + base
        for parameter in table["ros__parameters"]:
            assert f'"{parameter}"' in source, f"{key}: {parameter}"
