"""Checks of arguments that come from Python code: each value is of the kind it should be, or a `UsageError`."""

from __future__ import annotations

import operator
import os
from numbers import Real
from typing import Any

from idsr_cli.errors import UsageError, nearest


def whole_number(name: str, value: Any, range_text: str = "a whole number") -> int:
    """The value as an int; integers of numpy are taken, bools are not.

    Args:
        name: of the argument, for the message.
        value: as given.
        range_text: what it should be, for the message.

    Raises:
        UsageError: it is no whole number.
    """
    try:
        if type(value).__name__ not in ("bool", "bool_"):  # numpy's too, which its older versions take for a number
            return operator.index(value)
    except TypeError:
        pass
    raise UsageError(f"{name} must be {range_text}, not {value!r}")


def number(name: str, value: Any) -> float:
    """The value as a float; integers and numbers of numpy are taken, bools are not.

    Raises:
        UsageError: it is no number.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise UsageError(f"{name} must be a number, not {value!r}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """The value as a bool; numpy's bool is taken, and nothing else that Python calls true.

    Raises:
        UsageError: it is no bool.
    """
    import numpy as np

    if not isinstance(value, (bool, np.bool_)):
        raise UsageError(f"`{name}` is True or False, not {value!r}")
    return bool(value)


def one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raises UsageError if the value is none of the known ones."""
    if not isinstance(value, str) or value not in known:
        alike = nearest(value, known) if isinstance(value, str) else None
        hint = f"did you mean {alike!r}?" if alike else ""
        raise UsageError(f"`{name}` is one of {', '.join(known)}, not {value!r}", hint=hint)


def path_text(name: str, value: Any) -> str:
    """A str or os.PathLike as text.

    Raises:
        UsageError: another type, a path of bytes, or a NUL in it, which no file system can hold.
    """
    if not isinstance(value, (str, os.PathLike)):
        raise UsageError(f"{name} is given as text or a path, not as {type(value).__name__}")
    text = os.fspath(value)
    if not isinstance(text, str):
        raise UsageError(f"{name} is given as text or a path, not as bytes", hint="`os.fsdecode` makes text of them")
    if "\0" in text:
        raise UsageError(f"{name} {text[:100]!r} holds a NUL character, which is in no path")
    return text
