"""Finding rainy/clean pairs in the usual layouts of data sets.

* two folders with equal relative names (the suffix may differ);
* Rain1400: rainy `901_1.jpg` .. `901_14.jpg` with clean `901.jpg`;
* Rain100: rainy `rain-001.png` or `norain-1x2.png` with clean `norain-001.png` or `norain-1.png`;
* SPA: rainy `001.png` with clean `001gt.png`; rainy `0_rain.png` with clean `0_clean.png`;
* one folder for both with these names, as RainTrainL keeps `rain-1`, `norain-1` and `rainstreak-1` together;
* side by side in one file (Rain800, Rain1200), the clean half left or right;
* a list file, one pair a line: `rainy clean`, separated by a tab, or by a space if no name contains one.

A pair of a file with itself, under one name or two, would score as perfect, so it is refused; so is a rainy photograph
that comes twice, and a partner that could be one of two files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING

from idsr_cli.errors import PairingError, UsageError
from idsr_cli.images.folders import is_photo, photos_in
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
        PairingError: photographs that cannot be paired, or that come twice.
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
    check_distinct(found)
    return found


def check_distinct(pairs: Sequence[Pair], *, whole: bool = False) -> None:
    """Refuse a pair of a file with itself, and a rainy photograph that comes twice, also where two links show one file.

    Args:
        pairs: the pairs; a file with both halves side by side is no pair with itself.
        whole: a rainy photograph may come again with another clean one.

    Raises:
        PairingError: names both.
    """
    seen: dict[object, Pair] = {}
    for pair in pairs:
        rainy, clean = _identity(pair.rainy), _identity(pair.clean)
        if not pair.clean_side and rainy == clean:
            same = "itself" if pair.rainy == pair.clean else f"itself: {pair.clean} is the same file"
            raise PairingError(f"is paired with {same}", path=pair.rainy, hint="give its clean version")
        first = seen.setdefault((rainy, clean) if whole else rainy, pair)
        if first is not pair:
            same = "" if first.rainy == pair.rainy else f": {first.rainy} is the same file"
            raise PairingError(f"is listed twice{same}", path=pair.rainy, hint="each photograph counts once")


def _identity(path: Path) -> object:
    """The same for all names and links of one file."""
    try:
        status = path.stat()
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def pairs_in_folders(rainy: Path, clean: Path) -> list[Pair]:
    """Every photograph under `rainy` with its clean version under `clean`, which may be the same folder.

    In one folder, photographs without a partner are an error unless they are themselves the partner of another, or
    streak layers (`rainstreak-1`).

    Raises:
        PairingError: a rainy photograph has no clean version, or two that could be meant; names both files.
    """
    known = _Names.of_photos(clean)
    together = rainy.samefile(clean) if rainy.is_dir() else False
    pairs, alone = [], []
    for path in photos_in(rainy):
        relative = path.relative_to(rainy)
        match = known.partner(relative, clean / relative if together else None)
        if match is None:
            alone.append(path)
        else:
            pairs.append(Pair(path, match, relative=relative.as_posix()))
    if together:
        partners = {pair.clean.relative_to(clean) for pair in pairs}
        pairs = [pair for pair in pairs if pair.rainy.relative_to(rainy) not in partners]
        if not pairs:
            raise PairingError(
                "--rainy and --clean are one folder, and no names in it tell which is which", path=rainy,
                hint="recognised: rain-1 and norain-1, 1 and 1gt, 1_rain and 1_clean; or give pairs with --list",
            )  # fmt: skip
        alone = [
            path
            for path in alone
            if path.relative_to(rainy) not in partners and not re.match(r"rain-?streak", path.name, re.IGNORECASE)
        ]
    if alone:
        relative = alone[0].relative_to(rainy)
        names = [name for level in _clean_names(relative) for name in level]
        raise PairingError(
            f"has no clean version: looked for {clean / relative}", path=alone[0],
            hint=f"also under the names {', '.join(dict.fromkeys(n for n in names[1:] if n != names[0]))}",
        )  # fmt: skip
    check_distinct(pairs)
    return pairs


def images_for(pairs: Sequence[Pair], folder: Path) -> list[Path]:
    """Another method's image for each pair, by the rainy file's name below `folder`; the suffix may differ.

    Raises:
        PairingError: one is missing.
    """
    known = _Names.of_photos(folder)
    images = []
    for pair in pairs:
        name = Path(PurePosixPath(pair.name))
        match = known.first(name, _with_and_without_suffix(name))
        if match is None:
            raise PairingError(f"no image for {pair.rainy}", path=folder, hint=f"looked for {folder / name}")
        images.append(match)
    return images


def names_for(pairs: Sequence[Pair], names: Sequence[str], source: Path, *, clean: bool = False) -> list[str]:
    """The name of each pair's photograph among the names of files that belong to photographs; the suffix may differ.

    Args:
        pairs: the pairs.
        names: relative names with "/", with or without the suffix of a photograph.
        source: where the files are, for messages.
        clean: of the clean photographs, by their own names or by the rainy ones, instead of the rainy photographs.

    Raises:
        PairingError: some are missing, or one could be one of two.
    """
    known = _Names((PurePosixPath(name), Path(name)) for name in names)
    found: list[str] = []
    missing: list[Path] = []
    photograph_of: dict[str, Path] = {}
    for pair in pairs:
        path = pair.clean if clean else pair.rainy
        rainy = Path(PurePosixPath(pair.name))
        levels = [*_ends(pair.clean), *_clean_names(rainy)] if clean else _with_and_without_suffix(rainy)
        match = known.first(rainy, levels)
        if match is None:
            missing.append(path)
            continue
        found.append(match.as_posix())
        other = photograph_of.setdefault(found[-1], path)
        if other != path:
            raise PairingError(
                f"`{found[-1]}` could be {other} or {path}", path=source, hint="keep the folders of the photographs"
            )
    if missing:
        more = f" and of {len(missing) - 1} more" if len(missing) > 1 else ""
        raise PairingError(
            f"no keypoints of {missing[0]}{more}",
            path=source,
            hint="files go by the photograph's name: x.jpg.npz, x.npz",
        )
    return found


def _with_and_without_suffix(relative: PurePath) -> list[list[str]]:
    return [[relative.as_posix()], [relative.with_suffix("").as_posix()]]


def _ends(path: Path) -> Iterator[list[str]]:
    """Relative names that a file may have below some folder of its path, the longest first."""
    parts = path.parts
    for start in range(len(parts)):
        yield from _with_and_without_suffix(PurePosixPath(*parts[start:]))


class _Names:
    """Files, found by relative name with or without the suffix of a photograph."""

    def __init__(self, files: Iterable[tuple[PurePath, Path]]) -> None:
        self._found: dict[str, list[Path]] = {}
        for relative, path in files:
            names = {relative.as_posix(): None}
            if is_photo(relative):
                names[relative.with_suffix("").as_posix()] = None
            for name in names:
                self._found.setdefault(name, []).append(path)

    @classmethod
    def of_photos(cls, folder: Path) -> _Names:
        """The photographs of a folder tree."""
        return cls((path.relative_to(folder), path) for path in photos_in(folder))

    def partner(self, rainy: Path, itself: Path | None) -> Path | None:
        """The clean version of the rainy photograph at this relative path, or None.

        Args:
            rainy: below its folder.
            itself: the same photograph in this folder, if rainy and clean photographs are in one; it is never taken.
        """
        levels = list(_clean_names(rainy))
        # In one folder equal names tell nothing: 1.jpg and 1.png may both be rainy.
        return self.first(rainy, levels[-1:] if itself else levels, itself)

    def first(self, rainy: Path, levels: Iterable[list[str]], itself: Path | None = None) -> Path | None:
        """The only photograph with a name of the first level that has one.

        Raises:
            PairingError: there are two.
        """
        for level in levels:
            found = dict.fromkeys(path for name in level for path in self._found.get(name, ()) if path != itself)
            if len(found) > 1:
                first, second = list(found)[:2]
                raise PairingError(
                    f"could be paired with {first} or with {second}", path=rainy, hint="keep one of them, or use --list"
                )
            if found:
                return next(iter(found))
        return None


def _clean_names(relative: Path) -> Iterator[list[str]]:
    """Names of the clean version, with or without suffix; those of one level are equally likely."""
    yield [relative.as_posix()]
    bare = relative.with_suffix("").as_posix()
    yield [bare]
    head, slash, tail = bare.rpartition("/")
    names = []
    if match := re.fullmatch(r"(.+)_\d+", tail):  # Rain1400
        names.append(match[1])
    if match := re.fullmatch(r"((?:no)?rain-?\d+)x\d+", tail):  # Rain100, the strength of its rain
        names.append(match[1] if tail.startswith("no") else f"no{match[1]}")
    if re.match(r"rain-?\d", tail):  # Rain100
        names.append(f"no{tail}")
    if re.fullmatch(r"[^_]*\d", tail):  # SPA
        names.append(f"{tail}gt")
    if match := re.fullmatch(r"(.+[-_])rain(y?)", tail):
        names += [f"{match[1]}clean", f"{match[1]}norain"]
    yield [f"{head}{slash}{name}" for name in names]


def pairs_side_by_side(folder: Path, clean_side: str) -> list[Pair]:
    """Every photograph under `folder` as a pair of halves; `clean_side` is "left" or "right".

    Raises:
        PairingError: no photographs, or `clean_side` is neither.
    """
    if clean_side not in ("left", "right"):
        raise PairingError(f"unknown side `{clean_side}`", hint="use left or right")
    pairs = [Pair(path, path, clean_side, path.relative_to(folder).as_posix()) for path in photos_in(folder)]
    check_distinct(pairs)
    return pairs


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
    check_distinct(pairs, whole=True)
    return pairs
