"""Lists of paths in files: read with `--from-list`, written with `--failures` and `--unchanged`.

One path a line. If a path contains a line break, every path is ended by a NUL byte instead (as `find -print0` does).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.stores import location
from idsr_cli.runs.plan import PIPE

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_list(source: str) -> list[str]:
    """The paths in a file or an object of a store, or on standard input for "-"; empty lines are skipped.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        data = sys.stdin.buffer.read() if source == PIPE else location(source).read_bytes()
    except OSError as error:
        raise UsageError((error.strerror or str(error)).lower(), path=source) from None
    except ItemError as error:
        raise UsageError(error.reason, path=source) from error
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if b"\0" in data:
        return [os.fsdecode(part) for part in data.split(b"\0") if part]
    lines = (line.removesuffix(b"\r") for line in data.split(b"\n"))
    return [os.fsdecode(line) for line in lines if line]


class PathList:
    """Paths of a run (those that failed), each written at once, so that the file is complete even after `kill -9`.

    Args:
        path: the file; it is emptied first, so that an old list is not taken for a new one.

    Raises:
        UsageError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Lines so far; None once NUL bytes separate the paths.
        self._lines: list[str] | None = []
        self._write(b"", "wb")

    def add(self, added: str) -> None:
        """Append one path.

        Raises:
            UsageError: the disk is full, or the file has become unwritable.
        """
        if self._lines is not None and "\n" in added:
            # Rewrite the whole list with NUL bytes as separators.
            self._write(b"".join(os.fsencode(path) + b"\0" for path in self._lines), "wb")
            self._lines = None
        if self._lines is None:
            self._write(os.fsencode(added) + b"\0", "ab")
        else:
            self._lines.append(added)
            self._write(os.fsencode(added) + b"\n", "ab")

    def _write(self, data: bytes, mode: Literal["wb", "ab"]) -> None:
        try:
            with open(self._path, mode) as file:
                file.write(data)
        except OSError as error:
            raise UsageError((error.strerror or str(error)).lower(), path=self._path) from None
