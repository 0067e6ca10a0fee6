"""How `--help` shows options: by what to type (`N`, `1..100`, `png|jpg`), not by Python types as Typer does.

And what is said about a value that an option does not take.
"""

from __future__ import annotations

from typing import Any

import typer

from idsr_cli.cli.options import REPORT
from idsr_cli.errors import nearest

# A longer list of choices would leave no room for the help text in 80 columns.
_WIDEST_CHOICE = 22


def make_readable(command: Any, ctx: Any) -> None:
    """Change a command and its subcommands in place.

    Args:
        command: a Typer command or group.
        ctx: the context it runs in, or that of its parent.
    """
    # Plain-text help needs the \\b that keeps lines apart; rich keeps them anyway and shows it as an empty line.
    command.help = (command.help or "").replace("\b\n", "")
    params = command.get_params(ctx)
    for param in params:
        if param.param_type_name == "option":
            _make_option_readable(param)
        else:
            param.display_type_rich = lambda ctx: ""  # its name is enough
    if any(getattr(param, "rich_help_panel", None) == REPORT for param in params):
        command.get_help_option(ctx).rich_help_panel = REPORT  # instead of a panel of its own
    for below in getattr(command, "commands", {}).values():
        make_readable(below, ctx)


def improve_message(error: typer.BadParameter) -> None:
    """Replace the message about an option's value, in place.

    Typer shows pydantic's words, which are for programmers ("Value error, ..."), and names all choices but not the
    nearest one.
    """
    from pydantic import ValidationError

    if not isinstance(error.__cause__, ValidationError):
        return
    wrong = error.__cause__.errors()[0]
    typed, limits = str(wrong["input"]), wrong.get("ctx", {})
    said = error.message.removeprefix("Value error, ")  # with control characters escaped
    choices = [str(choice) for choice in getattr(getattr(error.param, "type_descriptor", None), "choices", None) or ()]
    for choice in choices:
        said = said.replace(f"'{choice.casefold()}'", f"'{choice}'")  # as the help writes it
    if alike := nearest(typed, choices):
        said = f"{said} Did you mean '{alike}'?"
    elif "le" in limits:
        said = f"{typed!r} is not at most {limits['le']:g}."  # which is right of nan too
    elif "ge" in limits:
        said = f"{typed!r} is not at least {limits['ge']:g}."
    elif said.endswith("unable to parse string as an integer"):
        said = f"{typed!r} is not a whole number."
    elif said.endswith("unable to parse string as a number"):
        said = f"{typed!r} is not a number."
    error.message = said


def _make_option_readable(param: Any) -> None:
    kind = param.type_descriptor
    if param.count or param.is_flag:
        param.metavar = ""
    elif kind.is_choice:
        choices = [str(choice) for choice in kind.choices]
        param.metavar = "|".join(choices)
        if len(param.metavar) > _WIDEST_CHOICE:
            param.metavar = max(param.opts, key=len).lstrip("-").upper()
            param.help = f"{param.help} [dim]\\[{', '.join(choices)}][/dim]"
    elif param.min is not None or param.max is not None:
        param.metavar = _range(param.metavar, kind.ranged_type_name == "int", param.min, param.max)
    elif param.metavar is None:
        param.metavar = {"float": "X", "int": "N", "Path": "PATH"}.get(_type_name(param), "TEXT")
    param.min = param.max = None  # otherwise Typer shows them too; the type still checks them


def _range(metavar: str | None, whole: bool, low: float | None, high: float | None) -> str:
    name = metavar or ("N" if whole else "X")
    if low is not None and high is not None:
        return f"{low:g}..{high:g}"
    if high is not None:
        return f"{name} <= {high:g}"
    return name if not low and metavar else f"{name} >= {low:g}"


def _type_name(param: Any) -> str:
    return str(getattr(param.type_descriptor.annotation, "__name__", ""))
