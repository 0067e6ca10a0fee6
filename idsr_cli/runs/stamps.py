"""The record of an output folder: which settings each of its files was made with.

`--existing skip` must not pass over outputs of other weights or options in silence. Beside the outputs lies a hidden
`.idsr.jsonl`, to which every run appends one line per file it has written:

    {"schema": 1, "time": 1767225600.0, "file": "a/x.jpg", "size": 81234, "input_size": 90123, "settings": {...}}

`file` is relative to the folder of the record, so the folder can be moved. The line is appended after the file is in
place, and the newest line of a file counts: an interrupted run leaves at worst a file without a line or with an older
one, which is reported and never taken for fresh. Lines are appended whole, so runs in parallel share the record, and a
line that a full disk cut short is passed over.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from idsr_cli.runs.plan import Item

RECORD = ".idsr.jsonl"
SCHEMA = 1
# Clocks of machines that share a disk differ by so many seconds without doubt falling on anything.
_CLOCKS = 2.0


class Stamps:
    """Reads and continues the record of one output folder.

    Args:
        folder: the output folder, which need not exist yet; None = outputs are no folder, and nothing is recorded.
        settings: everything that decides what is in an output, as JSON values: command, version, weights, options.
        own: more of these, that an item has for itself: the size of its mask, what is about clips alone.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: Mapping[str, Any],
        own: Callable[[Item], Mapping[str, Any]] = lambda item: {},
    ) -> None:
        self._folder = folder
        self._common: dict[str, Any] = json.loads(json.dumps(settings))
        self._own = own
        self._lock = threading.Lock()

    def check(self, items: Sequence[Item]) -> list[Item]:
        """The same items; those whose output is kept although these settings may give another have `stale` set."""
        known: dict[Path, dict[str, dict[str, Any]]] = {}
        return [replace(item, stale=self._why_stale(item, known)) if item.done else item for item in items]

    def _why_stale(self, item: Item, known: dict[Path, dict[str, dict[str, Any]]]) -> str:
        assert item.target is not None
        target = Path(os.path.abspath(item.target))
        found = []
        # A file may have been written with OUT here or further up: `-o out` and `-o out/a` meet in the same folder.
        for folder in target.parents:
            if folder not in known:
                known[folder] = dict(_read(folder / RECORD))
            line = known[folder].get(target.relative_to(folder).as_posix())
            if line is not None:
                found.append(line)
        if not found:
            return "without a record of its settings"
        line = max(found, key=lambda line: line["time"])
        if _size(item.target) != line["size"]:
            return "changed since it was made"
        if item.source is not None:
            other = other_photograph(_status(item.source), line["input_size"], line["time"])
            if other:
                return other
        return other_settings(differences(line["settings"], self._settings(item)))

    def _settings(self, item: Item) -> dict[str, Any]:
        return {**self._common, **self._own(item)}

    @contextmanager
    def recording(self, item: Item) -> Iterator[None]:
        """Append the item's line if the block has put a file in place, even if Ctrl-C ends it right then."""
        before = _identity(item.target)
        try:
            yield
        finally:
            if _identity(item.target) not in (before, None):
                self.add(item)

    def add(self, item: Item) -> None:
        """Append the line of an output that has just been written."""
        if self._folder is None or item.target is None:
            return
        line = {
            "schema": SCHEMA,
            "time": round(time.time(), 3),
            "file": Path(os.path.relpath(item.target, self._folder)).as_posix(),
            "size": _size(item.target),
            "input_size": None if item.source is None else _size(item.source),
            "settings": self._settings(item),
        }
        # The output is whole. If its line cannot be written, the next run says that it has none.
        with self._lock, suppress(OSError):
            _append(self._folder / RECORD, json.dumps(line).encode("ascii") + b"\n")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ; of nested ones "outer.inner"."""
    flat_old, flat_new = dict(_flatten(old)), dict(_flatten(new))
    return sorted(name for name in {**flat_old, **flat_new} if flat_old.get(name) != flat_new.get(name))


def other_photograph(source: os.stat_result | None, size: int | None, made: float) -> str:
    """Why what was made, at `made` seconds since 1970, of `size` bytes may be of another photograph now, or ""."""
    if (source and source.st_size) != size:
        return "made from another photograph"
    # Frames without compression are all of one size.
    if source and source.st_mtime > made + _CLOCKS:
        return "made before the photograph was last written"
    return ""


def other_settings(names: Sequence[str]) -> str:
    """`differences` in words; "" if there are none."""
    # As the options are called.
    options = dict.fromkeys(name.rpartition(".")[2].replace("_", "-") for name in names)
    return f"made with other settings ({', '.join(options)})" if options else ""


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:  # unbuffered, so that a line is one append
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a line that was cut short
                line = b"\n" + line
        file.write(line)


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        data = path.read_bytes()
    except OSError:
        return
    for text in data.splitlines():
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            if line["schema"] == SCHEMA and isinstance(line["settings"], dict):
                yield line["file"], {name: line[name] for name in ("time", "size", "input_size", "settings")}


def _identity(path: Path | None) -> tuple[int, int] | None:
    """What changes when another file takes a file's place."""
    status = None if path is None else _status(path)
    return status and (status.st_ino, status.st_mtime_ns)


def _size(path: Path) -> int | None:
    status = _status(path)
    return status and status.st_size


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
