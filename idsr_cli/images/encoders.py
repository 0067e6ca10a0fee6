"""One encoder for each format that is written.

Each takes pixels, metadata and settings, and returns the file's bytes. Pixels are (H, W) or (H, W, C), C = 2 (grey,
alpha), 3 (RGB) or 4 (RGBA), uint8, or uint16 if the format can hold it. Metadata that the format has no place for are
left out.

Pillow does most of the encoding. 16-bit PNG and all TIFF are written here: Pillow saves no 16-bit colour, OpenCV no
metadata, and Pillow's TIFF loses the types of EXIF values.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from idsr_cli.images import heic
from idsr_cli.images.metadata import Metadata, app13, icc_space, iptc_of, jp2_boxes, png_chunks
from idsr_cli.images.metadata import tiff_directory as directories

if TYPE_CHECKING:
    import numpy as np

JPEG_QUALITY = 95


@dataclass(frozen=True)
class Settings:
    """Choices that a format leaves open.

    Attributes:
        quality: 1..100, for lossy formats.
        lossless: for WebP: lossless instead of lossy.
        progressive: for JPEG: progressive instead of baseline.
        codestream: for JPEG 2000: a bare codestream without the boxes of a .jp2 file.
    """

    quality: int = JPEG_QUALITY
    lossless: bool = False
    progressive: bool = False
    codestream: bool = False


def jpeg(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A JPEG without colour subsampling."""
    # A segment holds 64 KB. Pillow splits colour profiles over several segments, but not EXIF or XMP.
    exif = _fitting(metadata.exif, 65527)
    return _pillow(
        pixels,
        "JPEG",
        quality=settings.quality,
        subsampling="4:4:4",
        progressive=settings.progressive,
        exif=b"Exif\0\0" + exif if exif else b"",
        icc_profile=metadata.icc,
        xmp=metadata.xmp if len(metadata.xmp) <= 65502 else b"",
        comment=metadata.comment,
        dpi=metadata.dpi,
        extra=app13(metadata.photoshop) if metadata.photoshop else b"",
    )


