"""Help and version: instant, complete, and without heavy imports."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if not entry.urls and name != "models"])
def test_commands_that_take_no_urls_offer_none(run, name) -> None:
    assert "URL" not in run(name, "--help").stdout


def test_version(run) -> None:
    assert run("--version").stdout == f"idsr {__version__}\n"


def test_version_in_detail(run) -> None:
    lines = run("--version", "-v").stdout.splitlines()
    assert lines[0] == f"idsr {__version__}"
    assert [line.split()[0] for line in lines[1:7]] == [
        "python", "torch", "device", "weights", "opencv-contrib-python", "numpy",
    ]  # fmt: skip
    assert run("-v").exit_code == 2
    misplaced = run("-v", "derain", "x", "-o", "y")
    assert (misplaced.exit_code, len(misplaced.stderr.splitlines())) == (2, 1)


def test_help_lists_the_table(run) -> None:
    text = run("--help").stdout
    for name, entry in COMMANDS.items():
        assert name in text
        assert entry.summary.split()[0] in text


def every_command() -> Iterator[list[str]]:
    """Each command and each below it, as typed."""
    for name, entry in COMMANDS.items():
        yield [name]
        for below in getattr(typer.main.get_command(import_module(entry.module).app), "commands", {}):
            yield [name, below]


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_every_command_shows_examples_first_and_says_what_to_type(run, command, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run(*command, "--help").stdout
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text  # nothing is cut off
    head = text[: text.index("╭")]
    assert re.search(rf"Examples?: *\n +idsr {' '.join(command)}\b", head)
    assert not re.search(r"\n *\n *\n *\S", head)  # no gaps
    # No types of Python's, no ranges in symbols.
    assert not re.search(r"<(bool|int|float|str|list|path|file)|\bx[<>]=|<=x", text, re.IGNORECASE)
    for line in lines:
        if re.match(r"│ (\*  |   )?--", line):
            words = re.sub(r"\[default.*", "", line).split("  ")
            assert len([word for word in words if word.strip(" │*")]) >= 2, line


def test_numbers_show_their_range(run) -> None:
    kinds = set()
    for command in COMMANDS:
        lines = run(command, "--help").stdout.splitlines()
        for param in options_of(command):
            low, high, own = param.min, param.max, param.metavar
            if low is None and high is None:
                continue
            (line,) = [
                line for line in lines if re.match(rf"│ (\*  |   )?{re.escape(max(param.opts, key=len))} ", line)
            ]
            letter = "N" if param.type_descriptor.ranged_type_name == "int" else "X"
            if low is not None and high is not None:
                shown = f"{low:g}..{high:g}"
            elif high is not None:
                shown = f"{own or letter} <= {high:g}"
            elif own and not low:  # that it is not below 0 goes without saying
                shown = own
            else:
                shown = f"{own or letter} >= {low:g}"
            assert f" {shown} " in line, line
            kinds.add((low is None, high is None, own is None))
    assert len(kinds) > 2


def test_jobs_and_verbose_are_described_for_their_own_command(run) -> None:
    """Not in words copied from another one."""
    described = {}
    for command in COMMANDS:
        found = typer.main.get_command(import_module(COMMANDS[command].module).app)
        described[command] = {param.name: param.help for param in getattr(found, "params", [])}
    assert [command for command in COMMANDS if "SIFT" in described[command].get("jobs", "")] == ["sift"]
    assert "networks" not in described["rain"]["jobs"]
    lines = [command for command in COMMANDS if "A line per photograph" in described[command].get("verbose", "")]
    assert not {"match", "evaluate", "train"} & set(lines)
    assert "A line per pair" in described["evaluate"]["verbose"]


def options_of(command: str) -> list[Any]:
    """As Typer has them, before they are made readable."""
    found = typer.main.get_command(import_module(COMMANDS[command].module).app)
    return [param for param in getattr(found, "params", []) if param.param_type_name == "option" and not param.count]


def test_ranges_hold(run, halving, photos, tmp_path) -> None:
    """The words of --help are made from them, and must not do away with them."""
    for number in ("65", "-1", "many"):
        result = run("derain", photos, "-o", tmp_path / "out", "--jobs", number)
        assert result.exit_code == 2
        assert "--jobs" in result.stderr
    assert run("derain", photos, "-o", tmp_path / "out", "--jobs", "64").exit_code == 0


def test_examples_fit_into_80_columns(run, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("derain", "sift", "convert", "match", "rain"):
        lines = [line.strip() for line in run(name, "--help").stdout.splitlines()]
        first = lines.index("Examples:") + 1
        examples = lines[first : lines.index("", first)]
        assert len(examples) >= 3
        assert all("idsr " in example for example in examples)  # none is wrapped


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("idsr ", set(COMMANDS)),
        ("idsr der", {"derain"}),
        ("idsr models v", {"verify"}),
        ("idsr sift --format ", set(FORMATS)),
        ("idsr derain --existing o", {"overwrite"}),
        ("idsr derain --no-rec", {"--no-recursive"}),
        ("idsr derain --device c", {"cpu", "cuda"}),
        ("idsr sift --weights ba", {"base"}),
    ],
)
def test_completion_without_heavy_imports(line, completed) -> None:
    words = line.split(" ")
    environment = {
        **os.environ, "_IDSR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(heavy=HEAVY)], capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "HEAVY [] 0"
    assert set(done.stdout.split()) == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell) -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(heavy=HEAVY), "--show-completion", shell], capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "HEAVY [] 0"
    assert f"complete_{shell}" in done.stdout


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
    words = " ".join(run("sift", "--help").stdout.replace("│", " ").split())
    assert f"[{', '.join(FORMATS)}]" in words


def test_python_dash_m() -> None:
    done = subprocess.run([sys.executable, "-m", "idsr_cli", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"idsr {__version__}\n", "")


def test_the_page_about_batches_names_options_that_exist(run) -> None:
    text = (Path(__file__).resolve().parent.parent.parent / "docs" / "batch.md").read_text(encoding="utf-8")
    shown = run("derain", "--help").stdout
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert len(named) > 10
    assert all(re.search(rf"{option}\b", shown) for option in named), named
