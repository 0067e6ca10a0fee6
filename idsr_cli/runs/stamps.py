"""The record of an output folder: the settings that each of its files was made with.

`--existing skip` has to warn about outputs of other weights or options. So every output folder has a hidden file
`.idsr.jsonl`, to which every run appends one line per file it has written:

    {"schema": 1, "time": 1767225600.0, "file": "a/x.jpg", "size": 81234, "input_size": 90123, "settings": {...},
     "rain": {"level": 12.31, "share": 0.413, "direction": -8.2}}

`file` is relative to the folder of the record, so the folder can be moved. `rain` is what a network saw in the
photograph (`rain_estimate.Rain`), and missing if none ran. The line is appended after the file is in
place, and the newest line of a file counts. So an interrupted run leaves at worst a file without a line or with an old
one; such a file is reported as stale. Each line is one append, so parallel runs can share the record. A line that a
full disk cut short is ignored.
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
from types import MappingProxyType
from typing import Any

from idsr_cli.runs.plan import Item

RECORD = ".idsr.jsonl"
SCHEMA = 1
# Tolerated difference between the clocks of machines that share a disk, in seconds.
_CLOCKS = 2.0


class Stamps:
    """Reads the record of one output folder and adds to it.

    Args:
        folder: the output folder, which need not exist yet; None = the output is not a folder, nothing is recorded.
        settings: everything that affects the content of outputs, as JSON values: command, version, weights, options.
        own: item -> further settings of that item: the size of its mask, options for clips.
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

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}  # a lock cannot go to another process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def check(self, items: Sequence[Item]) -> list[Item]:
        """The same items, with `stale` set where the output is kept although these settings may give another."""
        known: dict[Path, dict[str, dict[str, Any]]] = {}
        return [replace(item, stale=self._why_stale(item, known)) if item.done else item for item in items]

    def _why_stale(self, item: Item, known: dict[Path, dict[str, dict[str, Any]]]) -> str:
        assert item.target is not None
        target = Path(os.path.abspath(item.target))
        found = []
        # The record may be in any folder above the file: `-o out` and `-o out/a` can write the same file.
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
    def recording(self, item: Item) -> Iterator[dict[str, Any]]:
        """Append the item's line if the block has written its file, even if Ctrl-C ends the block after that.

        The block may put what else the line is to say into the dict that it gets, as JSON values.
        """
        before = _identity(item.target)
        more: dict[str, Any] = {}
        try:
            yield more
        finally:
            if _identity(item.target) not in (before, None):
                self.add(item, more)

    def add(self, item: Item, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Append the line of an output that has just been written; `more` as in `recording`."""
        if self._folder is None or item.target is None:
            return
        line = {
            "schema": SCHEMA,
            "time": round(time.time(), 3),
            "file": Path(os.path.relpath(item.target, self._folder)).as_posix(),
            "size": _size(item.target),
            "input_size": None if item.source is None else _size(item.source),
            "settings": self._settings(item),
            **more,
        }
        # The output itself is complete. If the line cannot be written, the next run reports that it is missing.
        with self._lock, suppress(OSError):
            _append(self._folder / RECORD, json.dumps(line).encode("ascii") + b"\n")


# Settings that are not named like the option that decides them.
_OPTIONS = {"n_layers": "layers", "n_octaves": "like", "rules": "like", "soft_limit": "max-keypoints"}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ; "outer.inner" for nested ones."""
    flat_old, flat_new = dict(_flatten(old)), dict(_flatten(new))
    return sorted(name for name in {**flat_old, **flat_new} if flat_old.get(name) != flat_new.get(name))


def other_photograph(source: os.stat_result | None, size: int | None, made: float) -> str:
    """Why an output may be of another photograph than `source`, in words, or "" if nothing points to it.

    `size` is that of the photograph it was made from, in bytes; `made` is the time, in seconds since 1970.
    """
    if (source and source.st_size) != size:
        return "made from another photograph"
    # Equal sizes prove nothing: uncompressed files of one size in pixels have the same number of bytes.
    if source and source.st_mtime > made + _CLOCKS:
        return "made before the photograph was last written"
    return ""


def other_settings(names: Sequence[str]) -> str:
    """`differences` in words; "" if there are none."""
    # Spelled like the options on the command line.
    fields = (name.rpartition(".")[2] for name in names)
    options = dict.fromkeys(_OPTIONS.get(name, name.replace("_", "-")) for name in fields)
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
    """Inode and time of a file, which change when the file is replaced."""
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
