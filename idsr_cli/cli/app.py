"""The `idsr` command: a table of commands, each loaded when it is asked for, and the way from errors to exit codes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from idsr_cli import __version__
from idsr_cli.cli.console import console
from idsr_cli.errors import IdsrError


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        module: has a `typer.Typer` named `app`; imported when the command is run or its help is asked for.
        summary: for `idsr --help`.
        panel: heading it stands under there.
    """

    module: str
    summary: str
    panel: str


COMMANDS = {
    "derain": Entry("idsr_cli.cli.derain", "Remove rain from photographs.", "Photographs"),
    "sift": Entry("idsr_cli.cli.sift", "Extract SIFT keypoints as if it were not raining.", "Photographs"),
    "match": Entry("idsr_cli.cli.match", "Match two photographs and verify their geometry.", "Photographs"),
    "rain": Entry("idsr_cli.cli.rain", "Rain on clean photographs, for tests and training.", "Photographs"),
    "evaluate": Entry("idsr_cli.cli.evaluate", "Score derained photographs against their clean versions.", "Networks"),
    "train": Entry("idsr_cli.cli.train", "Train the networks, or fine-tune them on your own rain.", "Networks"),
    "models": Entry("idsr_cli.cli.models", "List, describe, verify and convert weights.", "Networks"),
}


class Commands(TyperGroup):
    """Lists the table without importing anything; imports the one command that is run."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, then replace its line in the table by the real thing."""
        name, _, rest = super().resolve_command(ctx, args)
        if name is None:
            return name, None, rest
        command = typer.main.get_command(import_module(COMMANDS[name].module).app)
        command.name = name
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; an expected error becomes one line and its exit code."""
        try:
            return super().invoke(ctx)
        except IdsrError as error:
            console.error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            console.note("interrupted")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    name="idsr",
    help=(
        "Get SIFT features back from photographs taken in the rain.\n\n"
        "Try:  idsr derain photos -o derained  or  idsr sift photos -o keypoints --format colmap"
    ),
    epilog="Exit codes: 0 all done or skipped, 1 some items failed, 2 nothing could run, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"idsr {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""
