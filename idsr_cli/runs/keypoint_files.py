"""Where the keypoints of a run go: a file per photograph, or one file for all of them.

A `KeypointSink` is used in this order: `plan`, `check`, `write` for each photograph, `finish`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from idsr_cli.errors import UsageError
from idsr_cli.files.volume import is_special
from idsr_cli.formats import FORMATS, FileFormat, RunFormat
from idsr_cli.formats.colmap_db import Cameras
from idsr_cli.formats.descriptors import DescriptorKind
from idsr_cli.keypoints import Keypoints
from idsr_cli.runs.frames import frames_naming, index_name
from idsr_cli.runs.listener import Listener
from idsr_cli.runs.one_file import OneFile, check_library, run_path
from idsr_cli.runs.plan import PIPE, Item, Naming, is_file_name
from idsr_cli.runs.process import Write
from idsr_cli.runs.request import Request
from idsr_cli.runs.stamps import Stamps


class KeypointSink(Protocol):
    """Plans, writes and completes the keypoint files of a run.

    Attributes:
        kind: the format that each photograph is written in first.
        stamps: the record of the output folder; set by `check`.
    """

    kind: FileFormat
    stamps: Stamps

    def plan(self) -> list[Item]:
        """Each photograph and its output.

        Raises:
            UsageError: nothing can be started.
        """

    def check(
        self, items: Sequence[Item], settings: Mapping[str, Any], own: Callable[[Item], Mapping[str, Any]]
    ) -> list[Item]:
        """The same items, with `stale` set, and `done` where earlier work can be used.

        Args:
            items: the plan.
            settings: everything that decides what is in a file, as JSON values; "descriptors" is their kind.
            own: further settings of an item.
        """

    def write(
        self, item: Item, keypoints: Keypoints, meta: Mapping[str, Any], have: DescriptorKind = "sift_u8"
    ) -> None:
        """Write the keypoints of a photograph. Any thread.

        Args:
            item: the photograph.
            keypoints: its keypoints, with descriptors of the kind `have`.
            meta: how they were made.
            have: see there.

        Raises:
            ItemError: a number is NaN or infinite, or the kind to write cannot be made of that.
        """

    def written(self, item: Item) -> None:
        """Another process has written the keypoints of a photograph."""

    def finish(self, items: Sequence[Item]) -> None:
        """All photographs are done, or the run was interrupted."""


class FilePerPhoto:
    """Writes a file for each photograph, and for each frame of a clip.

    Args:
        kind: format of the files.
        request: what was asked for.
        write: writes bytes to a file or to standard output.
        command: name of the command, for the record.
    """

    def __init__(self, kind: FileFormat, request: Request, write: Write, command: str = "sift") -> None:
        self.kind = kind
        self.stamps = Stamps(None, {})
        self._request = request
        self._write = write
        self._command = command
        self._naming = keypoint_naming(kind)

    def plan(self) -> list[Item]:
        return self._request.plan(self._naming)

    def check(
        self, items: Sequence[Item], settings: Mapping[str, Any], own: Callable[[Item], Mapping[str, Any]]
    ) -> list[Item]:
        kind = f"{self._command}{self.kind.suffix}"
        self.stamps = self._request.stamps(self._naming, self._command, settings, own, kind)
        return self.stamps.check(items)

    def write(
        self, item: Item, keypoints: Keypoints, meta: Mapping[str, Any], have: DescriptorKind = "sift_u8"
    ) -> None:
        self._write(item.target, self.kind.encode(keypoints, meta, have))

    def written(self, item: Item) -> None:
        pass

    def finish(self, items: Sequence[Item]) -> None:
        pass


def keypoint_sink(
    name: str,
    request: Request,
    write: Write,
    listener: Listener,
    command: str = "sift",
    photos: Path | Literal["inputs"] | None = "inputs",
    cameras: Cameras | None = None,
) -> KeypointSink:
    """The sink of a format.

    Args:
        name: of the format, a key of `FORMATS`.
        request: what was asked for.
        write: writes bytes to a file or to standard output.
        listener: told when a common file is being written.
        command: name of the command, for the records.
        photos: folder of the photographs, for formats that look at them; None = there is none.
        cameras: which photographs share a camera, for formats with cameras; None = as by default.

    Raises:
        UsageError: OUT is missing or cannot be such a file, or the format's library cannot be loaded.
    """
    kind = FORMATS[name]
    if isinstance(kind, FileFormat):
        return FilePerPhoto(kind, request, write, command)
    check_library(name, kind)
    if cameras is not None and kind.cameras:
        kind = replace(kind, add=partial(kind.add, cameras=cameras))
    return OneFile(name, kind, run_path(request.out, kind), request, write, listener, command, photos)


def check_cameras(names: Sequence[str], cameras: Cameras | None) -> None:
    """Refuse a choice of cameras for formats that hold none.

    Raises:
        UsageError: there is a choice, and none of the formats `names` has cameras.
    """
    if cameras is None or any(isinstance(kind := FORMATS[name], RunFormat) and kind.cameras for name in names):
        return
    raise UsageError(
        f"`--format {names[0]}` holds no cameras: `--camera-mode` and `--camera-model` have no effect",
        hint="`--format colmap-db` has them",
    )


def check_out_of_several(names: Sequence[str], request: Request) -> None:
    """Several formats go to one folder: files of each photograph, which differ in their suffixes, or common files.

    Args:
        names: of the formats.
        request: what was asked for.

    Raises:
        UsageError: there are several, and OUT is no folder.
    """
    if len(names) < 2:
        return
    several = f"{len(names)} formats are asked for"
    if request.out == PIPE:
        raise UsageError(f"{several}, which do not fit into one pipe", hint="add `-o FOLDER`")
    if request.inputs == [PIPE]:
        raise UsageError(f"{several}, and standard input has no name to call their files by", hint="name the file")
    if is_file_name(request.out) or is_special(request.out):
        raise UsageError(f"is one file, and {several}", path=request.out, hint="name a folder")


def keypoint_naming(kind: FileFormat) -> Naming:
    """The format's suffix is appended to the whole name, so that x.jpg and x.png never collide."""
    return frames_naming(
        Naming(
            lambda relative: relative.with_name(relative.name + kind.suffix),
            frozenset({kind.suffix}),
            makes_photos=False,
            options=_format_options(),
        ),
        index_name(kind.suffix),
    )


def _format_options() -> dict[str, tuple[str, bool]]:
    """For `Naming.options`: each format's suffix -> its option, and whether one file takes many photographs."""
    options: dict[str, tuple[str, bool]] = {}
    for name, kind in FORMATS.items():
        if isinstance(kind, RunFormat):
            options |= dict.fromkeys(kind.suffixes, (f"--format {name}", True))
        else:
            options[kind.suffix] = (f"--format {name}", False)
    return options


def descriptor_kind(name: str, wanted: DescriptorKind | None) -> DescriptorKind:
    """The kind of descriptors that a format gets; None = its default.

    Raises:
        UsageError: the format cannot hold the kind that is wanted.
    """
    kinds = FORMATS[name].kinds
    if wanted is not None and wanted not in kinds:
        raise UsageError(
            f"`--format {name}` cannot hold `--descriptors {wanted}`", hint=f"it takes {' or '.join(kinds)}"
        )
    return wanted or kinds[0]
