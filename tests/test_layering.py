"""Arrows point inward: launch → ros_nodes → robot_wm ← models, sim, calibration. In sim, flywheel and ablation may use models."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("robot_wm", "models", "sim", "calibration", "ros_nodes")
MAY_IMPORT = {"robot_wm": set(), **{name: {"robot_wm"} for name in PACKAGES[1:]}}
EXCEPTIONS = {"sim.flywheel": {"models", "torch"}, "sim.ablation": {"models"}}
FORBIDDEN = {  # third-party modules that a package must never import, not even inside a function
    "robot_wm": {"torch", "rclpy", "mujoco", "dm_control", "onnx", "onnxscript"},
    "models": {"rclpy", "mujoco", "dm_control"},
    "sim": {"rclpy", "torch"},
    "calibration": {"rclpy", "torch", "mujoco"},
    "ros_nodes": {"torch", "mujoco", "dm_control"},
}

OPTIONAL = {"matplotlib", "scipy", "tensorboard", "imageio", "serial"}  # robot_wm takes these up only when asked for


def modules():
    """Every module of the project: dotted name → its file."""
    found = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = file
    return found


def imported(tree, name, is_package, top_level_only=False):
    """Dotted names that a module imports; `from a import b` yields both a and a.b."""
    for node in _runtime_nodes(tree) if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                parent = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parent, base] if base else parent)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _runtime_nodes(tree):
    """Statements that run when the module is imported: no function bodies, nothing under TYPE_CHECKING."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting.extend(node.orelse)
            continue
        yield node
        waiting.extend(ast.iter_child_nodes(node))


def parse(file):
    return ast.parse(file.read_text(), str(file))


@pytest.mark.parametrize("name", modules())
def test_module_imports_only_what_its_package_may(name):
    file = modules()[name]
    package = name.partition(".")[0]
    allowed = {package} | MAY_IMPORT[package] | EXCEPTIONS.get(name, set())
    roots = {target.partition(".")[0] for target in imported(parse(file), name, file.name == "__init__.py")}
    assert not roots & set(PACKAGES) - allowed, f"{file}: this arrow is not in the design"
    assert not roots & FORBIDDEN[package] - allowed, f"{file}: {package} must run without these"
    assert not roots & {"tests", "launch", "launch_ros"}, f"{file}: nothing imports launch files or tests"


# Asking for a bus is asking for its vendor's library.
RUNTIME = [name for name in modules() if name.startswith("robot_wm") and not name.startswith("robot_wm.buses.")]


@pytest.mark.parametrize("name", RUNTIME)
def test_runtime_imports_nothing_optional_before_it_is_asked_for(name):
    file = modules()[name]
    roots = {t.partition(".")[0] for t in imported(parse(file), name, file.name == "__init__.py", top_level_only=True)}
    assert not roots & OPTIONAL, f"{file}: import it inside the function that needs it"


def test_modules_do_not_import_each_other_in_a_circle():
    found = modules()
    graph = {}
    for name, file in found.items():
        targets = set(imported(parse(file), name, file.name == "__init__.py", top_level_only=True))
        graph[name] = sorted(target for target in targets if target in found and target != name)
    circle = find_circle(graph)
    assert not circle, " → ".join(circle)


def find_circle(graph):
    """The first circle of a directed graph as a path that ends where it starts, or []."""
    done = set()

    def visit(node, path):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in graph[node]:
            if circle := visit(target, [*path, node]):
                return circle
        done.add(node)
        return []

    return next((circle for node in graph if (circle := visit(node, []))), [])


def test_find_circle_sees_a_circle_and_only_a_circle():
    assert find_circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []
    assert find_circle({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]


def test_relative_and_local_imports_are_seen():
    tree = ast.parse("from . import x\nfrom ..b import y\ndef f():\n    import torch")
    assert set(imported(tree, "p.q.m", is_package=False)) == {"p.q", "p.q.x", "p.b", "p.b.y", "torch"}
    assert "torch" not in set(imported(tree, "p.q.m", is_package=False, top_level_only=True))


def test_launch_folder_is_no_package():
    assert not (ROOT / "launch" / "__init__.py").exists(), "it would shadow ROS's own launch package"


def test_tests_import_freely_but_are_no_packages():
    assert not list((ROOT / "tests").rglob("__init__.py"))
