"""From the inputs on the command line to a list of files to read and write, before anything is read or written.

Every mistake that can be seen without opening a photograph is found here: a missing input, two photographs that want
the same output, an output that would replace an input, a folder of photographs that would grow while it is being read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from idsr_cli.errors import UsageError

PIPE = "-"
Existing = Literal["skip", "overwrite", "error"]

# What counts as a photograph when a folder is searched. A file named on the command line is taken whatever its name.
PHOTO_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .tif .tiff .webp .bmp .dib .ppm .pgm .pnm .jp2 .j2k .avif .tga".split()
)


@dataclass(frozen=True)
class Item:
    """One photograph to process.

    Attributes:
        source: file to read; None = standard input.
        target: file to write; None = standard output, or nothing if `problem` is set.
        relative: where the photograph lies below its input folder; its bare name if it was named itself.
        done: the target is there already and is to be kept.
        problem: why this input cannot be processed, already known ("permission denied" for a folder), or "".
    """

    source: Path | None
    target: Path | None
    relative: PurePath
    done: bool = False
    problem: str = ""

    @property
    def name(self) -> str:
        """The source as the user knows it."""
        return PIPE if self.source is None else str(self.source)


@dataclass(frozen=True)
class Naming:
    """How a command names its outputs.

    Attributes:
        rename: relative path of the photograph -> relative path of its output.
        file_suffixes: a single OUT with one of these suffixes is a file; any other OUT is a folder.
        makes_photos: outputs look like inputs, so OUT must not lie inside an input folder.
    """

    rename: Callable[[PurePath], PurePath]
    file_suffixes: frozenset[str]
    makes_photos: bool


def make_plan(inputs: Sequence[str], output: str, naming: Naming, existing: Existing = "skip") -> list[Item]:
    """Expand `inputs` and give each photograph its output.

    Args:
        inputs: files, folders (searched recursively; hidden entries are passed over), or "-" alone.
        output: a folder, a file if there is one input file, or "-" (standard output).
        naming: names the outputs.
        existing: what to do with outputs that exist: keep them, replace them, or refuse to start.

    Returns:
        Items in natural order within each input ("2.jpg" before "10.jpg"), inputs in the order given.

    Raises:
        UsageError: nothing can be started; the message says what to change.
    """
    if not inputs:
        raise UsageError("no input given")
    if PIPE in inputs:
        return [_pipe_item(inputs, output, naming, existing)]
    found = _expand(inputs)
    if not found:
        looked = " ".join(sorted(PHOTO_SUFFIXES))
        raise UsageError("no photographs found", path=", ".join(inputs), hint=f"looked for {looked}")
    if output == PIPE:
        if len(found) > 1 or Path(inputs[0]).is_dir():
            raise UsageError("`-o -` writes one photograph, and the input is more than one file")
        return [Item(found[0].source, None, found[0].relative)]
    items = _aim(inputs, found, output, naming)
    _check_inside(inputs, output, naming)
    _check_targets(items)
    return _settle(items, existing)


def _pipe_item(inputs: Sequence[str], output: str, naming: Naming, existing: Existing) -> Item:
    if len(inputs) > 1:
        raise UsageError("`-` (standard input) stands alone: it is one photograph")
    relative = PurePath("stdin")
    if output == PIPE:
        return Item(None, None, relative)
    if _is_folder_name(output, naming):
        raise UsageError(
            "standard input has no name, so OUT must be a file or `-`",
            path=output,
            hint=f"give it a suffix: {' '.join(sorted(naming.file_suffixes))}",
        )
    target = Path(output)
    _check_writable(target.parent)
    return _settle([Item(None, target, relative)], existing)[0]


def _is_folder_name(output: str, naming: Naming) -> bool:
    if output.endswith(("/", os.sep)) or os.path.isdir(output):
        return True
    return PurePath(output).suffix.lower() not in naming.file_suffixes


# --- inputs ----------------------------------------------------------------------------------------------------------


def _expand(inputs: Sequence[str]) -> list[Item]:
    items: list[Item] = []
    seen: set[str] = set()
    for text in inputs:
        path = Path(text)
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise UsageError("no such file or folder", path=text) from None
        except OSError as error:
            raise UsageError((error.strerror or str(error)).lower(), path=text) from None
        if stat.S_ISDIR(mode):
            new = list(_walk(path, PurePath(), frozenset()))
        else:
            new = [Item(path, None, PurePath(path.name))]
        for item in new:
            # The same file given twice (`a.jpg a.jpg`, or `photos photos/a.jpg`) is one item.
            key = os.path.abspath(item.name)
            if key not in seen:
                seen.add(key)
                items.append(item)
    return items


def _walk(folder: Path, relative: PurePath, parents: frozenset[tuple[int, int]]) -> Iterator[Item]:
    try:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        # A link back to a folder that we are inside of would never end. The chain of parents is enough to see it, and
        # still lets two links show the same photographs under two names.
        if here in parents:
            return
        with os.scandir(folder) as entries:
            names = sorted((entry.name for entry in entries), key=natural_key)
    except OSError as error:
        yield Item(folder, None, relative, problem=(error.strerror or str(error)).lower())
        return
    for name in names:
        if name.startswith("."):
            continue
        path = folder / name
        if path.is_dir():
            yield from _walk(path, relative / name, parents | {here})
        elif path.suffix.lower() in PHOTO_SUFFIXES and (path.is_file() or path.is_symlink()):
            # A link that leads nowhere is taken along, so that it is reported instead of quietly missing.
            yield Item(path, None, relative / name)


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key in which numbers count as numbers: img2 < img10; ties are broken by the plain text."""
    # split() with a group alternates text and digits, so keys always compare text with text.
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


