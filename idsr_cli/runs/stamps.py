"""The record of an output folder: the settings that each of its files was made with.

`--existing skip` has to warn about outputs of other weights or options. So every output folder has a hidden file
`.idsr.jsonl`, to which every run appends one line per file it has written:

    {"schema": 1, "time": 1767225600.0, "file": "a/x.jpg", "size": 81234, "input_size": 90123, "settings": {...},
     "rain": {"level": 12.31, "share": 0.413, "direction": -8.2}}

`file` is relative to the folder of the record, so the folder can be moved. `rain` is what a network saw in the
photograph (`rain_estimate.Rain`), and missing if none ran. The line is appended after the file is in
place, and the newest line of a file counts. So an interrupted run leaves at worst a file without a line or with an old
one; such a file is reported as stale. Each line is one append, so parallel runs of one machine can share the record.
On a network file system appends of two machines may overwrite each other. So each shard (`runs.shards`) has a record of
its own, `.idsr.shards/shard-1-of-4.jsonl`, and so has each machine of a cluster (`runs.workers`),
`.idsr.shards/machine-1a2b3c4d.jsonl`, with the same lines. All records are read together. A line that a full disk cut
short is ignored. In a store, where nothing can be appended, every run writes objects of its own (`runs.store_record`).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from idsr_cli.errors import IdsrError, UsageError
from idsr_cli.files.atomic import machine
from idsr_cli.files.stores import Location, Status, StorePath
from idsr_cli.runs.plan import Item, absolute
from idsr_cli.runs.shards import FOLDER, Shard, claim, claimed
from idsr_cli.runs.store_record import StoreRecord, recorded_lines

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
        shard: the shard that is processed, which has a record of its own; None = the whole.
        claim: see `shards.claim`; None = this is no shard.

    A pickled one, which is that of a worker, adds to the record of the machine that it comes to.
    """

    def __init__(
        self,
        folder: Location | None,
        settings: Mapping[str, Any],
        own: Callable[[Item], Mapping[str, Any]] = lambda item: {},
        shard: Shard | None = None,
        claim: Location | None = None,
    ) -> None:
        self._folder = folder
        self._record = RECORD if shard is None else f"{FOLDER}/{shard.label}.jsonl"
        self._claim = claim
        self._common: dict[str, Any] = json.loads(json.dumps(settings))
        self._own = own
        self._lock = threading.Lock()
        self._in_store = StoreRecord(folder) if isinstance(folder, StorePath) else None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}  # a lock cannot go to another process

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _record=f"{FOLDER}/machine-{machine()}.jsonl")

    def check(self, items: Sequence[Item]) -> list[Item]:
        """The same items, with `stale` set where the output is kept although these settings may give another."""
        done = [item.target for item in items if item.done and item.target is not None]
        newest = _newest(set(map(absolute, done)), self._records(done))
        reasons: dict[tuple[int, str], str] = {}

        def compared(settings: Mapping[str, Any], own: Mapping[str, Any]) -> str:
            # Most outputs of a folder have the same settings, which `_newest` makes one object.
            key = id(settings), json.dumps(own, sort_keys=True)
            if key not in reasons:
                reasons[key] = other_settings(differences(settings, {**self._common, **own}))
            return reasons[key]

        return [
            replace(item, stale=_why_stale(item, newest.get(absolute(item.target)), compared, self._own(item)))
            if item.done and item.target is not None
            else item
            for item in items
        ]

    def claim(self, make: bool = True) -> None:
        """Make sure that all shards of the output folder have these settings.

        Args:
            make: hold the folder for them; False = only compare with the shard that has begun first.

        Raises:
            UsageError: a shard with other settings has begun, or the folder cannot be written.
        """
        if self._claim is None:
            return
        theirs = claim(self._claim, self._common) if make else claimed(self._claim)
        why = other_settings(differences(theirs, self._common)) if theirs is not None else ""
        if why:
            raise UsageError(
                f"other shards of this output are {why}",
                path=self._claim.parent.parent,
                hint=f"choose another OUT; to begin anew, stop all shards and delete {self._claim}",
            )

    def _records(self, done: Sequence[Location]) -> Iterator[tuple[str, Iterable[bytes]]]:
        """The records that may have lines of these outputs: what names in a record are below, and its lines.

        A record may be in any folder above an output: `-o out` and `-o out/a` can write the same file. A store would
        have to be asked about each folder below OUT: the records there, of runs with `-o out/a`, are not looked for.
        """
        stored = next((target for target in done if isinstance(target, StorePath)), None)
        if stored is not None:
            first = self._folder if isinstance(self._folder, StorePath) else stored.parent
            for place in (first, *first.parents):
                yield f"{place.identity}/", recorded_lines(place)
            return
        inner = map(Path, {os.path.dirname(absolute(target)) for target in done})
        for folder in sorted({above for below in inner for above in (below, *below.parents)}):
            for path in (folder / RECORD, *sorted((folder / FOLDER).glob("*.jsonl"))):
                yield os.path.join(folder, ""), _lines(path)

    def _settings(self, item: Item) -> dict[str, Any]:
        return {**self._common, **self._own(item)}

    @contextmanager
    def recording(self, item: Item) -> Iterator[dict[str, Any]]:
        """Append the item's line if the block has written its file, even if Ctrl-C ends the block after that.

        The block may put what else the line is to say into the dict that it gets, as JSON values.
        """
        before = _identity(item.target)
        more: dict[str, Any] = {}
        put = False
        try:
            yield more
            put = isinstance(item.target, StorePath)
        finally:
            if put or _identity(item.target) not in (before, None):
                self.add(item, more)

    def add(self, item: Item, more: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Append the line of an output that has just been written; `more` as in `recording`."""
        if self._folder is None or item.target is None:
            return
        line = {
            "schema": SCHEMA,
            "time": round(time.time(), 3),
            "file": _below(item.target, self._folder),
            "size": _size(item.target),
            "input_size": None if item.source is None else _size(item.source),
            "settings": self._settings(item),
            **more,
        }
        written = json.dumps(line).encode("ascii") + b"\n"
        # The output itself is complete. If the line cannot be written, the next run reports that it is missing.
        with self._lock, suppress(OSError):
            if self._in_store is not None:
                self._in_store.append(written)
            elif isinstance(self._folder, Path):
                _append(self._folder / self._record, written)

    def flush(self) -> None:
        """At the end of a run: write the lines that are still waiting, which only those of a store do."""
        with self._lock:
            if self._in_store is not None:
                self._in_store.flush()


# Settings that are not named like the option that decides them.
_OPTIONS = {"n_layers": "layers", "n_octaves": "like", "rules": "like", "soft_limit": "max-keypoints"}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ; "outer.inner" for nested ones."""
    flat_old, flat_new = dict(_flatten(old)), dict(_flatten(new))
    return sorted(name for name in {**flat_old, **flat_new} if flat_old.get(name) != flat_new.get(name))


def other_photograph(source: os.stat_result | Status | None, size: int | None, made: float) -> str:
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


def _below(target: Location, folder: Location) -> str:
    """The path of a file below a folder."""
    if isinstance(target, StorePath) and isinstance(folder, StorePath):
        return target.relative_to(folder).as_posix()
    return Path(os.path.relpath(str(target), str(folder))).as_posix()


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0) as file:  # unbuffered, so that a line is one append
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a line that was cut short
                line = b"\n" + line
        file.write(line)


