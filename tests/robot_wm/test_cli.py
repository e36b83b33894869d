"""The program: lazy commands, one-sentence errors with an exit status, figures as JSON or a table."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import Annotated

import pytest
import typer

from robot_wm import cli
from robot_wm.errors import BagError

ME = "test_cli_commands"


def swing(
    seconds: Annotated[float, typer.Option(help="Length of a <task> [s].")] = 10.0,
    json_: Annotated[bool, typer.Option("--json")] = False,
):
    """Swing a pole up.

    Raises:
        BagError: never shown in help.
    """
    cli.emit({"seconds": seconds}, json_, "swing")


def broken():
    """Fail as a user error does."""
    raise BagError("bags/a.mcap: truncated at byte 7; salvage it with: robot-wm bags salvage bags/a.mcap")


def needs_torch():
    """Need an extra."""
    raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")


def bug():
    """Fail as a bug does."""
    raise ZeroDivisionError("bug")


def interrupted():
    """Be interrupted."""
    raise KeyboardInterrupt


def full_disk():
    """Hit the operating system."""
    raise OSError(28, "No space left on device", "runs/x")


bags = typer.Typer(help="Look into bags.")
bags.command("info")(broken)


@pytest.fixture(autouse=True)
def commands(monkeypatch):
    """Entry points that name this module's functions, and one whose module does not exist."""
    module = type(sys)(ME)
    vars(module).update({name: value for name, value in globals().items() if not name.startswith("__")})
    monkeypatch.setitem(sys.modules, ME, module)
    names = ("swing", "broken", "needs_torch", "bug", "interrupted", "full_disk", "bags")
    entries = [EntryPoint(name, f"{ME}:{name}", cli.GROUP) for name in names]
    entries.append(EntryPoint("absent", "no_such_package.commands:run", cli.GROUP))
    entries.append(EntryPoint("plan", f"{ME}:swing", f"{cli.GROUP}.bench"))
    monkeypatch.setattr(cli, "entry_points", lambda: EntryPoints(entries))


def run(capsys, *words):
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    output = capsys.readouterr()
    return exit_.value.code, output.out, output.err


def test_json_figures_are_the_last_line_of_standard_output(capsys):
    code, out, err = run(capsys, "swing", "--seconds", "2", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1]) == {"seconds": 2.0}
    assert err == ""


def test_figures_are_a_table_without_json(capsys):
    code, out, _ = run(capsys, "swing")
    assert code == 0
    assert "seconds" in out
    assert "10" in out


def test_user_error_is_one_sentence_and_exit_1(capsys):
    code, out, err = run(capsys, "broken")
    assert (code, out) == (1, "")
    assert err == "robot-wm: bags/a.mcap: truncated at byte 7; salvage it with: robot-wm bags salvage bags/a.mcap\n"


def test_debug_shows_the_traceback():
    with pytest.raises(BagError):
        cli.main(["--debug", "broken"])


def test_missing_extra_is_named(capsys):
    code, _, err = run(capsys, "needs_torch")
    assert code == 1
    assert "pip install 'robot-wm[train]'" in err


def test_operating_system_error_names_the_file(capsys):
    code, _, err = run(capsys, "full_disk")
    assert (code, err) == (1, "robot-wm: runs/x: No space left on device\n")


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.main(["bug"])


def test_interrupt_exits_130(capsys):
    assert run(capsys, "interrupted")[0] == 130


def test_command_whose_module_is_absent_says_so_and_does_not_break_help(capsys):
    code, _, err = run(capsys, "absent", "--any", "option")
    assert code == 1
    assert "no_such_package" in err
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "Not available" in out


def test_help_lists_every_command_with_one_line(capsys):
    _, out, _ = run(capsys, "--help")
    for text in ("swing", "Swing a pole up.", "Fail as a user error does.", "Look into bags. (info)", "bench"):
        assert text in out


def test_help_of_a_command_shows_units_and_defaults(capsys):
    _, out, _ = run(capsys, "swing", "--help")
    assert "Length of a <task> [s]." in out
    assert "10.0" in out
    assert "Raises" not in out


def test_groups_take_members_from_entry_points(capsys):
    code, out, _ = run(capsys, "bench", "plan", "--json")
    assert code == 0
    assert json.loads(out) == {"seconds": 10.0}
    assert run(capsys, "bags", "info")[0] == 1


def test_only_the_asked_command_is_imported(monkeypatch, capsys):
    loaded = []
    monkeypatch.setattr(cli, "load", lambda entry: loaded.append(entry.name) or swing)
    run(capsys, "swing")
    assert loaded == ["swing"]


def test_unknown_command_and_option_are_wrong_usage(capsys):
    assert run(capsys, "nope")[0] == 2
    assert run(capsys, "swing", "--nope")[0] == 2


def test_version(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("robot-wm 0.")


@pytest.mark.parametrize("heavy", ["torch", "rclpy", "mujoco", "onnxruntime", "matplotlib", "scipy", "rosbags"])
def test_help_of_the_installed_program_imports_nothing_heavy(heavy):
    code = (
        "import sys\nfrom robot_wm import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as e:\n    assert e.code == 0\n"
        f"sys.exit({heavy!r} in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{heavy} is imported\n{result.stderr}"


def test_tab_completes_commands_and_options(monkeypatch, capsys):
    monkeypatch.setenv("_ROBOT_WM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("COMP_WORDS", "robot-wm sw")
    assert run(capsys)[1].split() == ["swing"]
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("COMP_WORDS", "robot-wm swing --se")
    assert run(capsys)[1].split() == ["--seconds"]
