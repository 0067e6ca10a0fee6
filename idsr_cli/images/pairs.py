"""Finding rainy/clean pairs in the usual layouts of data sets.

* two folders with equal relative names (the suffix may differ);
* Rain1400: rainy `901_1.jpg` .. `901_14.jpg` with clean `901.jpg`;
* Rain100: rainy `rain-001.png` with clean `norain-001.png`;
* side by side in one file (Rain800, Rain1200), the clean half left or right;
* a list file, one pair a line: `rainy clean`, separated by a tab, or by a space if no name contains one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from idsr_cli.errors import PairingError, UsageError
from idsr_cli.images.folders import photos_in
from idsr_cli.images.photo import apply_orientation, read_photo

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Pair:
    """A rainy photograph and its clean version.

    Attributes:
        rainy: file of the rainy photograph.
        clean: file of the clean one; the same file if side by side.
        clean_side: "left" or "right" if both are halves of one file, else "".
        relative: the rainy file as its folder or list names it, with "/"; "" = the file name.
    """

    rainy: Path
    clean: Path
    clean_side: str = ""
    relative: str = ""

    @property
    def name(self) -> str:
        """Name of this pair, unique within its folder or list."""
        return self.relative or self.rainy.name

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """(rainy, clean), each (H, W, 3) float32 RGB in [0, 1], EXIF orientation applied, so that rain falls down.

        Raises:
            ItemError: a file cannot be read.
            PairingError: the two differ in size.
        """
        rainy = read_photo(self.rainy).oriented_rgb
        if self.clean_side:
            half = rainy.shape[1] // 2
            left, right = rainy[:, :half], rainy[:, rainy.shape[1] - half :]
            return (right, left) if self.clean_side == "left" else (left, right)
        clean = self.read_version(self.clean, rainy.shape)
        if rainy.shape != clean.shape:
            sizes = [f"{a.shape[1]}x{a.shape[0]}" for a in (rainy, clean)]
            raise PairingError(
                f"is {sizes[0]} but its clean version {self.clean} is {sizes[1]}", path=self.rainy,
                hint="pairs must be on one pixel grid",
            )  # fmt: skip
        return rainy, clean

    def read_version(self, path: Path, shape: tuple[int, ...]) -> np.ndarray:
        """Another image of the pair's scene, EXIF orientation applied.

        Many programs keep the pixels and lose the EXIF tag. If an image has no orientation and not the expected
        `shape`, the rainy photograph's orientation is applied, provided that this gives `shape`.
        """
        import numpy as np

        photo = read_photo(path)
        if photo.orientation == 1 and photo.rgb.shape != shape:
            turned = apply_orientation(photo.rgb, read_photo(self.rainy).orientation)
            if turned.shape == shape:
                return np.ascontiguousarray(turned)
        return photo.oriented_rgb


def find_pairs(
    rainy: Path | None, clean: Path | None, side_by_side: Path | None, clean_side: str, pair_list: Path | None
) -> list[Pair]:
    """All pairs that a command's options specify.

    Raises:
        UsageError: only one of --rainy and --clean is given.
        PairingError: photographs that cannot be paired.
    """
    if (rainy is None) != (clean is None):
        raise UsageError("--rainy and --clean go together")
    found: list[Pair] = []
    if rainy is not None and clean is not None:
        found += pairs_in_folders(rainy, clean)
    if side_by_side is not None:
        found += pairs_side_by_side(side_by_side, clean_side)
    if pair_list is not None:
        found += pairs_in_list(pair_list)
    return found


def pairs_in_folders(rainy: Path, clean: Path) -> list[Pair]:
    """Every photograph under `rainy` with its clean version under `clean`.

    Raises:
        PairingError: a rainy photograph has no clean version; names both files.
    """
    known = _by_name(clean)
    pairs = []
    for path in photos_in(rainy):
        relative = path.relative_to(rainy)
        names = list(_clean_names(relative))
        match = next((known[name] for name in names if name in known), None)
        if match is None:
            raise PairingError(
                f"has no clean version: looked for {clean / relative}", path=path,
                hint=f"also under the names {', '.join(dict.fromkeys(n for n in names[1:] if n != names[0]))}",
            )  # fmt: skip
        pairs.append(Pair(path, match, relative=relative.as_posix()))
    return pairs


def images_for(pairs: Sequence[Pair], folder: Path) -> list[Path]:
    """Another method's image for each pair, by the rainy file's name below `folder`; the suffix may differ.

    Raises:
        PairingError: one is missing.
    """
    known = _by_name(folder)
    images = []
    for pair in pairs:
        name = PurePosixPath(pair.name)
        match = known.get(name.as_posix()) or known.get(name.with_suffix("").as_posix())
        if match is None:
            raise PairingError(f"no image for {pair.rainy}", path=folder, hint=f"looked for {folder / name}")
        images.append(match)
    return images


def _by_name(folder: Path) -> dict[str, Path]:
    """The photographs of a folder tree by relative name, with and without suffix."""
    photos = {path.relative_to(folder): path for path in photos_in(folder)}
    return {
        **{relative.with_suffix("").as_posix(): path for relative, path in photos.items()},
        **{relative.as_posix(): path for relative, path in photos.items()},
    }


def _clean_names(relative: Path) -> Iterator[str]:
    yield relative.as_posix()
    bare = relative.with_suffix("").as_posix()
    yield bare
    if match := re.fullmatch(r"(.+)_\d+", bare):
        yield match[1]
    head, _, tail = bare.rpartition("/")
    if re.match(r"rain-?\d", tail):
        yield f"{head}/no{tail}" if head else f"no{tail}"


def pairs_side_by_side(folder: Path, clean_side: str) -> list[Pair]:
    """Every photograph under `folder` as a pair of halves; `clean_side` is "left" or "right".

    Raises:
        PairingError: no photographs, or `clean_side` is neither.
    """
    if clean_side not in ("left", "right"):
        raise PairingError(f"unknown side `{clean_side}`", hint="use left or right")
    return [Pair(path, path, clean_side, path.relative_to(folder).as_posix()) for path in photos_in(folder)]


def pairs_in_list(file: Path) -> list[Pair]:
    """The pairs of a list file; relative names are relative to the file's folder, `#` starts a comment line.

    Raises:
        PairingError: the file cannot be read, a line is not a pair, or a photograph is missing; names both files.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PairingError(f"cannot be read: {error}", path=file) from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        names = line.strip().split("\t") if "\t" in line else line.split()
        if len(names) != 2:
            raise PairingError(
                f"line {number} is no pair: {line.strip()[:80]}", path=file, hint="write `rainy<TAB>clean`"
            )
        rainy, clean = (file.parent / name.strip() for name in names)
        for path, other in ((rainy, clean), (clean, rainy)):
            if not path.is_file():
                raise PairingError(f"line {number}: no file {path} (paired with {other})", path=file)
        pairs.append(Pair(rainy, clean, relative=Path(names[0].strip()).as_posix()))
    if not pairs:
        raise PairingError("holds no pairs", path=file)
    return pairs
