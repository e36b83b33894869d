"""The program `robot-wm`: commands come from entry points, so the runtime never imports the trainer or the simulator.

Group `robot_wm.commands`: `name = "package.commands:function"` or a `typer.Typer` application. Group
`robot_wm.commands.<name>` adds commands to the sub-command `<name>` (`robot-wm bench plan`).
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from robot_wm import __version__
from robot_wm.errors import RobotWmError, RunError
from robot_wm.plain import plain

if TYPE_CHECKING:
    from rich.progress import Progress

GROUP = "robot_wm.commands"
SUMMARY = "A latent world model and MPPI planner on a real robot, in real time."
GROUP_HELP = {"bench": "Measure this machine: p50, p99 and rates."}
SECTIONS = ("Args:", "Raises:", "Returns:", "Source:")  # of a docstring; not shown as help

# Import name → the extra that brings it.
EXTRA_OF = {
    "torch": "train",
    "onnx": "train",
    "onnxscript": "train",
    "tensorboard": "train",
    "matplotlib": "report",
    "mujoco": "sim",
    "dm_control": "sim",
    "imageio": "sim",
    "rclpy": "ros",
    "sensor_msgs": "ros",
    "trajectory_msgs": "ros",
    "diagnostic_msgs": "ros",
    "lifecycle_msgs": "ros",
    "std_srvs": "ros",
    "serial": "serial",
    "cobs": "serial",
    "fastcrc": "serial",
    "cv2": "calibration",
    "scipy": "calibration",
    "onnxruntime": "cpu",
}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit: 0 done, 1 with one sentence on standard error, 2 wrong usage, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in takewhile(lambda word: word.startswith("-"), words)
    try:
        command = typer.main.get_command(build(words))
        _verbatim(command)
        command(words, prog_name="robot-wm")
    except (RobotWmError, ModuleNotFoundError, OSError) as error:
        if debug:
            raise
        print(f"robot-wm: {sentence(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def build(words: Sequence[str]) -> typer.Typer:
    """The application for this command line: imports only the command that `words` name, or all of them for help."""
    found = entry_points()
    commands = {entry.name: entry for entry in found.select(group=GROUP)}
    members = {
        group.removeprefix(f"{GROUP}."): {entry.name: entry for entry in found.select(group=group)}
        for group in getattr(found, "groups", ())
        if group.startswith(f"{GROUP}.")
    }
    names = sorted({*commands, *members})
    asked = next((word for word in words if not word.startswith("-")), None)
    if asked in names and "_ROBOT_WM_COMPLETE" not in os.environ:
        names = [asked]
    app = typer.Typer(help=SUMMARY, no_args_is_help=True, rich_markup_mode="rich")
    app.callback(help=SUMMARY)(_root)
    for name in names:
        target = load(commands[name]) if name in commands else _empty_group(name)
        if isinstance(target, typer.Typer):
            _add_members(target, members.get(name, {}))
            app.add_typer(target, name=name, short_help=_group_help(name, target, members.get(name, {})))
        else:
            _add(app, name, target)
    return app


def load(entry: EntryPoint) -> Any:
    """The command behind an entry point, or one that says clearly why there is none."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        reason = sentence(error)

        def unavailable() -> None:
            raise RunError(reason)

        unavailable.__doc__ = f"Not available: {reason}"
        return unavailable


def sentence(error: Exception) -> str:
    """What to tell the user about `error`."""
    if isinstance(error, ModuleNotFoundError):
        return missing_extra(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def missing_extra(error: ModuleNotFoundError) -> str:
    """One sentence that names what to install."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRA_OF.get(module)
    if extra is None:
        return f"the Python module {error.name} is missing; install robot-wm again, or report this as a bug"
    if extra == "ros":
        return f"{module} is missing; on a robot source ROS's setup.bash, elsewhere: pip install 'robot-wm[ros]'"
    return f"{module} is not installed; install it with: pip install 'robot-wm[{extra}]'"


def emit(figures: Mapping[str, Any], json_: bool, title: str = "") -> None:
    """Print a command's figures: one line of JSON as the last thing on standard output, or a table.

    Non-finite numbers become null in JSON; numpy scalars and arrays, paths and tuples become plain data.
    """
    if json_:
        sys.stdout.flush()
        print(json.dumps(plain(figures), allow_nan=False), flush=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, show_header=False)
    table.add_column(style="cyan")
    table.add_column(overflow="fold")
    for key, value in _flat("", figures):
        table.add_row(key, value)
    Console().print(table)


def progress() -> Progress:
    """A progress bar on standard error, silent where that is no terminal. Use it as a context manager."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*Progress.get_default_columns(), console=console, transient=True, disable=not console.is_terminal)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"robot-wm {__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options before the command; `--debug` is read by `main`."""


def _verbatim(command: Any) -> None:
    """Keep units such as [s] in help: they are no markup."""
    from rich.markup import escape

    for item in (command, *command.params):
        for name in ("help", "short_help"):
            text = getattr(item, name, None)
            if text:
                setattr(item, name, escape(text))
    for member in getattr(command, "commands", {}).values():
        _verbatim(member)


def _empty_group(name: str) -> typer.Typer:
    return typer.Typer(help=GROUP_HELP.get(name), no_args_is_help=True)


def _add_members(app: typer.Typer, entries: Mapping[str, EntryPoint]) -> None:
    if app.registered_callback is None:
        app.callback()(lambda: None)  # keeps a group of one command a group
    for command in app.registered_commands:
        command.help = command.help or _help(command.callback)
    for name in sorted(entries):
        _add(app, name, load(entries[name]))


def _add(app: typer.Typer, name: str, function: Callable[..., Any]) -> None:
    unavailable = function.__name__ == "unavailable"
    settings = {"allow_extra_args": True, "ignore_unknown_options": True} if unavailable else None
    text = _help(function)
    short = text.partition("\n")[0]
    app.command(name, help=text, short_help=short, context_settings=settings)(function)


def _help(function: Callable[..., Any] | None) -> str:
    text = inspect.getdoc(function) or ""
    for section in SECTIONS:
        text = text.partition(f"\n\n{section}")[0]
    return text


def _group_help(name: str, app: typer.Typer, entries: Mapping[str, EntryPoint]) -> str:
    own = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    given = app.info.help
    listing = ", ".join(dict.fromkeys([*own, *sorted(entries)]))
    return f"{given.partition(chr(10))[0]} ({listing})" if isinstance(given, str) else listing


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(value, float):
        yield prefix, f"{value:.6g}"
    else:
        value = plain(value)
        yield prefix, value if isinstance(value, str) else json.dumps(value)
