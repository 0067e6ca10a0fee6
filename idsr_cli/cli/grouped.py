"""Options in groups: a command takes frozen dataclasses, Typer sees their fields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command declare its options by theme.

    A parameter whose type is a dataclass is replaced in the signature by the fields of that dataclass, in their order;
    each field is annotated as a parameter of a Typer command is. When the command runs, it is handed the dataclass.

        @app.command()
        @grouped
        def derain(*, paths: Paths, jobs: Jobs = 0) -> None: ...

    Args:
        command: takes keyword arguments; names of fields and of other parameters are distinct.

    Returns:
        The same command with the flat signature.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    hints = _hints_of(command)
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind):
            groups[parameter.name] = kind
            parameters += _field_parameters(kind)
        else:
            parameters.append(_keyword(parameter.name, parameter.default, kind))

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        made = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        command(**values, **made)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def _hints_of(command: Callable[..., None]) -> dict[str, Any]:
    """The types of a command's parameters, as they are annotated.

    Of a function, Python 3.10 makes those with the default None optional once more. That hides from Typer what they are
    annotated with. Of a class it does not.
    """
    annotated = type("Annotated", (), {"__annotations__": command.__annotations__})
    return get_type_hints(annotated, command.__globals__, include_extras=True)


def _field_parameters(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        _keyword(field.name, inspect.Parameter.empty if field.default is MISSING else field.default, hints[field.name])
        for field in fields(kind)
    ]


def _keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
