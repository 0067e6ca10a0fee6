"""Help and version: instant, complete, and without heavy imports."""

import subprocess
import sys
from importlib import import_module

import pytest
import typer

from idsr_cli import __version__
from idsr_cli.cli.app import COMMANDS
from idsr_cli.formats import FORMATS

HEAVY = ("torch", "cv2", "numpy", "PIL", "safetensors", "matplotlib")
SCRIPT = """
import sys
from idsr_cli.__main__ import main
sys.argv = ["idsr", *sys.argv[1:]]
try:
    main()
except SystemExit as exit:
    code = exit.code
print("HEAVY", [name for name in {heavy} if name in sys.modules], code, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["--version"],
        ["derain", "--help"],
        ["sift", "--help"],
        ["match", "--help"],
        ["models", "--help"],
        ["nonsense"],
    ],
)
def test_nothing_heavy_is_imported(args: list[str]) -> None:
    script = SCRIPT.format(heavy=HEAVY)
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, *args], capture_output=True, text=True)
    code = 2 if args == ["nonsense"] else 0
    assert done.stderr.splitlines()[-1] == f"HEAVY [] {code}"


def test_version(run) -> None:
    assert run("--version").stdout == f"idsr {__version__}\n"


def test_help_lists_the_table_and_a_command_shows_examples_first(run) -> None:
    text = run("--help").stdout
    for name, entry in COMMANDS.items():
        assert name in text
        assert entry.summary.split()[0] in text
    for name in ("derain", "sift", "match"):
        text = run(name, "--help").stdout
        assert 0 < text.index("Examples:") < text.index("--output") < text.index("--device") < text.index("--json")


def test_examples_fit_into_80_columns(run, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("derain", "sift", "match"):
        lines = [line.strip() for line in run(name, "--help").stdout.splitlines()]
        first = lines.index("Examples:") + 1
        examples = lines[first : lines.index("", first)]
        assert len(examples) >= 3
        assert all("idsr " in example for example in examples)  # none is wrapped


def test_no_arguments_show_help_and_exit_2(run) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Usage: idsr" in result.stdout + result.stderr


def test_a_typing_error_is_corrected(run) -> None:
    result = run("derian", "x")
    assert result.exit_code == 2
    assert "derain" in result.stderr


@pytest.mark.parametrize("entry", COMMANDS.values(), ids=COMMANDS)
def test_each_line_of_the_table_leads_to_a_command(entry) -> None:
    assert isinstance(import_module(entry.module).app, typer.Typer)


def test_format_choices_are_the_formats(run) -> None:
    assert f"<{'|'.join(FORMATS)}>" in run("sift", "--help").stdout


def test_python_dash_m() -> None:
    done = subprocess.run([sys.executable, "-m", "idsr_cli", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"idsr {__version__}\n", "")
