"""Encoders for what Pillow and OpenCV cannot write whole.

With 16 bits per channel Pillow saves no colour and OpenCV no metadata; and a compressed TIFF from Pillow loses the
camera's part of EXIF. Each encoder takes (H, W) or (H, W, C) pixels, C = 2 (grey, alpha), 3 (RGB) or 4 (RGBA), and the
metadata of `files.image.Photo`, and returns the bytes of the file.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def png(pixels: np.ndarray, metadata: dict[str, Any]) -> bytes:
    """A 16-bit PNG, with its colour profile, EXIF and resolution."""
    import numpy as np

    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1)
    channels = samples.shape[2]
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    # Filter 1 of the standard: each byte less the one a pixel to the left. Cheap, and most of the gain there is.
    filtered = rows.copy()
    filtered[:, 2 * channels :] -= rows[:, : -2 * channels]
    lines = np.hstack([np.ones((height, 1), np.uint8), filtered])

    parts = [b"\x89PNG\r\n\x1a\n"]
    parts.append(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOUR_TYPES[channels], 0, 0, 0)))
    if "icc_profile" in metadata:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata["icc_profile"])))
    if "dpi" in metadata:
        x, y = (round(dpi / 0.0254) for dpi in metadata["dpi"])
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if "exif" in metadata:
        parts.append(_chunk(b"eXIf", metadata["exif"].removeprefix(b"Exif\0\0")))
    parts.append(_chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)))
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(pixels: np.ndarray, metadata: dict[str, Any]) -> bytes:
    """A TIFF, uint8 or uint16, deflated, with its colour profile, EXIF and resolution."""
    import numpy as np
    from PIL import Image, TiffImagePlugin

    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1)
    bits = 8 * samples.dtype.itemsize
    if bits == 16 and samples.shape[2] == 2:  # few readers know grey with alpha at 16 bits; all know RGBA
        samples = samples[:, :, [0, 0, 0, 1]]
    channels = samples.shape[2]
    # Predictor 2: each sample less the one a pixel to the left.
    step = samples.astype(f"<u{bits // 8}")
    step[:, 1:] -= samples[:, :-1]
    strip = zlib.compress(np.ascontiguousarray(step).tobytes(), 6)

    directory = TiffImagePlugin.ImageFileDirectory_v2()
    exif = Image.Exif()
    if "exif" in metadata:
        exif.load(metadata["exif"])
        for tag, value in exif.items():
            directory[tag] = exif.get_ifd(tag) if tag in (34665, 34853) else value
    directory[256], directory[257] = width, height
    directory[258] = (bits,) * channels
    directory[259] = 8  # deflate
    directory[262] = 2 if channels >= 3 else 1  # RGB, or black is zero
    directory[277] = channels
    directory[278] = height  # all rows in one strip
    directory[279] = len(strip)
    directory[317] = 2
    directory[339] = (1,) * channels  # unsigned
    if channels in (2, 4):
        directory[338] = 2  # alpha, not multiplied into the colours
    if "icc_profile" in metadata:
        directory.tagtype[34675] = 7
        directory[34675] = metadata["icc_profile"]
    if "dpi" in metadata:
        directory[282], directory[283] = metadata["dpi"]
        directory[296] = 2  # per inch
    directory[273] = 0  # where the strip begins, counted from the end of the directory
    directory.tagtype[273] = 4
    stream = io.BytesIO()
    directory.save(stream)
    stream.write(strip)
    return stream.getvalue()


def ppm(pixels: np.ndarray, metadata: dict[str, Any]) -> bytes:
    """A 16-bit PGM or PPM; the format has no place for metadata."""
    height, width = pixels.shape[:2]
    kind = b"P6" if pixels.ndim == 3 else b"P5"
    return kind + f"\n{width} {height}\n65535\n".encode() + pixels.astype(">u2").tobytes()
