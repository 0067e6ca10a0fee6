"""Keypoint files turned into other formats: which files, what each format loses, and the work on one photograph.

A file of one format is converted if it holds all that the other needs. Nothing is made up: text formats have no
response and no image size, so no .npz can be made of them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from idsr_cli import __version__
from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.stores import local
from idsr_cli.formats import FORMATS, FileFormat, RunFormat
from idsr_cli.formats.descriptors import DescriptorKind, makes
from idsr_cli.formats.stored import PARTS, Part, Stored
from idsr_cli.images.folders import natural_key, search_folder
from idsr_cli.runs.batch import Saved, Stages
from idsr_cli.runs.keypoint_files import KeypointSink, descriptor_kind, keypoint_sink
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.one_file import check_library
from idsr_cli.runs.outputs import Outputs, write_each
from idsr_cli.runs.plan import PIPE, Item, is_file_name
from idsr_cli.runs.process import Write, called, standard_input
from idsr_cli.runs.request import Request
from idsr_cli.runs.stamps import Stamps

# What a file records of its own making, which is no longer true of another file.
_OF_THE_FILE = ("schema", "conventions", "settings", "input_size", "source", "camera")


# --- the inputs ------------------------------------------------------------------------------------------------------


def find_keypoints(inputs: Sequence[str], source: str | None) -> tuple[list[Item], dict[str, str]]:
    """The photographs whose keypoints are in files and folders.

    Args:
        inputs: keypoint files, and folders of them; or "-" alone, for one file on standard input.
        source: their format, a key of `FORMATS`; None = that of the suffix, in folders and on standard input npz.

    Returns:
        One item per photograph, without output: `source` is the keypoint file, `relative` the path of the photograph
        below its folder; a photograph that lacks keypoints or descriptors has a `problem`. And path of each file, as
        `Item.path` -> its format.

    Raises:
        UsageError: an input is missing or of no known format, or there is nothing in a folder.
    """
    if not inputs:
        raise UsageError("no input given", hint="name keypoint files or folders")
    if PIPE in inputs and len(inputs) > 1:
        raise UsageError("`-` (standard input) stands alone: it is one keypoint file")
    items: list[Item] = []
    formats: dict[str, str] = {}
    for text in dict.fromkeys(inputs):
        path = Path(text)
        if text != PIPE and not path.exists():
            raise UsageError("no such file or folder", path=text)
        name = source or ("npz" if text == PIPE or path.is_dir() else format_of(path))
        kind = FORMATS[name]
        if isinstance(kind, FileFormat) and kind.read is None:
            raise UsageError(f"{name} can be written, but not read", path=text)
        if text == PIPE:
            found = [_in_pipe(name)]
        else:
            found = list(_in_folder(path, name) if path.is_dir() else _in_file(path, name))
        if not found:
            raise UsageError("no keypoints found", path=text, hint=f"looked for {name}; `--from` names another format")
        items += found
        formats |= {item.path: name for item in found}
    return items, formats


def format_of(path: Path) -> str:
    """The format that a suffix stands for.

    Raises:
        UsageError: for none.
    """
    suffix, known = path.suffix.lower(), []
    for name, kind in FORMATS.items():
        suffixes = kind.suffixes if isinstance(kind, RunFormat) else {kind.suffix}
        if suffix in suffixes:
            return name
        known += sorted(suffixes)
    raise UsageError("not the name of a keypoint file", path=path, hint=f"known: {' '.join(known)}; or use `--from`")


def _in_pipe(name: str) -> Item:
    if isinstance(FORMATS[name], RunFormat):
        raise UsageError(f"`{name}` is read from a file, not from standard input", hint="name the file")
    return Item(None, None, PurePath("stdin"))


def _in_folder(folder: Path, name: str) -> list[Item]:
    kind = FORMATS[name]
    if isinstance(kind, RunFormat):
        raise UsageError(f"is a folder, and `{name}` is one file", path=folder, hint="name the file")
    suffix = kind.suffix
    found = search_folder(folder, takes_file=lambda relative: relative.name.lower().endswith(suffix))
    return [
        Item(one.path, None, one.relative if one.problem else _without(one.relative, suffix), problem=one.problem)
        for one in found
    ]


def _in_file(path: Path, name: str) -> list[Item]:
    kind = FORMATS[name]
    if isinstance(kind, FileFormat):
        return [Item(path, None, _without(PurePath(path.name), kind.suffix))]
    check_library(name, kind)
    incomplete = kind.incomplete(path)

    def item(inside: PurePath) -> Item:
        outside = inside.is_absolute() or ".." in inside.parts
        lacks = incomplete.get(inside.as_posix())
        problem = "its name leads out of the folder of photographs" if outside else f"has {lacks}" if lacks else ""
        return Item(path, None, inside, problem=problem, inside=inside.as_posix())

    return [item(PurePath(name)) for name in sorted({*kind.contents(path), *incomplete}, key=natural_key)]


def _without(relative: PurePath, suffix: str) -> PurePath:
    """The photograph of a file: x.jpg for x.jpg.npz."""
    name = relative.name
    ends = name.lower().endswith(suffix) and len(name) > len(suffix)
    return relative.with_name(name[: -len(suffix)]) if ends else relative


# --- the outputs -----------------------------------------------------------------------------------------------------


class ConvertedOutput:
    """The keypoints in one format; `Planned`.

    Args:
        name: of the format, a key of `FORMATS`.
        request: what was asked for; its `found` is from `find_keypoints`.
        formats: as from `find_keypoints`.
        write: writes a file.
        listener: hears of what is lost.
        descriptors: kind of descriptors to write; None = the format's default, if it can be made of what is there.
        photos: folder of the photographs, from which COLMAP's cameras are made, or None.

    Raises:
        UsageError: OUT is missing or cannot be such a file, or the format cannot hold these descriptors.
    """

    def __init__(
        self,
        name: str,
        request: Request,
        formats: Mapping[str, str],
        write: Write,
        listener: Listener,
        descriptors: DescriptorKind | None = None,
        photos: Path | None = None,
    ) -> None:
        self.kind = name
        descriptor_kind(name, descriptors)
        self._formats = formats
        self._wanted = descriptors
        self._listener = listener
        self._lost: set[str] = set()
        self._sink: KeypointSink = keypoint_sink(name, request, write, listener, command="convert", photos=photos)

    @property
    def stamps(self) -> Stamps:
        return self._sink.stamps

    def plan(self) -> list[Item]:
        kind = FORMATS[self.kind]
        # In a common file all have the same kind.
        descriptors = self._wanted or (kind.kinds[0] if isinstance(kind, RunFormat) else None)
        settings = {"format": self.kind, "descriptors": descriptors}
        items = [self._refuse(item) for item in self._sink.check(self._sink.plan(), settings, lambda item: {})]
        if all(item.problem for item in items):
            raise UsageError(items[0].problem, path=items[0].name)
        return items

    def _refuse(self, item: Item) -> Item:
        """The item, known to fail if its format cannot be converted."""
        if item.problem:
            return item
        source = self._formats[item.path]
        holds = FORMATS[source].holds
        # The settings of SIFT tell the octaves of the scales.
        problem = lacking(source, holds | {"octave"} if "settings" in holds else holds, self.kind)
        return replace(item, target=None, problem=problem) if problem else item

    def write(self, item: Item, found: Stored, source: str) -> tuple[str, ...]:
        """Write the keypoints of a photograph.

        Args:
            item: with its output.
            found: its keypoints.
            source: the format that they are in.

        Raises:
            ItemError: the format needs what `found` does not hold.
        """
        if reason := lacking(source, found.holds, self.kind):
            raise ItemError(reason)
        have, wanted = self._kinds(found.kind, source)
        meta: Mapping[str, Any] = {
            "tool": "idsr",
            "version": __version__,
            **{key: value for key, value in found.meta.items() if key not in _OF_THE_FILE},
            "descriptors": wanted,
            **({} if source == self.kind else {"converted": source}),
        }
        with self.stamps.recording(item):
            self._sink.write(item, found.keypoints, meta, have)
        self._lost.update(part for part in found.holds if part not in FORMATS[self.kind].holds)
        if not makes(wanted, have):
            self._lost.add("SIFT descriptors (RootSIFT in bytes is rounded)")
        return ()

    def _kinds(self, have: DescriptorKind | None, source: str) -> tuple[DescriptorKind, DescriptorKind]:
        """The kind of descriptors that is there, and the kind to write."""
        kinds = FORMATS[self.kind].kinds
        if have is None:
            # Bytes of either kind: they are passed on as they are.
            if self._wanted is not None or isinstance(FORMATS[self.kind], RunFormat):
                raise ItemError(f"{source} does not say whether its descriptors are SIFT or RootSIFT")
            return kinds[0], kinds[0]
        if self._wanted is not None or makes(have, kinds[0]):
            return have, self._wanted or kinds[0]
        return have, have

    def finish(self, items: Sequence[Item]) -> None:
        self._sink.finish(items)
        if self._lost:
            named = [part for part in (*PARTS, *sorted(self._lost - set(PARTS))) if part in self._lost]
            self._listener.note(f"not kept in {self.kind}: {', '.join(named)}")


def lacking(source: str, holds: frozenset[Part], wanted: str) -> str:
    """Why keypoints cannot be converted, or "".

    Args:
        source: the format that they are in.
        holds: what of `PARTS` the file holds.
        wanted: the format to write.
    """
    if source == wanted != "npz":
        return f"the format is {source} already"
    missing = [part for part in PARTS if part in FORMATS[wanted].holds - holds - {"settings"}]
    return f"{source} holds no {' and no '.join(missing)}, which {wanted} needs" if missing else ""


@dataclass(frozen=True)
class ConvertWork:
    """What all photographs of a run have in common.

    Attributes:
        outputs: the formats.
        formats: as from `find_keypoints`.
    """

    outputs: Outputs[ConvertedOutput]
    formats: Mapping[str, str]

    @property
    def stages(self) -> Stages[Stored, Stored]:
        """The work as stages of a batch."""
        return Stages(self.load, lambda item, found: found, self.save, pixels=lambda found: len(found.keypoints) * 50)

    def load(self, item: Item) -> Stored:
        """Read the keypoints of a photograph."""
        name = self.formats[item.path]
        kind = FORMATS[name]
        try:
            if isinstance(kind, RunFormat):
                return kind.read(local(item.source), item.relative.as_posix())
            assert kind.read is not None
            return kind.read(standard_input() if item.source is None else local(item.source))
        except ItemError as error:
            raise ItemError(error.reason, path=error.path or called(item), hint=error.hint) from error
        except (ValueError, KeyError, sqlite3.Error) as error:
            raise ItemError(f"not a keypoint file of the format {name}, or damaged", path=called(item)) from error

    def save(self, item: Item, found: Stored) -> Saved:
        """Write them in every format."""
        source = self.formats[item.path]

        def writer(output: ConvertedOutput) -> Any:
            return partial(output.write, found=found, source=source)

        write_each(item, [(writer(output), one) for output, one in self.outputs.waiting(item)])
        return Saved(*found.keypoints.image_size, keypoints=len(found.keypoints))


def folder_request(request: Request, formats: Mapping[str, str]) -> Request:
    """The request for files of each photograph: OUT is a folder if an input holds many photographs.

    Raises:
        UsageError: it has the name of a file.
    """
    if not any(isinstance(FORMATS[name], RunFormat) for name in formats.values()):
        return request
    if is_file_name(request.out):
        count = len(request.found)
        raise UsageError(
            f"is one file, and {count} photographs are in the input", path=request.out, hint="name a folder"
        )
    return replace(request, output=f"{request.out}{os.sep}")
