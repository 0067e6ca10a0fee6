"""idsr's own lossless format: a NumPy .npz with named arrays and a JSON description.

Arrays: xy (N,2) float32, scale, angle, response (N,) float32, octave, layer (N,) int32, descriptors (N,128) uint8,
image_size (2,) int32 (width, height), and meta, a JSON string. It loads without pickle. meta["descriptors"] is the kind
of the descriptors; those of rootsift_f32 are float32.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import ItemError
from idsr_cli.formats.descriptors import MEANINGS
from idsr_cli.formats.stored import PARTS, Stored
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np

CONVENTIONS = {
    "origin": "(0, 0) is the centre of the top-left pixel of the image as stored; EXIF orientation is not applied",
    "xy": "pixels, x to the right, y down",
    "scale": "sigma in pixels (half of OpenCV's size)",
    "angle": "degrees, clockwise on screen, from +x towards +y",
    "response": "absolute interpolated difference of Gaussians, grey in 0..1",
    "octave": "-1 is the doubled image, 0 the image itself",
}

_DTYPES = {
    "xy": "<f4",
    "scale": "<f4",
    "angle": "<f4",
    "response": "<f4",
    "octave": "<i4",
    "layer": "<i4",
}
# By kind. Old files do not state the kind; theirs is sift_u8.
_DESCRIPTOR_DTYPES = {"sift_u8": "u1", "rootsift_u8": "u1", "rootsift_f32": "<f4"}


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes; equal keypoints and meta give equal bytes. `meta["descriptors"]` is the descriptors' kind."""
    import numpy as np

    kind = meta["descriptors"]
    conventions = {**CONVENTIONS, "descriptors": MEANINGS[kind]}
    arrays = {name: np.ascontiguousarray(getattr(keypoints, name), dtype) for name, dtype in _DTYPES.items()}
    arrays["descriptors"] = np.ascontiguousarray(keypoints.descriptors, _DESCRIPTOR_DTYPES[kind])
    arrays["image_size"] = np.array(keypoints.image_size, "<i4")
    arrays["meta"] = np.array(json.dumps({"schema": 1, **meta, "conventions": conventions}, sort_keys=True))
    return pack(arrays)


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an .npz with these arrays; equal arrays give equal bytes."""
    import numpy as np

    stream = io.BytesIO()
    # numpy.savez stamps the time into the archive; a fixed date (zip's first) makes two runs byte-identical.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return stream.getvalue()


def read_npz(path: Path | str) -> tuple[Keypoints, dict[str, Any]]:
    """Read what `encode` wrote.

    Returns:
        The keypoints, with descriptors of the kind `meta["descriptors"]` ("sift_u8" if missing), and meta.

    Raises:
        ItemError: the file cannot be read or is not a keypoint file of idsr.
    """
    return _read(path)


def _read(source: Path | str | bytes) -> tuple[Keypoints, dict[str, Any]]:
    """`read_npz` of a file or of its bytes."""
    with _opened(source) as (data, meta):
        arrays = {name: data[name].astype(dtype, copy=False) for name, dtype in _DTYPES.items()}
        dtype = _DESCRIPTOR_DTYPES[meta.get("descriptors", "sift_u8")]
        arrays["descriptors"] = data["descriptors"].astype(dtype, copy=False)
        width, height = (int(side) for side in data["image_size"])
        count = len(arrays["xy"])
        shapes = {"xy": (count, 2), "descriptors": (count, 128)}
        if any(array.shape != shapes.get(name, (count,)) for name, array in arrays.items()) or min(width, height) < 1:
            raise ValueError("arrays that do not go together")
        return Keypoints(image_size=(width, height), **arrays), meta


def read_stored(source: Path | bytes) -> Stored:
    """The keypoints of a file or of its bytes, with what it says of them; errors as in `read_npz`."""
    keypoints, meta = _read(source)
    return Stored(keypoints, frozenset(PARTS), meta.get("descriptors", "sift_u8"), meta)


def read_meta(path: Path | str) -> dict[str, Any]:
    """The meta of a file alone; errors as in `read_npz`."""
    with _opened(path) as (_, meta):
        return meta


@contextmanager
def _opened(source: Path | str | bytes) -> Iterator[tuple[Mapping[str, np.ndarray], dict[str, Any]]]:
    """The file's arrays, each read on access, and its meta; every failure becomes an `ItemError`."""
    import numpy as np

    path = None if isinstance(source, bytes) else source
    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file,
            np.load(file, allow_pickle=False) as data,
        ):
            yield data, json.loads(str(data["meta"]))
    except OSError as error:
        raise ItemError((error.strerror or str(error)).lower(), path=path) from error
    except (AttributeError, KeyError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ItemError("not a keypoint file of idsr, or damaged", path=path) from error
