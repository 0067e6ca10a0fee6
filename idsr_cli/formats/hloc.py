"""hloc's HDF5: one file for all photographs, as hloc's matchers and its import into COLMAP read it.

A group for each photograph under its path ("town/doors.jpg", so slashes nest groups) with `keypoints` (N, 2), origin at
the centre of the top-left pixel (hloc adds COLMAP's 0.5 itself), `descriptors` (128, N), transposed, `scores` (N,),
`scales` (N,) sigma in pixels, `oris` (N,) degrees, clockwise, and `image_size` (2,), width and height. All floats are
float32: in float16, hloc's default, coordinates at x = 3000 are rounded to steps of 2 pixels. The attribute `idsr` of a
group records how it was made.

Changes are made in a copy, which replaces the old file in one step: if the process is killed, the old file remains.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import ItemError, UsageError
from idsr_cli.files.atomic import atomic_path
from idsr_cli.formats.entry import Entry
from idsr_cli.formats.stored import Stored, stored
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import h5py

_META = "idsr"
_DIMENSIONS = 128  # of a SIFT descriptor
# Value that hloc's own SIFT writes; hloc's import into COLMAP weights observations by it.
_UNCERTAINTY = 1.0


def load() -> None:
    """Load h5py; `ImportError` if it is not there."""
    import h5py  # noqa: F401


def contents(path: Path) -> dict[str, Mapping[str, Any] | None]:
    """Names of the photographs in a file, and what each was made with.

    Raises:
        UsageError: it is not an HDF5 file, or holds features of another extractor.
    """
    import h5py

    found: dict[str, Mapping[str, Any] | None] = {}
    foreign = ""
    looked_into = False

    def visit(name: str, node: object) -> None:
        nonlocal foreign, looked_into
        if not isinstance(node, h5py.Group):
            return
        if "global_descriptor" in node:
            foreign = foreign or f"`{name}` holds a global descriptor"
        if "keypoints" in node and "descriptors" in node:
            text = node.attrs.get(_META)
            found[name] = json.loads(text) if text is not None else None
            if text is None and not foreign:
                # The numbers of one photograph are enough: those of a file come from one extractor.
                foreign = _foreign(name, node["descriptors"], look=not looked_into)
                looked_into = looked_into or bool(node["descriptors"].size)

    with _opened(path) as file:
        file.visititems(visit)
    if foreign:
        raise UsageError(f"holds features of another extractor: {foreign}", path=path)
    return found


def incomplete(path: Path) -> dict[str, str]:
    """Names of the photographs in a file that have no keypoints or no descriptors, and what they lack, in words.

    Raises:
        UsageError: it is not an HDF5 file.
    """
    import h5py

    found: dict[str, str] = {}

    def visit(name: str, node: object) -> None:
        if not isinstance(node, h5py.Group) or not any(isinstance(part, h5py.Dataset) for part in node.values()):
            return  # a folder
        missing = [f"no {part}" for part in ("keypoints", "descriptors") if part not in node]
        if missing:
            found[name] = " and ".join(missing)

    with _opened(path) as file:
        file.visititems(visit)
    return found


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise UsageError("not an HDF5 file, or damaged, or in use", path=path) from error


def _foreign(name: str, descriptors: h5py.Dataset, look: bool) -> str:
    """Why descriptors, (D, N), are not SIFT's, in words, or "".

    SIFT's are histograms: 128 numbers, none of them negative. `look` also reads them, which takes time.
    """
    shape = descriptors.shape
    if len(shape) != 2 or shape[0] != _DIMENSIONS:
        return f"the descriptors of `{name}` are {' x '.join(map(str, shape))}, not {_DIMENSIONS} x N"
    if look and shape[1] and float(descriptors[()].min()) < 0:
        return f"the descriptors of `{name}` have negative numbers, which SIFT has not"
    return ""


def add(path: Path, entries: Sequence[Entry]) -> None:
    """Add photographs to the file `path`, or replace them there.

    Raises:
        OSError: the file cannot be written.
        ItemError: keypoints cannot be read.
    """
    with _changed(path, path if path.exists() else None) as file:
        for entry in entries:
            if entry.name in file:
                del file[entry.name]
            _write(file.create_group(entry.name), entry.keypoints(), entry.meta)


def merge(path: Path, parts: Sequence[Path], base: Path | None = None) -> int:
    """Join files that `add` wrote, of different photographs, into one.

    Args:
        path: of the file to write.
        parts: the files. A photograph may be in several with the same features.
        base: a file to which the photographs of the parts are added.

    Returns:
        Number of photographs that were added; if it is 0, nothing is written.

    Raises:
        UsageError: a photograph has other features in another part.
        OSError: the file cannot be written.
    """
    import h5py

    seen = dict.fromkeys(contents(base), base) if base is not None else {}
    new: dict[Path, list[str]] = {}
    for part in parts:
        for name in contents(part):
            first = seen.setdefault(name, part)
            if first is part:
                new.setdefault(part, []).append(name)
            elif not _same_features(first, part, name):
                raise UsageError(f"`{name}` is in {first} too, with other keypoints", path=part)
    if not new:
        return 0
    with _changed(path, base) as file:
        for part, names in new.items():
            with h5py.File(part, "r") as source:
                for name in names:
                    folder, _, last = name.rpartition("/")
                    source.copy(name, file.require_group(folder) if folder else file, last)
    return sum(map(len, new.values()))


@contextmanager
def _changed(path: Path, base: Path | None) -> Iterator[h5py.File]:
    """A copy of the file `base`, or an empty one, that becomes `path` when the block ends without an exception.

    Raises:
        OSError: it cannot be written.
    """
    import h5py

    try:
        with atomic_path(path) as temporary:
            if base is not None:
                shutil.copyfile(base, temporary)
            else:
                temporary.unlink()  # to h5py an empty file is a damaged one
            with h5py.File(temporary, "a") as file:
                yield file
    except (OSError, RuntimeError) as error:
        if f"errno = {errno.ENOSPC}," not in str(error):
            raise
        # h5py raises errors of several kinds, and none has the system's number.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


def _same_features(first: Path, second: Path, name: str) -> bool:
    import h5py
    import numpy as np

    with h5py.File(first, "r") as one, h5py.File(second, "r") as other:
        return all(np.array_equal(one[name][key][()], other[name][key][()]) for key in ("keypoints", "descriptors"))


def read(path: Path, name: str) -> Stored:
    """The keypoints of a photograph in a file.

    Raises:
        ItemError: it holds no scales and orientations, as of other extractors.
        OSError: the file cannot be read.
    """
    import h5py
    import numpy as np

    with h5py.File(path, "r") as file:
        group = file[name]
        missing = [key for key in ("scales", "oris", "scores", "image_size") if key not in group]
        if missing:
            raise ItemError(f"`{name}` has no {' and no '.join(missing)}: not SIFT's keypoints", path=path)
        text = group.attrs.get(_META)
        width, height = (int(side) for side in group["image_size"][()])
        return stored(
            np.asarray(group["keypoints"][()], np.float64),
            group["scales"][()],
            group["descriptors"][()].T,
            angle=group["oris"][()],
            response=group["scores"][()],
            image_size=(width, height),
            kind="rootsift_f32",
            meta=None if text is None else json.loads(text),
        )


def _write(group: h5py.Group, keypoints: Keypoints, meta: Mapping[str, Any]) -> None:
    import numpy as np

    arrays = {
        "keypoints": keypoints.xy,
        "descriptors": keypoints.descriptors.T,
        "scores": keypoints.response,
        "scales": keypoints.scale,
        "oris": keypoints.angle,
    }
    for name, array in arrays.items():
        group.create_dataset(name, data=np.ascontiguousarray(array, np.float32))
    group.create_dataset("image_size", data=np.array(keypoints.image_size, np.int64))
    group["keypoints"].attrs["uncertainty"] = _UNCERTAINTY
    group.attrs[_META] = json.dumps(meta, sort_keys=True)
