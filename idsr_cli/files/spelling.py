"""Typing errors in the suffix of a file name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePath

from idsr_cli.errors import UsageError, mistyped
from idsr_cli.files.stores import is_folder


def check_spelling(output: str | os.PathLike[str], suffixes: Iterable[str]) -> None:
    """Refuse an OUT that would become a folder, but is the name of a file with one typing error (`dry.jgp`).

    Args:
        output: as the user gave it.
        suffixes: of the files that the command writes, such as ".jpg"; of several that are meant, the first is named.

    Raises:
        UsageError: it is such a name. A folder that exists, or an OUT that ends in `/`, is none.
    """
    text = os.fspath(output)
    if text.endswith(("/", os.sep)) or is_folder(text):
        return
    path, known = PurePath(text), [suffix[1:] for suffix in suffixes]
    typed = path.suffix[1:].lower()
    if typed not in known and (meant := mistyped(typed, known)):
        hint = f"did you mean {text.removesuffix(path.suffix)}.{meant}? `{text}/` is a folder"
        raise UsageError(f"`{path.suffix}` is no known kind of file", path=text, hint=hint)
