"""hloc's HDF5: one file for all photographs, as hloc's matchers and its import into COLMAP read it.

A group for each photograph under its path ("town/doors.jpg", so slashes nest groups) with `keypoints` (N, 2), origin at
the centre of the top-left pixel (hloc adds COLMAP's 0.5 itself), `descriptors` (128, N), transposed, `scores` (N,),
`scales` (N,) sigma in pixels, `oris` (N,) degrees, clockwise, and `image_size` (2,), width and height. All floats are
float32: in float16, hloc's default, coordinates at x = 3000 are rounded to steps of 2 pixels. The attribute `idsr` of a
group records how it was made.

Changes are made in a copy, which replaces the old file in one step: if the process is killed, the old file remains.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import UsageError
from idsr_cli.files.atomic import atomic_path
from idsr_cli.formats.entry import Entry
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import h5py

_META = "idsr"
# Value that hloc's own SIFT writes; hloc's import into COLMAP weights observations by it.
_UNCERTAINTY = 1.0


def load() -> None:
    """Load h5py; `ImportError` if it is not there."""
    import h5py  # noqa: F401


def contents(path: Path) -> dict[str, Mapping[str, Any] | None]:
    """Names of the photographs in a file, and what each was made with.

    Raises:
        UsageError: it is not an HDF5 file.
    """
    import h5py

    found: dict[str, Mapping[str, Any] | None] = {}

    def visit(name: str, node: object) -> None:
        if isinstance(node, h5py.Group) and "keypoints" in node and "descriptors" in node:
            text = node.attrs.get(_META)
            found[name] = json.loads(text) if text is not None else None

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError as error:
        raise UsageError("not an HDF5 file, or damaged, or in use", path=path, hint="choose another OUT") from error
    return found


def add(path: Path, entries: Sequence[Entry]) -> None:
    """Add photographs to the file `path`, or replace them there.

    Raises:
        OSError: the file cannot be written.
        ItemError: keypoints cannot be read.
    """
    import h5py

    with atomic_path(path) as temporary:
        if path.exists():
            shutil.copyfile(path, temporary)
        else:
            temporary.unlink()  # to h5py an empty file is a damaged one
        with h5py.File(temporary, "a") as file:
            for entry in entries:
                if entry.name in file:
                    del file[entry.name]
                _write(file.create_group(entry.name), entry.keypoints(), entry.meta)


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
