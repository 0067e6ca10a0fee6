"""Keypoint files of any extractor, for reading: folders of .npz files, and hloc's HDF5.

An .npz belongs to one photograph: `x.jpg.npz` or `x.npz`. It holds `keypoints` or `xy` (N, 2 or more), of which the
first two numbers are x and y, and `descriptors` (N, D) or (D, N). Scores (`scores`, `keypoint_scores` or `response`),
scales (`scales` or `scale`) and `image_size` (width, height) are used if they are there. A first axis of length 1, as
in batches, is dropped. An HDF5 file has a group with the same arrays for each photograph, descriptors (D, N).

(0, 0) is the centre of the top-left pixel. Files of idsr say how they were made; those of other extractors do not.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from idsr_cli.errors import ItemError, UsageError, extra_hint
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np

HDF5_SUFFIXES = (".h5", ".hdf5")
_POSITIONS = ("xy", "keypoints")
_SCORES = ("response", "scores", "keypoint_scores")
_SCALES = ("scale", "scales")
# Keypoints may lie this many pixels outside the photograph: some extractors have their origin at a corner.
_MARGIN = 1.0


@dataclass(frozen=True)
class Stored:
    """The keypoints of one photograph as a file has them.

    Attributes:
        keypoints: N keypoints, by falling score if the file has scores. `descriptors` are (N, D), of the file's type;
            `scale` and `angle` are NaN, `response` is 0, where the file has none.
        meta: how idsr made them, with "descriptors" and "sift", or None if another program did.
    """

    keypoints: Keypoints
    meta: Mapping[str, Any] | None


class Store(Protocol):
    """Keypoint files of many photographs.

    Attributes:
        path: the folder or file.
        names: of the photographs, with "/"; some stores leave the photograph's suffix out.
    """

    path: Path
    names: list[str]

    def read(self, name: str, image_size: tuple[int, int]) -> Stored:
        """The keypoints of one photograph of this width and height.

        Raises:
            ItemError: they cannot be read, or cannot be keypoints of such a photograph.
        """


def open_store(path: Path) -> Store:
    """The keypoints in a folder of .npz files, in an HDF5 file, or in a folder with one HDF5 file.

    Raises:
        UsageError: there are none, the HDF5 file is damaged, or h5py is not installed.
    """
    if path.suffix.lower() in HDF5_SUFFIXES and path.is_file():
        return Hdf5(path)
    if not path.is_dir():
        reason = "is neither a folder nor an HDF5 file" if path.exists() else "no such folder or file"
        raise UsageError(reason, path=path, hint="give a folder of .npz files, or hloc's features.h5")
    folder = NpzFolder(path)
    if folder.names:
        return folder
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in HDF5_SUFFIXES)
    if len(files) == 1:
        return Hdf5(files[0])
    raise UsageError(
        f"holds {len(files)} HDF5 files" if files else "holds no keypoint files", path=path,
        hint=f"name one of them: {files[0]}" if files else "looked for .npz, .h5, .hdf5",
    )  # fmt: skip


class NpzFolder:
    """A folder tree of .npz files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        files = (file.relative_to(path) for file in sorted(path.rglob("*.npz")) if file.is_file())
        self.names = [file.as_posix().removesuffix(".npz") for file in files]

    def read(self, name: str, image_size: tuple[int, int]) -> Stored:
        import numpy as np

        path = self.path / f"{name}.npz"
        with _errors_of(path), path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
            meta = json.loads(str(arrays["meta"])) if "meta" in arrays else None
        return _stored(arrays, _own(meta), image_size, path, transposed=False)


class Hdf5:
    """hloc's HDF5 file."""

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError as error:
            raise UsageError("reading it needs h5py", path=path, hint=extra_hint("hloc")) from error
        self.path = path
        self.names: list[str] = []

        def visit(name: str, node: object) -> None:
            if isinstance(node, h5py.Group) and "keypoints" in node:
                self.names.append(name)

        try:
            with h5py.File(path, "r") as file:
                file.visititems(visit)
        except OSError as error:
            raise UsageError("not an HDF5 file, or damaged, or in use", path=path) from error
        if not self.names:
            raise UsageError("holds no keypoints", path=path, hint="hloc has a group with `keypoints` per photograph")

    def read(self, name: str, image_size: tuple[int, int]) -> Stored:
        import h5py

        where = f"{self.path}, {name}"
        with _errors_of(where), h5py.File(self.path, "r") as file:
            group = file[name]
            arrays = {key: node[()] for key, node in group.items() if isinstance(node, h5py.Dataset)}
            text = group.attrs.get("idsr")
            meta = None if text is None else json.loads(text)
        return _stored(arrays, _own(meta), image_size, where, transposed=True)


