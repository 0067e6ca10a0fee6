"""Dataclasses in a command's signature become its options."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from idsr_cli.cli.grouped import grouped


@dataclass(frozen=True)
class Size:
    width: Annotated[int, typer.Option(min=1)]
    height: Annotated[int, typer.Option(min=1)] = 2


@dataclass(frozen=True)
class Words:
    names: Annotated[list[str] | None, typer.Argument()] = None
    loud: Annotated[bool, typer.Option("--loud/--quiet")] = False


heard: list[tuple[object, ...]] = []
app = typer.Typer()


@app.command()
@grouped
def command(*, words: Words, depth: Annotated[float, typer.Option()] = 0.5, size: Size) -> None:
    """Say what was asked for."""
    heard.append((words, depth, size))


def test_fields_stand_where_their_group_stands() -> None:
    assert list(inspect.signature(command).parameters) == ["names", "loud", "depth", "width", "height"]
    assert command.__doc__ == "Say what was asked for."


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--width", "3"], (Words(), 0.5, Size(3, 2))),
        (
            ["a", "b", "--loud", "--depth", "2", "--width", "3", "--height", "4"],
            (Words(["a", "b"], True), 2, Size(3, 4)),
        ),
    ],
)
def test_the_command_gets_the_groups(arguments, expected) -> None:
    heard.clear()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    ((words, depth, size),) = heard
    assert (words.names or None, words.loud, depth, size) == (expected[0].names, expected[0].loud, *expected[1:])


def test_fields_without_default_are_required_and_ranges_hold() -> None:
    assert CliRunner().invoke(app, []).exit_code == 2
    assert CliRunner().invoke(app, ["--width", "0"]).exit_code == 2


def test_none_as_default_hides_no_annotation() -> None:
    """Python 3.10 would wrap it in an Optional, and an argument would become an option."""
    kind = Annotated[str | None, typer.Argument()]

    @grouped
    def show(*, spec: kind = None, words: Words = Words()) -> None:
        heard.append((spec, words))

    assert inspect.signature(show).parameters["spec"].annotation == kind
