"""Keypoint files: one module per format, registered in `FORMATS`.

Most formats have one file per photograph: a writer turns keypoints and a description of how they were made (`meta`)
into the bytes of the file; equal input gives equal bytes. Two formats have one file for a whole run, to which
photographs are added. Writers convert from the conventions of `idsr_cli.keypoints` to those of their format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from idsr_cli.formats import colmap, colmap_db, hloc, lowe, npz, opencv, oxford, vlfeat
from idsr_cli.formats.descriptors import DescriptorKind, convert
from idsr_cli.formats.stored import PARTS, Part, Stored
from idsr_cli.keypoints import Keypoints

Meta = Mapping[str, Any]


@dataclass(frozen=True)
class FileFormat:
    """A way to write the keypoints of one photograph to one file.

    Attributes:
        suffix: appended to the full name of the photograph ("x.jpg" -> "x.jpg.npz").
        write: the writer; its descriptors are of the kind `meta["descriptors"]`.
        kinds: kinds of descriptors that the format's readers accept, the default first.
        read: the reader of a file or of its bytes; raises `ValueError` or `ItemError` if it is not of this format.
            None = there is none.
        holds: what of `stored.PARTS` the format has a place for.
        is_text: the file is text and can be printed on a terminal.
        like: the program whose detection the format's readers expect, a key of `extraction.LIKE`.
        most_keypoints: the most of one photograph that the format's readers match; None = any number.
    """

    suffix: str
    write: Callable[[Keypoints, Meta], bytes]
    kinds: tuple[DescriptorKind, ...]
    read: Callable[[Path | bytes], Stored] | None = None
    holds: frozenset[Part] = frozenset()
    is_text: bool = True
    like: Literal["opencv", "colmap", "hloc"] = "opencv"
    most_keypoints: int | None = None

    def encode(self, keypoints: Keypoints, meta: Meta, have: DescriptorKind = "sift_u8") -> bytes:
        """The file's bytes.

        Args:
            keypoints: with (N, 128) descriptors.
            meta: how they were made; "descriptors" is the kind to write, "sift" has the fields of `SiftOptions`.
            have: the kind of the descriptors.

        Raises:
            ItemError: a number is NaN or infinite, or the kind to write cannot be made of that.
        """
        keypoints.check_finite()
        return self.write(convert(keypoints, meta["descriptors"], have), meta)


@dataclass(frozen=True)
class RunFormat:
    """A way to write the keypoints of a whole run to one file, which other photographs may be added to later.

    Attributes:
        file_name: default name of the file, if only a folder is given.
        suffixes: allowed suffixes of such a file.
        kinds: as in `FileFormat`.
        load: imports the library that writes the file; raises `ImportError` if it is missing or too old.
        extra: the extra of idsr that installs the library.
        contents: file -> name of each complete photograph in it and the meta it was made with, None if not recorded.
            Raises `UsageError` if the file is not of this format.
        incomplete: file -> name of each photograph in it that lacks keypoints or descriptors, and what it lacks, in
            words. Raises `UsageError` as `contents`.
        add: adds photographs, a sequence of `Entry`, to a file, which is created if missing; replaces those of the same
            name. Each photograph is added completely or not at all, even if the process is killed.
        read: file and name of a photograph in it -> its keypoints.
        merge: joins files of different photographs, see `hloc.merge`.
        holds: as in `FileFormat`.
        like: as in `FileFormat`.
        most_keypoints: as in `FileFormat`.
        cameras: whether the file has cameras, so that `add` takes `Cameras` as well.
    """

    file_name: str
    suffixes: frozenset[str]
    kinds: tuple[DescriptorKind, ...]
    load: Callable[[], None]
    extra: str
    contents: Callable[[Path], dict[str, Meta | None]]
    incomplete: Callable[[Path], dict[str, str]]
    add: Callable[..., None]
    read: Callable[[Path, str], Stored]
    merge: Callable[[Path, Sequence[Path], Path | None], int]
    holds: frozenset[Part]
    like: Literal["opencv", "colmap", "hloc"] = "opencv"
    most_keypoints: int | None = None
    cameras: bool = False


def _bytes_of(decode: Callable[[bytes], Stored]) -> Callable[[Path | bytes], Stored]:
    return lambda source: decode(source if isinstance(source, bytes) else source.read_bytes())


_FRAMES: frozenset[Part] = frozenset({"angle"})


_COLMAP_MOST = 32768  # `max_num_matches` of COLMAP's matchers, which leave the others out
_HLOC_MOST = 32767  # hloc's matches are numbers of keypoints as int16

FORMATS: dict[str, FileFormat | RunFormat] = {
    "npz": FileFormat(
        ".npz",
        npz.encode,
        ("sift_u8", "rootsift_u8", "rootsift_f32"),
        npz.read_stored,
        frozenset(PARTS),
        is_text=False,
    ),
    "colmap": FileFormat(
        ".txt",
        colmap.encode,
        ("rootsift_u8", "sift_u8"),
        _bytes_of(colmap.decode),
        _FRAMES,
        like="colmap",
        most_keypoints=_COLMAP_MOST,
    ),
    "colmap-db": RunFormat(
        "database.db",
        frozenset({".db", ".sqlite", ".sqlite3"}),
        ("rootsift_u8", "sift_u8"),
        colmap_db.load,
        "colmap",
        colmap_db.contents,
        colmap_db.incomplete,
        colmap_db.add,
        colmap_db.read,
        colmap_db.merge,
        frozenset({"angle", "image size", "settings"}),
        like="colmap",
        most_keypoints=_COLMAP_MOST,
        cameras=True,
    ),
    "hloc": RunFormat(
        "features.h5",
        frozenset({".h5", ".hdf5"}),
        ("rootsift_f32",),
        hloc.load,
        "hloc",
        hloc.contents,
        hloc.incomplete,
        hloc.add,
        hloc.read,
        hloc.merge,
        frozenset({"angle", "response", "image size", "settings"}),
        like="hloc",
        most_keypoints=_HLOC_MOST,
    ),
    "opencv": FileFormat(
        ".yml",
        opencv.encode,
        ("sift_u8", "rootsift_u8", "rootsift_f32"),
        _bytes_of(opencv.decode),
        frozenset({"angle", "response", "octave"}),
    ),
    "lowe": FileFormat(".key", lowe.encode, ("sift_u8", "rootsift_u8"), _bytes_of(lowe.decode), _FRAMES),
    "vlfeat": FileFormat(".sift", vlfeat.encode, ("sift_u8", "rootsift_u8"), _bytes_of(vlfeat.decode), _FRAMES),
    "oxford": FileFormat(".oxford", oxford.encode, ("sift_u8", "rootsift_u8"), _bytes_of(oxford.decode), frozenset()),
}
