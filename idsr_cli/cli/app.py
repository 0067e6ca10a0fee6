"""The `idsr` command: the table of commands, each imported when it is run, and the exit codes of errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from idsr_cli.cli.console import console
from idsr_cli.cli.help import improve_message, make_readable
from idsr_cli.errors import IdsrError, UsageError
from idsr_cli.files.stores import is_url, without_secret


@dataclass(frozen=True)
class Entry:
    """A command in the table.

    Attributes:
        module: has a `typer.Typer` named `app`; imported when the command is run or its help is shown.
        summary: for `idsr --help`.
        panel: its heading there.
        urls: inputs and outputs may be URLs of a store.
    """

    module: str
    summary: str
    panel: str
    urls: bool = False


COMMANDS = {
    "derain": Entry("idsr_cli.cli.derain", "Remove rain from photographs.", "Photographs", urls=True),
    "sift": Entry("idsr_cli.cli.sift", "Extract SIFT keypoints as if it were not raining.", "Photographs", urls=True),
    "match": Entry("idsr_cli.cli.match", "Match two photographs and verify their geometry.", "Photographs"),
    "convert": Entry("idsr_cli.cli.convert", "Write keypoint files in other formats.", "Photographs"),
    "merge": Entry("idsr_cli.cli.merge", "Join the files that shards wrote.", "Photographs"),
    "rain": Entry("idsr_cli.cli.rain", "Add synthetic rain to clean photographs.", "Photographs", urls=True),
    "evaluate": Entry("idsr_cli.cli.evaluate", "Score derained photographs against their clean versions.", "Networks"),
    "train": Entry("idsr_cli.cli.train", "Train the networks, or fine-tune them on your own rain.", "Networks"),
    "models": Entry("idsr_cli.cli.models", "List, describe, verify and convert weights.", "Networks"),
}


class Commands(TyperGroup):
    """Lists the commands without importing them; imports the one that is run."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command in the table, and import it."""
        name, _, rest = super().resolve_command(ctx, args)
        if name is None:
            return name, None, rest
        command = typer.main.get_command(import_module(COMMANDS[name].module).app)
        command.name = name
        make_readable(command, ctx)
        _check_urls(name, rest)
        return name, command, rest

    def get_params(self, ctx: Any) -> Any:
        """The options before the command, for `--help`."""
        params = super().get_params(ctx)
        for param in params:
            param.metavar = ""  # all of them are switches
        return params

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an expected error becomes one line and its exit code."""
        try:
            if not ctx.params.get("version"):
                _check_working_folder()
            return super().invoke(ctx)
        except typer.BadParameter as error:
            improve_message(error)
            raise
        except IdsrError as error:
            console.error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            console.note("interrupted")
            raise typer.Exit(130) from None


def _check_working_folder() -> None:
    """Refuse to work where the working directory is gone: every relative path would be reported as missing.

    Raises:
        UsageError: it is gone.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UsageError(
            "the working directory is gone: deleted, or unmounted", hint="`cd` to a folder that is there"
        ) from None


# Options of the commands that take URLs, for files that are written bit by bit, looked up one by one or read by others.
LOCAL_OPTIONS = ("--report", "--failures", "--unchanged", "--draw", "--mask", "--weights", "--streaks")


def _check_urls(command: str, arguments: Sequence[str]) -> None:
    """Refuse URLs of stores where only files of this machine are taken: as a path, `s3://b` would be a folder `s3:`.

    Raises:
        UsageError: there is one.
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if not (option.startswith("--") and equals):
            option, value = before, argument
        if not is_url(value):
            continue
        if not COMMANDS[command].urls:
            takes = ", ".join(name for name, entry in COMMANDS.items() if entry.urls)
            raise UsageError(f"`idsr {command}` takes no URLs", path=without_secret(value), hint=f"{takes} do; {_COPY}")
        if option in LOCAL_OPTIONS:
            raise UsageError(f"`{option}` takes a local path, not a URL", path=without_secret(value), hint=_COPY)


_COPY = "copy files here, or from here, by the store's own tool"


HELP = """Get SIFT features back from photographs taken in the rain.

Examples:
  idsr derain photos -o derained                  photographs without rain
  idsr sift photos -o keypoints --format colmap   keypoints as on a dry day
  idsr match a.jpg b.jpg -o picture.png           do they show the same place?

`idsr COMMAND --help` tells more.
"""

app = typer.Typer(
    cls=Commands,
    name="idsr",
    help=HELP,
    epilog="Exit codes: 0 all done or skipped, 1 some items failed, 2 nothing could run, 130 interrupted.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _main(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --version: libraries, device and weights as well.")
    ] = False,
) -> None:
    """Options before the command."""
    if version:
        from idsr_cli.cli.version import detailed, short

        typer.echo("\n".join(detailed()) if verbose else short())
        raise typer.Exit
    if verbose:
        raise UsageError("`-v` goes after the command, or with `--version`", hint="idsr derain -v ...")
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)
