"""idsr's own lossless format: a NumPy .npz with named arrays and a JSON description.

Arrays: xy (N,2) float32, scale, angle, response (N,) float32, octave, layer (N,) int32, descriptors (N,128) uint8,
image_size (2,) int32 (width, height), and meta, a JSON string. Needs no pickle to load.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idsr_cli.errors import ItemError
from idsr_cli.keypoints import Keypoints

CONVENTIONS = {
    "origin": "(0, 0) is the centre of the top-left pixel of the image as stored; EXIF orientation is not applied",
    "xy": "pixels, x to the right, y down",
    "scale": "sigma in pixels (half of OpenCV's size)",
    "angle": "degrees, clockwise on screen, from +x towards +y",
    "response": "absolute interpolated difference of Gaussians, grey in 0..1",
    "octave": "-1 is the doubled image, 0 the image itself",
    "descriptors": "SIFT in OpenCV's order, uint8, L2 norm about 512",
}

_DTYPES = {
    "xy": "<f4",
    "scale": "<f4",
    "angle": "<f4",
    "response": "<f4",
    "octave": "<i4",
    "layer": "<i4",
    "descriptors": "u1",
}


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes; equal keypoints and meta give equal bytes."""
    import numpy as np

    arrays = {name: np.ascontiguousarray(getattr(keypoints, name), dtype) for name, dtype in _DTYPES.items()}
    arrays["image_size"] = np.array(keypoints.image_size, "<i4")
    arrays["meta"] = np.array(json.dumps({"schema": 1, **meta, "conventions": CONVENTIONS}, sort_keys=True))
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
        The keypoints, and meta as a dict.

    Raises:
        ItemError: the file cannot be read or is no keypoint file of idsr.
    """
    import numpy as np

    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
            arrays = {name: data[name].astype(dtype, copy=False) for name, dtype in _DTYPES.items()}
            width, height = (int(side) for side in data["image_size"])
            meta = json.loads(str(data["meta"]))
    except OSError as error:
        raise ItemError((error.strerror or str(error)).lower(), path=path) from error
    except (KeyError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ItemError("not a keypoint file of idsr, or damaged", path=path) from error
    return Keypoints(image_size=(width, height), **arrays), meta
