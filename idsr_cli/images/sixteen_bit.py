"""Decoding of 16 bits per channel. Pillow can do it for grey only, and OpenCV reads some layouts wrongly.

Each function takes the bytes of a file and returns (H, W, C) uint16, C = 1 (grey), 2 (grey, alpha), 3 (RGB) or
4 (RGBA).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from idsr_cli.errors import ItemError
from idsr_cli.images.metadata import jp2_boxes, png_chunks
from idsr_cli.images.opener import open_image

if TYPE_CHECKING:
    import numpy as np

_UNREADABLE = "this kind of 16-bit image cannot be read"
_HINT = "save it as a plain 16-bit PNG or TIFF"


def png(data: bytes) -> np.ndarray:
    """A PNG of any colour type."""
    import numpy as np

    kind = data[25]
    if kind == 0:
        grey = np.asarray(open_image(png_chunks.only_pixels(data)), np.uint16)[:, :, None]
        key = png_chunks.colour_key(data)
        if not key:
            return grey
        opaque = grey != int.from_bytes(key[:2], "big")
        return np.dstack([grey, np.uint16(65535) * opaque])
    array = _opencv(png_chunks.only_pixels(data))
    if kind == 4:  # grey with alpha, spread over RGBA
        return array[:, :, [0, 3]]
    # A fourth channel may come from a colour key.
    return array


def jp2(data: bytes) -> np.ndarray:
    """A JPEG 2000 of up to 16 bits, stretched to the full range."""
    import numpy as np

    depth, _ = jp2_boxes.depth(data)
    array = _opencv(data)
    if depth == 16:
        return array
    return np.round(array * np.float32(65535 / (2**depth - 1))).astype(np.uint16)


def _opencv(data: bytes) -> np.ndarray:
    import cv2
    import numpy as np

    # IMREAD_UNCHANGED leaves depth, channels and orientation alone.
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ItemError(_UNREADABLE, hint=_HINT)
    if array.ndim == 2:
        return array[:, :, None]
    return array[:, :, [2, 1, 0, 3][: array.shape[2]]]


def ppm(data: bytes) -> np.ndarray:
    """A PGM or PPM whose largest value is above 255, stretched to the full range."""
    import numpy as np

    # Four words separated by white space and comments, then one white-space byte and the samples.
    head = re.match(rb"(P[2356])" + rb"(?:\s|#[^\n]*\n)+(\d+)" * 3 + rb"(?:#[^\n]*\n)?\s", data)
    if head is None:
        raise ItemError(_UNREADABLE, hint=_HINT)
    width, height, top = (int(word) for word in head.groups()[1:])
    channels = 3 if head[1] in (b"P3", b"P6") else 1
    count = width * height * channels
    if head[1] in (b"P2", b"P3"):
        samples = np.array(data[head.end() :].split()[:count], np.int64)
    else:
        samples = np.frombuffer(data, ">u2", count, head.end())
    if top != 65535:
        samples = np.round(samples.astype(np.float64) * (65535 / top))
    return np.clip(samples, 0, 65535).astype(np.uint16).reshape(height, width, channels)