@dataclass(frozen=True)
class _Line:
    """What the record says of a file; `settings` of lines of equal settings are one object."""

    time: float
    size: int | None
    input_size: int | None
    settings: Mapping[str, Any]


def _newest(targets: Set[str], records: Iterable[tuple[str, Iterable[bytes]]]) -> dict[str, _Line]:
    """`absolute` of each of these outputs that has a record -> its newest line; `records` as from `Stamps`."""
    newest: dict[str, _Line] = {}
    settings: dict[str, Mapping[str, Any]] = {}
    for above, lines in records:
        for file, line in _parsed(lines, settings):
            name = above + file
            if name in targets and (name not in newest or line.time >= newest[name].time):
                newest[name] = line
    return newest


def _lines(path: Path) -> Iterator[bytes]:
    with suppress(OSError), open(path, "rb") as record:
        yield from record


def _parsed(lines: Iterable[bytes], settings: dict[str, Mapping[str, Any]]) -> Iterator[tuple[str, _Line]]:
    """Lines, each with its file; those that are damaged are passed over. `settings` collects those of all lines."""
    for text in lines:
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            if line["schema"] == SCHEMA and isinstance(line["settings"], dict):
                made_with = settings.setdefault(json.dumps(line["settings"], sort_keys=True), line["settings"])
                read = _Line(float(line["time"]), line["size"], line["input_size"], made_with)
                yield str(line["file"]), read


def _why_stale(
    item: Item,
    line: _Line | None,
    compared: Callable[[Mapping[str, Any], Mapping[str, Any]], str],
    own: Mapping[str, Any],
) -> str:
    assert item.target is not None
    if line is None:
        return "without a record of its settings"
    if _size(item.target) != line.size:
        return "changed since it was made"
    if item.source is not None:
        other = other_photograph(_status(item.source), line.input_size, line.time)
        if other:
            return other
    return compared(line.settings, own)


def _identity(path: Location | None) -> tuple[int, int] | None:
    """Inode and time of a file, which change when the file is replaced; None in a store, whose objects have neither."""
    status = _status(path) if isinstance(path, Path) else None
    return (status.st_ino, status.st_mtime_ns) if isinstance(status, os.stat_result) else None


def _size(path: Location) -> int | None:
    status = _status(path)
    return status and status.st_size


def _status(path: Location) -> os.stat_result | Status | None:
    try:
        return path.stat()
    except (OSError, IdsrError):
        return None