# --- outputs ---------------------------------------------------------------------------------------------------------


def _aim(inputs: Sequence[str], found: list[Item], output: str, naming: Naming) -> list[Item]:
    single = len(inputs) == 1 and not Path(inputs[0]).is_dir()
    if single and not _is_folder_name(output, naming):
        _check_writable(Path(output).parent)
        return [Item(found[0].source, Path(output), found[0].relative)]
    root = Path(output)
    if root.exists() and not root.is_dir():
        raise UsageError("OUT is a file, but the input needs a folder", path=output)
    _check_writable(root)
    return [
        item if item.problem else Item(item.source, root / naming.rename(item.relative), item.relative)
        for item in found
    ]


def _check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before work starts."""
    nearest = Path(os.path.abspath(folder))
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UsageError("is a file, so no folder can be made there", path=nearest)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError("permission denied: cannot write there", path=nearest)


def _check_inside(inputs: Sequence[str], output: str, naming: Naming) -> None:
    if naming.makes_photos:
        guard_folder(inputs, output)


def guard_folder(inputs: Sequence[str], output: str) -> None:
    """Refuse an output folder that is an input folder or lies inside one.

    A second run would take the first run's outputs for photographs.

    Raises:
        UsageError: it is.
    """
    target = Path(os.path.realpath(output))
    for text in inputs:
        source = Path(os.path.realpath(text))
        # By path components, not by text: `in/outdoor` is not inside `in/out`.
        if source.is_dir() and (target == source or source in target.parents):
            reason = "is the input folder" if target == source else f"lies inside the input folder `{text}`"
            raise UsageError(f"OUT {reason}", path=output, hint="choose a folder outside it")


def _check_targets(items: list[Item]) -> None:
    sources = {os.path.realpath(item.source): item.name for item in items if item.source and not item.problem}
    taken: dict[str, str] = {}
    for item in items:
        if item.target is None:
            continue
        key = os.path.normcase(os.path.realpath(item.target))
        if key in sources:
            raise UsageError(
                "the output would replace the input photograph", path=item.target, hint="choose another OUT"
            )
        if key in taken:
            raise UsageError(
                f"two photographs want this output: `{taken[key]}` and `{item.name}`",
                path=item.target,
                hint="process them into separate folders",
            )
        taken[key] = item.name


def _settle(items: list[Item], existing: Existing) -> list[Item]:
    there = [item for item in items if item.target is not None and os.path.lexists(item.target)]
    for item in there:
        if item.target is not None and item.target.is_dir():
            raise UsageError("is a folder, and a file of that name is to be written", path=item.target)
    if existing == "error" and there:
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UsageError(
            f"exists already{more}", path=there[0].target, hint="use `--existing skip` or `--existing overwrite`"
        )
    if existing != "skip":
        return items
    keep = {id(item) for item in there}
    return [Item(i.source, i.target, i.relative, done=True) if id(i) in keep else i for i in items]