@contextmanager
def _errors_of(where: object) -> Iterator[None]:
    """Every failure to read a file becomes an `ItemError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror.lower() if error.strerror else "damaged, or no keypoint file"
        raise ItemError(reason, path=where) from error
    except (AttributeError, KeyError, ValueError, EOFError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
        raise ItemError("damaged, or no keypoint file", path=where) from error


def _own(meta: Any) -> Mapping[str, Any] | None:
    """What idsr writes about its keypoints; None if another program wrote it."""
    made_here = isinstance(meta, dict) and isinstance(meta.get("sift"), dict) and "descriptors" in meta
    return meta if made_here else None


def _stored(
    arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any] | None, image_size: tuple[int, int], where: object,
    transposed: bool,
) -> Stored:  # fmt: skip
    """The arrays of one photograph, checked. `transposed`: descriptors are (D, N) unless only (N, D) fits."""
    import numpy as np

    def first(names: tuple[str, ...]) -> np.ndarray | None:
        found = next((arrays[name] for name in names if name in arrays), None)
        return None if found is None else _numbers(found, names, where)

    positions = first(_POSITIONS)
    descriptors = first(("descriptors",))
    if positions is None or descriptors is None:
        missing = "keypoints" if positions is None else "descriptors"
        raise ItemError(f"has no `{missing}`", path=where, hint=f"it has {', '.join(arrays) or 'nothing'}")
    if positions.size == 0:
        return Stored(Keypoints.empty(image_size), meta)
    if positions.ndim != 2 or positions.shape[1] < 2:
        raise ItemError(f"keypoints of shape {positions.shape} are not N x 2", path=where)
    count = len(positions)
    xy = positions[:, :2].astype(np.float32)
    scores, scales = first(_SCORES), first(_SCALES)
    columns = {
        "scores": np.zeros(count) if scores is None else scores.reshape(-1),
        "scales": np.full(count, math.nan) if scales is None else scales.reshape(-1),
    }
    for name, values in columns.items():
        if len(values) != count:
            raise ItemError(f"has {count} keypoints and {len(values)} {name}", path=where)
    rows = _rows(descriptors, count, transposed, where)
    _check_finite(xy, rows, where)
    _check_inside(xy, arrays.get("image_size"), image_size, where)
    whole = np.zeros(count, np.int32)
    unknown = np.full(count, math.nan, np.float32)
    keypoints = Keypoints(
        xy, columns["scales"].astype(np.float32), unknown, columns["scores"].astype(np.float32), whole, whole, rows,
        image_size,
    )  # fmt: skip
    return Stored(keypoints.select(np.argsort(-keypoints.response, kind="stable")), meta)


def _numbers(array: np.ndarray, names: tuple[str, ...], where: object) -> np.ndarray:
    """The array without the axis of a batch of one."""
    if array.dtype.kind not in "biuf":
        raise ItemError(f"`{names[-1]}` are of type {array.dtype}, not numbers", path=where)
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _rows(descriptors: np.ndarray, count: int, transposed: bool, where: object) -> np.ndarray:
    """(count, D), from either way round."""
    if descriptors.ndim == 2:
        ways = (descriptors.T, descriptors) if transposed else (descriptors, descriptors.T)
        for way in ways:
            if len(way) == count and way.shape[1] > 0:
                return way
    shape = " x ".join(map(str, descriptors.shape))
    raise ItemError(f"has {count} keypoints and descriptors of shape {shape}", path=where)


def _check_finite(xy: np.ndarray, descriptors: np.ndarray, where: object) -> None:
    import numpy as np

    for what, values in (("keypoint", xy), ("descriptor", descriptors)):
        bad = np.flatnonzero(~np.isfinite(values).all(1))
        if len(bad):
            raise ItemError(f"{what} {bad[0]} is NaN or infinite", path=where)


def _check_inside(xy: np.ndarray, stated: Any, image_size: tuple[int, int], where: object) -> None:
    """Raises ItemError if the keypoints are not those of a photograph of this size."""
    import numpy as np

    size = " x ".join(map(str, image_size))
    if stated is not None and np.size(stated) == 2:
        width, height = (int(side) for side in np.ravel(stated))
        if (width, height) != image_size:
            raise ItemError(f"is of a photograph of {width} x {height} pixels, not of {size}", path=where)
    outside = np.flatnonzero(((xy < -_MARGIN) | (xy > np.array(image_size) - 1 + _MARGIN)).any(1))
    if len(outside):
        x, y = xy[outside[0]]
        raise ItemError(
            f"keypoint {outside[0]} at ({x:.1f}, {y:.1f}) is outside of the photograph of {size} pixels", path=where,
            hint="if the extractor made the photograph smaller, its keypoints have to be scaled back",
        )  # fmt: skip
