"""Keypoint files that hold a whole run.

Each photograph is first written to a file of its own, a part, in a hidden folder beside OUT. At the end, or at Ctrl-C,
all parts are added to OUT in the order of the plan and removed. If a run is killed, the next one uses the parts that it
left.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from idsr_cli import __version__
from idsr_cli.errors import ItemError, UsageError, extra_hint
from idsr_cli.files.faults import item_error, one_line
from idsr_cli.files.spelling import check_spelling
from idsr_cli.files.stores import StorePath, is_url, local, location
from idsr_cli.formats import FileFormat, RunFormat, npz
from idsr_cli.formats.descriptors import DescriptorKind
from idsr_cli.formats.entry import Entry
from idsr_cli.formats.npz import read_meta
from idsr_cli.keypoints import Keypoints
from idsr_cli.runs.frames import is_clip_item
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.plan import PIPE, Item, Naming, is_file_name
from idsr_cli.runs.process import Write
from idsr_cli.runs.request import Request
from idsr_cli.runs.shards import claim_path
from idsr_cli.runs.stamps import Stamps, differences, other_photograph, other_settings

# The format of parts: lossless.
PART = FileFormat(".npz", npz.encode, ("sift_u8",), is_text=False)
_OF_THE_FILE = {"descriptors", "format", "camera_mode", "camera_model"}
_PART_NAMING = Naming(lambda relative: relative.with_name(f"{relative.name}.npz"), frozenset(), makes_photos=False)


def check_library(name: str, kind: RunFormat) -> None:
    """Refuse a format whose library cannot be loaded, before the work starts, not hours later.

    Raises:
        UsageError: it cannot.
    """
    try:
        kind.load()
    except ImportError as error:
        raise UsageError(
            f"`--format {name}` needs a library that is not here: {one_line(error)}",
            hint=extra_hint(kind.extra),
        ) from error


class OneFile:
    """Gathers the keypoints of all photographs in one file; a `KeypointSink`.

    Args:
        name: of the format, for messages.
        form: the format of the file.
        path: where the file is, or will be.
        request: what was asked for.
        write: writes bytes to a file.
        listener: told when the file is being written.
        command: name of the command, for the record.
        photos: folder of the photographs, "inputs" if the inputs are photographs, None if there are none.

    With a shard the file is a part of its own, `Shard.path`, which `runs.merge` joins with the others.

    Attributes:
        kind: the format of parts.
        stamps: records nothing, since the settings are in the file itself; the files of several shards share them.
        path: the file that is written.
        parts: the hidden folder.
    """

    def __init__(
        self,
        name: str,
        form: RunFormat,
        path: Path,
        request: Request,
        write: Write,
        listener: Listener,
        command: str = "sift",
        photos: Path | Literal["inputs"] | None = "inputs",
    ) -> None:
        self.kind = PART
        self.stamps = Stamps(None, {})
        shard = request.shard
        self._claim = None if shard is None else claim_path(path.parent, path.name)
        path = path if shard is None else shard.path(path)
        self.path = path
        self.parts = path.with_name(f".{path.name}.parts")
        self._name = name
        self._form = form
        self._request = request
        self._write = write
        self._listener = listener
        self._command = command
        self._photos = photos
        # What the file held when the run was planned: name of a photograph -> its meta, and the file's time.
        self._inside: Mapping[str, Mapping[str, Any] | None] = {}
        self._written = 0.0
        self._common: Mapping[str, Any] = {}
        self._own: Callable[[Item], Mapping[str, Any]] = lambda item: {}
        # Names of the photographs whose parts are good and not in the file yet.
        self._waiting: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # The process that gets it only writes parts, and the file may hold a million photographs.
        return {**self.__dict__, "_inside": {}, "_waiting": set()}

    def plan(self) -> list[Item]:
        """Each photograph and its part; those in the file are done.

        Raises:
            UsageError: nothing can be started.
        """
        request = self._request
        if PIPE in request.inputs or request.output == PIPE:
            raise UsageError("this format is one file for many photographs; neither INPUT nor OUT can be `-`")
        if self.path.exists() and not os.access(self.path, os.W_OK):
            raise UsageError("permission denied: cannot write there", path=self.path)
        items = replace(request, output=f"{self.parts}{os.sep}", existing="overwrite").plan(_PART_NAMING)
        if self.path.exists():
            try:
                self._inside = self._form.contents(self.path)
            except UsageError as error:
                raise UsageError(error.reason, path=self.path, hint="choose another OUT") from error
            self._written = self.path.stat().st_mtime
        there = [_name(item) for item in items if not item.problem and _name(item) in self._inside]
        if request.existing == "error" and there:
            more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
            hint = "use `--existing skip` or `--existing overwrite`"
            raise UsageError(f"holds `{there[0]}` already{more}", path=self.path, hint=hint)
        if (stored := next((item for item in items if isinstance(item.source, StorePath)), None)) is not None:
            hint = "write npz to a folder, and use `idsr convert`"
            raise UsageError(f"`--format {self._name}` takes local photographs", path=stored.name, hint=hint)
        if any(map(is_clip_item, items)):
            raise UsageError(
                f"`--format {self._name}` does not take video clips",
                hint="write the frames with `idsr derain --format png`, then use `idsr sift --no-derain`",
            )
        kept = set(there) if request.existing == "skip" else set()
        return [self._with_output(item, _name(item) in kept) for item in items]

    def _with_output(self, item: Item, done: bool) -> Item:
        if item.problem:
            return item
        if not _is_unicode(_name(item)):
            return replace(item, target=None, problem="this format needs a name in valid UTF-8")
        return replace(item, gathered=self.path, done=done)

    def check(
        self, items: Sequence[Item], settings: Mapping[str, Any], own: Callable[[Item], Mapping[str, Any]]
    ) -> list[Item]:
        """See `KeypointSink`: items whose part a killed run has left are done too."""
        self._common = json.loads(json.dumps({**settings, "command": self._command, "version": __version__}))
        self.stamps = Stamps(None, self._common, claim=self._claim)
        self._own = own
        left = {id(item) for item in items if not item.done and not item.problem and self._is_left(item)}
        self._waiting.update(_name(item) for item in items if id(item) in left)
        return [
            replace(item, stale=self._why_stale(item)) if item.done else replace(item, done=id(item) in left)
            for item in items
        ]

    def _settings(self, item: Item) -> dict[str, Any]:
        return {**self._common, **self._own(item)}

    def _why_stale(self, item: Item) -> str:
        """Why the file may differ from what would be written today, or ""."""
        meta = self._inside[_name(item)]
        if meta is None or "settings" not in meta:
            return "without a record of its settings"
        source = local(item.source)
        if source.exists():
            # The time of the whole file, since the file holds no times: equal content must give equal bytes.
            other = other_photograph(source.stat(), meta["input_size"], self._written)
            if other:
                return other
        return other_settings(differences(meta["settings"], self._settings(item)))

    def _is_left(self, item: Item) -> bool:
        """True if a killed run has left the part of this photograph, made with these settings."""
        if item.target is None or not local(item.target).exists():
            return False
        try:
            meta, wanted = read_meta(local(item.target)), self._part_meta(item)
        except (OSError, ItemError):  # gone or damaged: made again
            return False
        # A part serves any kind of descriptors, any format and any cameras.
        other = set(differences(meta.get("settings", {}), wanted["settings"])) - _OF_THE_FILE
        return not other and meta.get("source") == wanted["source"]

    def _part_meta(self, item: Item, have: DescriptorKind = "sift_u8") -> dict[str, Any]:
        """What a part records besides how it was made: settings, and path, time and size of the photograph."""
        source = local(item.source)
        status = source.stat()
        return {
            "descriptors": have,
            "settings": self._settings(item),
            "source": {"path": os.path.abspath(source), "time": status.st_mtime_ns},
            "input_size": status.st_size,
        }

    def write(
        self, item: Item, keypoints: Keypoints, meta: Mapping[str, Any], have: DescriptorKind = "sift_u8"
    ) -> None:
        """Write the part of a photograph. Any thread."""
        self._write(item.target, self.kind.encode(keypoints, {**meta, **self._part_meta(item, have)}, have))
        self.written(item)

    def written(self, item: Item) -> None:
        self._waiting.add(_name(item))

    def finish(self, items: Sequence[Item]) -> None:
        """Add the parts of `items` to the file, and remove them.

        Raises:
            ItemError: the file cannot be written; the parts are kept.
        """
        entries = [self._entry(item) for item in items if not item.problem and _name(item) in self._waiting]
        if not entries:
            return
        self._listener.note(f"writing {self.path}")  # takes a while with many photographs
        try:
            self._form.add(self.path, entries)
        except (OSError, ItemError) as error:
            hint = f"the keypoints wait in `{self.parts}`: run the same command again"
            raise ItemError(item_error(error).reason, path=self.path, hint=hint) from error
        for entry in entries:
            entry.part.unlink()
            self._waiting.discard(entry.name)
        # Folders that hold parts of other photographs, left by another run, are not empty and stay.
        for folder, _, _ in os.walk(self.parts, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)

    def _entry(self, item: Item) -> Entry:
        target = local(item.target)
        if self._photos == "inputs":
            root = local(item.source).parents[len(item.relative.parts) - 1]
        else:
            root = self._photos or self.parts  # a folder that has no photograph
        made = {key: value for key, value in read_meta(target).items() if key not in ("source", "conventions")}
        written = {"descriptors": self._common["descriptors"], "settings": self._settings(item)}
        return Entry(_name(item), root, target, {**made, **written})


def run_path(output: str, kind: RunFormat) -> Path:
    """The file that `-o` means: itself if it has a suffix of the format, else one of the usual name in that folder.

    Raises:
        UsageError: it is a file, but not of the format, or in a store.
    """
    if is_url(output) and isinstance(location(output), StorePath):
        hint = "write it to a local file, and copy that"
        raise UsageError("one file for all photographs cannot be written to a store", path=output, hint=hint)
    path = local(location(output))
    if path.suffix.lower() in kind.suffixes and not path.is_dir() and not output.endswith(("/", os.sep)):
        return path
    if path.exists() and not path.is_dir():
        raise UsageError("OUT is a file of another kind", path=output, hint=f"call it *{min(kind.suffixes)}")
    if is_file_name(output):
        hint = f"choose from {' '.join(sorted(kind.suffixes))}; `{output}/` is a folder"
        raise UsageError(f"this format is no file of kind {path.suffix.lower()}", path=output, hint=hint)
    check_spelling(output, sorted(kind.suffixes))
    return path / kind.file_name


def _name(item: Item) -> str:
    return item.relative.as_posix()


def _is_unicode(name: str) -> bool:
    """False for surrogate-escaped names: file names whose bytes are not valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
