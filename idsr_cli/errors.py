"""Every error a user can cause, each with its exit code.

Exit codes: 1 = an item failed (the batch goes on), 2 = nothing could run. `reason` is one line without the path; it is
reported as `path: reason`. `hint` says what to do next.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable
from typing import Any


class IdsrError(Exception):
    """Base of all expected errors.

    Attributes:
        reason: one line, lower case, no full stop.
        hint: what the user can do next, or "".
        path: the file or folder the error is about, or None.
        exit_code: process exit code if this error ends the run.
    """

    exit_code = 2

    def __init__(self, reason: str, *, path: object | None = None, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.path = None if path is None else str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions come out of a pickle by a call with their `args`, which are not what these classes take.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def __str__(self) -> str:
        head = f"{self.path}: {self.reason}" if self.path else self.reason
        return f"{head} ({self.hint})" if self.hint else head


class UsageError(IdsrError):
    """The options contradict each other or the inputs do not exist: nothing is started."""


class ItemError(IdsrError):
    """One input cannot be read, processed or written; the others go on."""

    exit_code = 1


class WeightsError(IdsrError):
    """A weights file is missing, damaged or of an unknown layout."""


class DeviceError(IdsrError):
    """The device or precision asked for is not available here."""


class PairingError(IdsrError):
    """Rainy and clean photographs cannot be paired, or a pair differs in size."""


def extra_hint(extra: str) -> str:
    """The command that installs an extra. idsr is installed from a clone, so the command names its folder."""
    return f"install the extra `{extra}`: pip install -c constraints.txt '.[{extra}]' in idsr's folder"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` is most like, whatever the case of its letters; None if it is like none."""
    from difflib import get_close_matches

    names = {name.casefold(): name for name in reversed(list(known))}
    typed = word.casefold()
    alike = mistyped(typed, reversed(names)) or next(iter(get_close_matches(typed, names, n=1)), None)
    return None if alike is None else names[alike]


def mistyped(word: str, known: Iterable[str]) -> str | None:
    """The first known word from which `word` differs by one typing error, or None.

    A letter may be left out, added or wrong, or two may be in the wrong order. A wrong letter is not the first, so that
    `tmp` is not `bmp`; words of one letter are like nothing.
    """
    return next((meant for meant in known if _is_slip(word, meant)), None)


def _is_slip(word: str, meant: str) -> bool:
    if word == meant or min(len(word), len(meant)) < 2 or abs(len(word) - len(meant)) > 1:
        return False
    start = 0
    while word[start : start + 1] == meant[start : start + 1] != "":
        start += 1
    rest, expected = word[start:], meant[start:]
    if len(word) != len(meant):
        return rest[1:] == expected or rest == expected[1:]
    return (start > 0 and rest[1:] == expected[1:]) or (rest[:2] == expected[1::-1] and rest[2:] == expected[2:])


def choices_hint(word: str, known: Iterable[str], lead: str = "use") -> str:
    """The hint for a word that is none of the known ones: the nearest, if there is one, and all of them.

    `choices_hint("gradint", ("pixel", "gradient"))` is "did you mean `gradient`? use pixel, gradient".
    """
    known = list(known)
    alike = nearest(word, known)
    question = f"did you mean `{alike}`? " if alike else ""
    return f"{question}{lead} {', '.join(known)}"
