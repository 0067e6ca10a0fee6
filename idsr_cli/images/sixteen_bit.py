"""Decoding of 16 bits per channel. Pillow can do it for grey only, and OpenCV reads some layouts wrongly.

Each function takes the bytes of a file and returns (H, W, C) uint16, C = 1 (grey), 2 (grey, alpha), 3 (RGB) or
4 (RGBA).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from idsr_cli.errors import ItemError
from idsr_cli.images.metadata import jp2_boxes, png_chunks
from idsr_cli.images.metadata import tiff_directory as directories
from idsr_cli.images.opener import open_image

if TYPE_CHECKING:
    import numpy as np

_UNREADABLE = "this kind of 16-bit image cannot be read"
_HINT = "save it as a plain 16-bit PNG or TIFF"
# Compressions for which libtiff applies the predictor: LZW, deflate (two codes), LZMA, Zstandard.
_PREDICTED = frozenset({5, 8, 32946, 34925, 50000})


def png(data: bytes) -> np.ndarray:
    """A PNG of any colour type."""
    import numpy as np

    kind = data[25]
    if kind == 0:
        grey = np.asarray(open_image(data), np.uint16)[:, :, None]
        key = next((content for name, content in png_chunks.chunks(data) if name == b"tRNS"), None)
        if key is None:
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


def tiff(data: bytes, bits: int = 16) -> np.ndarray:
    """A TIFF of 8 (then uint8) or 16 bits in strips or tiles, chunky or planar, of any lossless compression.

    Pillow decodes 16 bits for grey only, and no channels besides colours and transparency. So the file is given a
    directory that describes a grey image: the samples of a pixel become neighbouring pixels of a wider image (or each
    plane becomes an image). The predictor would then use the wrong neighbours, so its differences are summed here.

    Colours that were premultiplied by the transparency are divided by it.
    """
    import numpy as np

    head = directories.header(data)
    assert head is not None
    fields, _ = directories.read(data, head.first, head)

    def value(tag: int, default: int) -> int:
        return directories.whole(fields, tag, head.order, (default,))[0]

    dtype, top = (np.uint16, 65535) if bits == 16 else (np.uint8, 255)
    width, height, samples = value(256, 0), value(257, 0), value(277, 1)
    planar = value(284, 1) == 2 and samples > 1
    undo = not planar and samples > 1 and value(317, 1) == 2 and value(259, 1) in _PREDICTED
    spread = 1 if planar else samples
    common = {
        256: width * spread, 257: height, 258: bits, 259: value(259, 1), 262: 1, 277: 1,
        317: 1 if undo or value(259, 1) not in _PREDICTED else value(317, 1),
    }  # fmt: skip
    tiled = 322 in fields
    if tiled:
        common |= {322: value(322, 0) * spread, 323: value(323, 0)}
    else:
        common |= {278: min(value(278, height), height)}
    starts, sizes = (directories.whole(fields, tag, head.order) for tag in ((324, 325) if tiled else (273, 279)))
    planes = samples if planar else 1
    each = len(starts) // planes
    images = []
    for plane in range(planes):
        part = slice(plane * each, (plane + 1) * each)
        images.append(_grey_tiff(data, head.order, common, starts[part], sizes[part], tiled))
    array = np.dstack(images) if planar else images[0].reshape(height, width, samples)
    if undo:
        step = value(322, width) if tiled else width
        for left in range(0, width, step):
            array[:, left : left + step] = np.cumsum(array[:, left : left + step], axis=1, dtype=dtype)
    if value(262, 1) == 0:  # white is zero
        array[:, :, 0] = top - array[:, :, 0]
    if samples in (2, 4) and value(338, 0) == 1:
        alpha = np.maximum(array[:, :, -1:], 1).astype(np.float64)
        array[:, :, :-1] = np.minimum(np.round(array[:, :, :-1] * float(top) / alpha), top)
    return array


def _grey_tiff(
    data: bytes, order: str, common: dict[int, int], starts: tuple[int, ...], sizes: tuple[int, ...], tiled: bool
) -> np.ndarray:
    """(H, W) pixels of a file, decoded as a grey image through a new directory appended to it."""
    import numpy as np

    fields = {tag: directories.numbers(order, directories.LONG, [value]) for tag, value in common.items()}
    for tag in (258, 259, 262, 277, 317):
        fields[tag] = directories.numbers(order, directories.SHORT, [common[tag]])
    fields[324 if tiled else 273] = directories.numbers(order, directories.LONG, starts)
    fields[325 if tiled else 279] = directories.numbers(order, directories.LONG, sizes)
    at = len(data) + len(data) % 2
    file = (
        directories.file_header(order, at) + data[8:] + b"\0" * (len(data) % 2) + directories.write(fields, order, at)
    )
    return np.array(open_image(file)).astype(f"u{common[258] // 8}")
