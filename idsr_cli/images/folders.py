"""The photographs of a folder: which files count, in which order, and the search through its folders."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Generic, TypeVar

from idsr_cli.errors import PairingError
from idsr_cli.files.stores import Location, StorePath

# Suffixes that count as photographs when a folder is searched, and the format written under each. A file named on the
# command line is read whatever its suffix. Formats that can only be read (GIF, PSD, ...) are not here: they need
# another output format.
SUFFIX_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
    ".jp2": "JPEG2000",
    ".j2k": "J2K",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".tga": "TGA",
}

# Pictures that a search passes over and counts: they can only be read, or not even that. Sidecars (`.xmp`, `.aae`,
# `.thm`), clips, texts and the notes of file managers are no pictures that somebody may miss.
_OTHER_PICTURES = frozenset(
    ".gif .jxl .jps .pns .psd .psb .xcf .kra .exr .hdr .pic .svg .ico .icns .pcx .pbm .pam .pfm .xbm .xpm .sgi .ras "
    ".jpf .jpx .jpm .j2c .jpc .jxr .wdp .hdp .fits .fit .fts .qoi .flif .bpg .tpic .vda .avifs .heics .heifs "
    ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .raw .rwl .dcr .kdc .mrw .x3f .3fr .fff "
    ".iiq .erf .mef .mos .gpr".split()
)
# The first bytes of pictures, for files whose names have no suffix.
_SIGNATURES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|II\*\0|MM\0\*|II\+\0|MM\0\+|RIFF....WEBP|BM....\0\0\0\0|P[1-7]\s"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51|\xff\x0a|\0\0\0\x0cJXL |8BPS|....ftyp(heic|heix|mif1|msf1|avif|avis)",
    re.DOTALL,
)


Place = TypeVar("Place", Path, StorePath)


@dataclass(frozen=True)
class Found(Generic[Place]):
    """A photograph in a folder or a store, or a folder that cannot be searched.

    Attributes:
        path: where it is.
        relative: its path below the folder that was searched.
        problem: why the folder cannot be searched ("permission denied"), or "" for a photograph.
    """

    path: Place
    relative: PurePath
    problem: str = ""


def is_photo(relative: PurePath) -> bool:
    """True if the suffix, in upper or lower case, is that of a photograph."""
    return relative.suffix.lower() in SUFFIX_FORMATS


def looks_like_picture(path: Location) -> bool:
    """True if a file that is not searched for is a picture: by its suffix, or without one by its first bytes.

    Objects of a store are not opened for this.
    """
    suffix = path.suffix.lower()
    if suffix or isinstance(path, StorePath):
        return suffix in _OTHER_PICTURES
    return begins_as_picture(_first_bytes(path))


def begins_as_picture(data: bytes) -> bool:
    """True if these are the first bytes of a picture."""
    return _SIGNATURES.match(data) is not None


def _first_bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(32)
    except OSError:
        return b""


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sort key in which numbers count as numbers: img2 < img10; ties are broken by the plain text."""
    # split() with a group alternates text and digits, so keys always compare text with text.
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def path_key(path: str) -> list[tuple[list[str | int], str]]:
    """Sort key of a path with `/`: the order in which `search_folder` finds photographs."""
    return [natural_key(part) for part in path.split("/")]


def search_folder(
    folder: Path,
    relative: PurePath | None = None,
    *,
    takes_folder: Callable[[PurePath], bool] = lambda relative: True,
    takes_file: Callable[[PurePath], bool] = is_photo,
    follow_links: bool = True,
    passed_over: Callable[[Path, PurePath], object] = lambda path, relative: None,
) -> Iterator[Found[Path]]:
    """The photographs of a folder in natural order ("2.jpg" before "10.jpg"), folder by folder, without hidden ones.

    Args:
        folder: the folder to search.
        relative: prefix of the relative paths that are found; None = no prefix.
        takes_folder: relative path of a subfolder -> True to search it too.
        takes_file: relative path of a file -> True to include it.
        follow_links: also search folders that are links. A link back to a folder that contains it is skipped.
        passed_over: called with the path and relative path of each file that is not taken.
    """
    yield from _walk(folder, relative or PurePath(), frozenset(), takes_folder, takes_file, follow_links, passed_over)


def _walk(
    folder: Path,
    relative: PurePath,
    parents: frozenset[tuple[int, int]],
    takes_folder: Callable[[PurePath], bool],
    takes_file: Callable[[PurePath], bool],
    follow_links: bool,
    passed_over: Callable[[Path, PurePath], object],
) -> Iterator[Found[Path]]:
    try:
        status = folder.stat()
        here = (status.st_dev, status.st_ino)
        # A link back to one of the folders above would never end. Only the folders above are compared, so two links
        # may still show the same photographs under two names.
        if here in parents:
            return
        if not os.access(folder, os.R_OK | os.X_OK):  # the names may be readable although the files are not
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with os.scandir(folder) as entries:
            names = sorted((entry.name for entry in entries), key=natural_key)
    except OSError as error:
        yield Found(folder, relative, (error.strerror or str(error)).lower())
        return
    for name in names:
        if name.startswith("."):
            continue
        path, below = folder / name, relative / name
        kind = _kind(path)
        if kind == stat.S_IFDIR:
            if takes_folder(below) and (follow_links or not path.is_symlink()):
                yield from _walk(path, below, parents | {here}, takes_folder, takes_file, follow_links, passed_over)
        elif kind in (stat.S_IFREG, None):
            # Broken links are included, so that they are reported instead of skipped in silence.
            if takes_file(below):
                yield Found(path, below)
            else:
                passed_over(path, below)


def search_store(
    folder: StorePath,
    relative: PurePath | None = None,
    *,
    takes_folder: Callable[[PurePath], bool] = lambda relative: True,
    takes_file: Callable[[PurePath], bool] = is_photo,
    passed_over: Callable[[StorePath, PurePath], object] = lambda path, relative: None,
) -> Iterator[Found[StorePath]]:
    """As `search_folder`, in one listing: a store has no folders, only names with `/` in them.

    Raises:
        UsageError: the store does not answer or refuses.
    """
    names = {path: path.relative_to(folder) for path in folder.find()}
    for path, name in sorted(names.items(), key=lambda found: [natural_key(part) for part in found[1].parts]):
        if any(part.startswith(".") and part != ".." for part in name.parts):
            continue
        below = (relative or PurePath()) / name
        above = below.parents[: len(name.parts) - 1]
        if not all(takes_folder(parent) for parent in above):
            continue
        if takes_file(below):
            yield Found(path, below)
        else:
            passed_over(path, below)


def _kind(path: Path) -> int | None:
    """File type behind a path, a constant of `stat`; None if it cannot be determined."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return None


def photos_in(folder: Path) -> list[Path]:
    """All photographs of a folder tree in natural order of their paths; hidden files and linked folders are skipped.

    Raises:
        PairingError: not a folder, or no photograph in it.
    """
    if not folder.is_dir():
        raise PairingError("no such folder", path=folder)
    found = [photo for photo in search_folder(folder, follow_links=False) if not photo.problem]
    if not found:
        raise PairingError("no photographs in this folder", path=folder, hint=f"looked for {' '.join(SUFFIX_FORMATS)}")
    return [photo.path for photo in sorted(found, key=lambda photo: natural_key(photo.relative.as_posix()))]