def png(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A PNG, 8 or 16 bits."""
    chunks = list(metadata.chunks)
    if metadata.icc:
        chunks.append(png_chunks.icc(metadata.icc))
    if metadata.dpi and not any(name == b"pHYs" for name, _ in chunks):
        chunks.append(png_chunks.resolution(metadata.dpi))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append(png_chunks.xmp(metadata.xmp))
    if metadata.photoshop:
        chunks.append(png_chunks.raw_profile("iptc", metadata.photoshop))
    bare = _png_16(pixels) if pixels.dtype.itemsize == 2 else _pillow(pixels, "PNG")
    return png_chunks.insert(bare, chunks)


def _png_16(pixels: np.ndarray) -> bytes:
    import numpy as np

    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1)
    channels = samples.shape[2]
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    # Filter 1 of the standard: each byte minus the one a pixel to the left. Cheap, and most of the possible gain.
    filtered = rows.copy()
    filtered[:, 2 * channels :] -= rows[:, : -2 * channels]
    lines = np.hstack([np.ones((height, 1), np.uint8), filtered])
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return b"".join([
        b"\x89PNG\r\n\x1a\n",
        png_chunks.chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)),
        png_chunks.chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)),
        png_chunks.chunk(b"IEND", b""),
    ])  # fmt: skip


def tiff(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A TIFF, 8 or 16 bits, in deflated strips of about a megabyte."""
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1)
    bits = 8 * samples.dtype.itemsize
    if bits == 16 and samples.shape[2] == 2:  # few readers know grey with alpha at 16 bits; all know RGBA
        samples = samples[:, :, [0, 0, 0, 1]]
    channels = samples.shape[2]
    head = directories.header(metadata.exif)
    order = head.order if head else "<"  # EXIF values are copied as bytes, so the file has their byte order
    # Predictor 2: each sample minus the one a pixel to the left.
    step = samples.copy()
    step[:, 1:] -= samples[:, :-1]
    raw = step.astype(f"{order}u{bits // 8}")
    rows = max(1, (1 << 20) // (width * channels * bits // 8))
    strips = [zlib.compress(raw[top : top + rows].tobytes(), 6) for top in range(0, height, rows)]

    fields, below = directories.tree(metadata.exif, head.first, head) if head else ({}, {})

    def put(tag: int, kind: int, *values: int) -> None:
        fields[tag] = directories.numbers(order, kind, values)

    put(256, directories.LONG, width)
    put(257, directories.LONG, height)
    put(258, directories.SHORT, *[bits] * channels)
    put(259, directories.SHORT, 8)  # deflate
    put(262, directories.SHORT, 2 if channels >= 3 else 1)  # RGB, or black is zero
    put(277, directories.SHORT, channels)
    put(278, directories.LONG, rows)
    put(279, directories.LONG, *map(len, strips))
    put(317, directories.SHORT, 2)
    put(339, directories.SHORT, *[1] * channels)  # unsigned
    if channels in (2, 4):
        put(338, directories.SHORT, metadata.extra_sample)  # transparency: colours are not premultiplied
    if metadata.dpi and not {282, 283} <= set(fields):
        for tag, dpi in zip((282, 283), metadata.dpi, strict=True):
            put(tag, directories.RATIONAL, *dpi_ratio(dpi))
        put(296, directories.SHORT, 2)  # per inch
    iptc = iptc_of(metadata.photoshop)
    for tag, content in ((700, metadata.xmp), (33723, iptc), (34377, metadata.photoshop), (34675, metadata.icc)):
        if content:
            fields[tag] = directories.Field(directories.UNDEFINED, len(content), content)
    put(273, directories.LONG, *[0] * len(strips))
    at = 8 + len(directories.write_tree(fields, below, order, 8))
    starts = [at + sum(map(len, strips[:i])) for i in range(len(strips))]
    put(273, directories.LONG, *starts)
    return b"".join([directories.file_header(order, 8), directories.write_tree(fields, below, order, 8), *strips])


def dpi_ratio(dpi: float) -> tuple[int, int]:
    """Numerator and denominator, as exact as 32 bits allow."""
    from fractions import Fraction

    ratio = Fraction(dpi).limit_denominator(4000)
    return ratio.numerator, ratio.denominator


def webp(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A WebP."""
    return _pillow(
        pixels,
        "WEBP",
        quality=settings.quality,
        lossless=settings.lossless,
        exact=True,  # colours under full transparency are pixels too
        exif=metadata.exif,
        icc_profile=_for_colour(metadata.icc),
        xmp=metadata.xmp,
    )


def avif(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """An AVIF without colour subsampling."""
    exif = directories.repaired(metadata.exif)  # Pillow parses it, and warns about damaged values
    return _pillow(
        pixels,
        "AVIF",
        quality=settings.quality,
        subsampling="4:4:4",
        exif=b"Exif\0\0" + exif if exif else b"",
        icc_profile=metadata.icc,
        xmp=metadata.xmp,
    )


def jpeg2000(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A lossless JPEG 2000."""
    data = _pillow(pixels, "JPEG2000", no_jp2=settings.codestream)
    if settings.codestream:
        return data
    return jp2_boxes.insert(data, metadata.exif, metadata.xmp, metadata.icc, metadata.boxes)


def bmp(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A BMP; with transparency it has the newer header, which declares the alpha channel."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return _pillow(pixels, "BMP", dpi=metadata.dpi)
    import cv2

    data = bytearray(cv2.imencode(".bmp", pixels[:, :, [2, 1, 0, 3] if pixels.shape[2] == 4 else [0, 0, 0, 1]])[1])
    if metadata.dpi:
        struct.pack_into("<ii", data, 38, *(round(dpi / 0.0254) for dpi in metadata.dpi))
    return bytes(data)


def ppm(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A PGM or PPM; the format has no place for metadata."""
    height, width = pixels.shape[:2]
    is_16_bit = pixels.dtype.itemsize == 2
    head = f"{'P6' if pixels.ndim == 3 else 'P5'}\n{width} {height}\n{65535 if is_16_bit else 255}\n"
    return head.encode() + pixels.astype(">u2" if is_16_bit else "u1").tobytes()


def tga(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A Targa file."""
    return _pillow(pixels, "TGA")


def heif(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A HEIC."""
    return heic.encode(pixels, metadata, settings.quality)


@dataclass(frozen=True)
class Encoder:
    """A format that is written.

    Attributes:
        encode: see the module's docstring.
        alpha: the format can hold transparency.
        sixteen_bit: pictures it can hold with 16 bits per channel: none, grey ones or all.
    """

    encode: Callable[[np.ndarray, Metadata, Settings], bytes]
    alpha: bool = False
    sixteen_bit: Literal["", "grey", "all"] = ""


ENCODERS = {
    "JPEG": Encoder(jpeg),
    "PNG": Encoder(png, alpha=True, sixteen_bit="all"),
    "TIFF": Encoder(tiff, alpha=True, sixteen_bit="all"),
    "WEBP": Encoder(webp, alpha=True),
    "BMP": Encoder(bmp, alpha=True),
    "PPM": Encoder(ppm, sixteen_bit="all"),
    "JPEG2000": Encoder(jpeg2000, alpha=True, sixteen_bit="grey"),
    "AVIF": Encoder(avif, alpha=True),
    "HEIF": Encoder(heif, alpha=True, sixteen_bit="all"),
    "TGA": Encoder(tga, alpha=True),
}


def _pillow(pixels: np.ndarray, format: str, **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **{name: value for name, value in options.items() if value})
    return stream.getvalue()


def _fitting(exif: bytes, room: int) -> bytes:
    """EXIF of at most `room` bytes: if too long, without the maker's notes; if still too long, the orientation only."""
    if len(exif) <= room:
        return exif
    exif = directories.without_makers_notes(exif)
    head = directories.header(exif)
    if len(exif) <= room or head is None:
        return exif
    fields, _ = directories.read(exif, head.first, head)
    alone = {tag: field for tag, field in fields.items() if tag == directories.ORIENTATION}
    return directories.block(alone, {}, head.order)


def _for_colour(icc: bytes) -> bytes:
    """A profile for a file with RGB pixels: b"" if it is one for grey."""
    return b"" if icc_space(icc) == "GRAY" else icc
