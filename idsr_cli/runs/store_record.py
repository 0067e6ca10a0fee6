"""The record of an output folder in a store, where nothing can be appended to an object.

Each run has objects of its own, `OUT/.idsr/20261126T071643Z-1a2b3c4d-000000.jsonl` and so on. So runs at the same time,
on any number of machines, do not overwrite each other's lines. The lines are those of `runs.stamps`. The last object is
put again with more lines until it is full. A run that is killed loses the lines of its last seconds; the next run
reports their files as without a record.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from idsr_cli.errors import IdsrError
from idsr_cli.files.stores import StorePath

FOLDER = ".idsr"
# Lines of an object, some 600 bytes each, and the time after which new lines are put at the latest.
LINES = 1000
SECONDS = 30.0
_READERS = 8


class StoreRecord:
    """What one run adds to the record of a folder. One thread at a time.

    Args:
        folder: the output folder.

    A pickled one is an empty one in the other process, with objects of its own.
    """

    def __init__(self, folder: StorePath) -> None:
        self._out = folder
        self._name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
        self._folder = folder / FOLDER
        self._part = 0
        self._lines: list[bytes] = []
        self._new = 0
        self._put_at = time.monotonic()

    def __reduce__(self) -> tuple[type[StoreRecord], tuple[StorePath]]:
        return StoreRecord, (self._out,)

    def append(self, line: bytes) -> None:
        """Add a line, which ends in a line break; it is put at once if the object is full or the last put long ago."""
        self._lines.append(line)
        self._new += 1
        if len(self._lines) >= LINES or time.monotonic() - self._put_at >= SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put the lines that are not in the store yet; those that cannot be put are kept for the next time."""
        if not self._new:
            return
        self._put_at = time.monotonic()
        with suppress(IdsrError):  # the outputs are complete without it
            (self._folder / f"{self._name}-{self._part:06d}.jsonl").write_bytes(b"".join(self._lines))
            self._new = 0
            if len(self._lines) >= LINES:
                self._part += 1
                self._lines = []


def recorded_lines(folder: StorePath) -> Iterator[bytes]:
    """The lines of all runs that have written into a folder; none if the store refuses to show them."""
    with suppress(IdsrError):
        parts = [part for part in (folder / FOLDER).find() if part.suffix == ".jsonl"]
        with ThreadPoolExecutor(_READERS) as pool:
            for data in pool.map(StorePath.read_bytes, sorted(parts, key=lambda part: part.key)):
                yield from data.splitlines()
