"""One encoder for each format that is written.

Each takes pixels, metadata and settings, and returns the file's bytes. Pixels are (H, W) or (H, W, C), C = 2 (grey,
alpha), 3 (RGB) or 4 (RGBA), uint8, or uint16 if the format can hold it. Metadata are what `fitted` leaves of them for
the format.

Pillow does most of the encoding. 16-bit PNG and all TIFF are written here: Pillow saves no 16-bit colour, OpenCV no
metadata, and Pillow's TIFF loses the types of EXIF values.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from idsr_cli.images import heic
from idsr_cli.images.metadata import (
    Metadata,
    colours,
    heif_items,
    icc_space,
    iptc_of,
    jp2_boxes,
    jpeg_segments,
    png_chunks,
    xmp_claims,
)
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
    extra = jpeg_segments.app13(metadata.photoshop) if metadata.photoshop else b""
    if metadata.extension:
        extra += jpeg_segments.extension(xmp_claims.extension_of(metadata.xmp), metadata.extension)
    return _pillow(
        pixels,
        "JPEG",
        quality=settings.quality,
        subsampling="4:4:4",
        progressive=settings.progressive,
        exif=b"Exif\0\0" + metadata.exif if metadata.exif else b"",
        icc_profile=metadata.icc,
        xmp=metadata.xmp,
        comment=metadata.comment,
        dpi=metadata.dpi,
        extra=extra,
    )


def png(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """A PNG, 8 or 16 bits."""
    chunks = list(metadata.chunks)
    if metadata.cicp and not any(name == b"cICP" for name, _ in chunks):
        chunks.append(png_chunks.cicp(metadata.cicp))
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

    fields, below = directories.tree(metadata.exif, head) if head else ({}, {})

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
    end = at + sum(map(len, strips))
    if metadata.mask:
        strips += [b"\0" * (end % 2), _mask_directory(metadata.mask, width, height, order, end + end % 2)]
    following = end + end % 2 if metadata.mask else 0
    main = directories.write_tree(fields, below, order, 8, following)
    return b"".join([directories.file_header(order, 8), main, *strips])


def _mask_directory(mask: bytes, width: int, height: int, order: str, at: int) -> bytes:
    """A second directory, at an offset, and its one strip of bits: the mask of the first."""
    fields = {254: 4, 256: width, 257: height, 258: 1, 259: 8, 262: 4, 277: 1, 278: height, 279: len(mask), 273: 0}
    made = {tag: directories.numbers(order, directories.LONG, [value]) for tag, value in fields.items()}
    for tag in (258, 259, 262, 277):
        made[tag] = directories.numbers(order, directories.SHORT, [fields[tag]])
    made[273] = directories.numbers(order, directories.LONG, [at + len(directories.write(made, order, at))])
    return directories.write(made, order, at) + mask


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
        icc_profile=metadata.icc,
        xmp=metadata.xmp,
    )


def avif(pixels: np.ndarray, metadata: Metadata, settings: Settings) -> bytes:
    """An AVIF without colour subsampling."""
    exif = directories.repaired(metadata.exif)  # Pillow parses it, and warns about damaged values
    data = _pillow(
        pixels,
        "AVIF",
        quality=settings.quality,
        subsampling="4:4:4",
        exif=b"Exif\0\0" + exif if exif else b"",
        icc_profile=metadata.icc,
        xmp=metadata.xmp,
    )
    return heif_items.with_cicp(data, metadata.cicp) if metadata.cicp else data


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
        keeps: the fields of `Metadata` that it has a place for.
    """

    encode: Callable[[np.ndarray, Metadata, Settings], bytes]
    alpha: bool = False
    sixteen_bit: Literal["", "grey", "all"] = ""
    keeps: frozenset[str] = frozenset()


_COMMON = frozenset({"exif", "icc", "xmp"})
ENCODERS = {
    "JPEG": Encoder(jpeg, keeps=_COMMON | {"extension", "photoshop", "comment", "dpi"}),
    "PNG": Encoder(png, alpha=True, sixteen_bit="all", keeps=_COMMON | {"photoshop", "dpi", "chunks", "cicp"}),
    "TIFF": Encoder(tiff, alpha=True, sixteen_bit="all", keeps=_COMMON | {"photoshop", "dpi", "mask"}),
    "WEBP": Encoder(webp, alpha=True, keeps=_COMMON),
    "BMP": Encoder(bmp, alpha=True, keeps=frozenset({"dpi"})),
    "PPM": Encoder(ppm, sixteen_bit="all"),
    "JPEG2000": Encoder(jpeg2000, alpha=True, sixteen_bit="grey", keeps=_COMMON | {"boxes"}),
    "AVIF": Encoder(avif, alpha=True, keeps=_COMMON | {"cicp"}),
    "HEIF": Encoder(heif, alpha=True, sixteen_bit="all", keeps=_COMMON | {"cicp"}),
    "TGA": Encoder(tga, alpha=True),
}

# What the fields of `Metadata` are called before the user.
_KINDS = {
    "exif": "EXIF", "icc": "colour profile", "xmp": "XMP", "extension": xmp_claims.EXTENSION, "comment": "comment",
    "dpi": "resolution", "boxes": "JPEG 2000 boxes", "mask": "internal mask",
}  # fmt: skip
COLOURS = "colour space"
# Longest EXIF and XMP of a JPEG: a segment holds 64 KB. Pillow splits colour profiles over several, but not these.
_JPEG_EXIF, _JPEG_XMP = 65527, 65502
# Resolutions that programs write where they know none.
_NO_DPI = ((72, 72), (96, 96))


def fitted(metadata: Metadata, encoder: Encoder, grey: bool, codestream: bool = False) -> tuple[Metadata, set[str]]:
    """The metadata that a format can hold, and the kinds that it cannot.

    Colours by number become a profile where the format has no other place for them, if a profile can say them.

    Args:
        metadata: of the photograph.
        encoder: of the format.
        grey: the pixels are written with one channel of colour.
        codestream: for JPEG 2000: there is no place for anything.
    """
    keeps = frozenset() if codestream else encoder.keeps
    dropped = set()
    numbers, icc = metadata.cicp, metadata.icc
    if numbers and colours.is_unknown(numbers):
        numbers = None
    gamma, points = png_chunks.read_gamma(metadata.chunks)
    if numbers and "cicp" in keeps:
        # These formats take the profile, where there are both; PNG takes the numbers and has the profile for others.
        if "chunks" not in keeps and not colours.is_plain(numbers):
            icc = b""
    elif numbers and not icc and not colours.is_plain(numbers):
        icc = colours.profile(numbers, grey)
        if not icc or "icc" not in keeps:
            dropped.add(COLOURS)
    elif not icc and "chunks" not in keeps and len(points or ()) in (0, 8):
        icc = colours.profile_of_gamma(gamma, points, grey)  # type: ignore[arg-type]  # eight numbers, or None
        if icc and "icc" not in keeps:
            dropped.add(COLOURS)
    made = icc != metadata.icc
    if icc and not grey and icc_space(icc) == "GRAY":  # for grey, and the pixels have to be RGB
        icc = b""
        dropped.add(_KINDS["icc"])
    by_number = "cicp" in keeps and ("chunks" in keeps or not icc)
    fields: dict[str, Any] = {"icc": icc, "cicp": numbers if by_number else None}
    for name, kind in _KINDS.items():
        if name in keeps or not getattr(metadata, name):
            continue
        fields[name] = type(getattr(metadata, name))() if name != "dpi" else None
        is_said = name == "icc" and made
        if name == "dpi":
            rounded = tuple(round(each) for each in metadata.dpi or ())
            is_said = rounded in _NO_DPI or ("exif" in keeps and _has_resolution(metadata.exif))
        if not is_said:
            dropped.add(kind)
    if metadata.photoshop and "photoshop" not in keeps:
        fields["photoshop"] = b""
        dropped.add("IPTC" if iptc_of(metadata.photoshop) else "Photoshop data")
    if metadata.chunks and "chunks" not in keeps:
        fields["chunks"] = ()
        dropped |= {"texts" for chunk in metadata.chunks if png_chunks.is_text(chunk)}
    found = replace(metadata, **fields)
    if "extension" in keeps:
        found, lost = _within_segments(found)
        dropped |= lost
    elif xmp_claims.extension_of(found.xmp):
        found = replace(found, xmp=xmp_claims.without_extension(found.xmp))
    return found, dropped


def _within_segments(metadata: Metadata) -> tuple[Metadata, set[str]]:
    """What fits into a JPEG's segments, and the kinds that do not."""
    dropped = set()
    exif = _fitting(metadata.exif, _JPEG_EXIF)
    if exif != metadata.exif:
        dropped.add("maker's notes" if exif == directories.without_makers_notes(metadata.exif) else "EXIF")
        metadata = replace(metadata, exif=exif)
    if len(metadata.xmp) > _JPEG_XMP:
        dropped |= {"XMP"} | ({xmp_claims.EXTENSION} if metadata.extension else set())
        metadata = replace(metadata, xmp=b"", extension=b"")
    return metadata, dropped


def _has_resolution(exif: bytes) -> bool:
    head = directories.header(exif)
    return head is not None and {282, 283} <= set(directories.read(exif, head.first, head)[0])


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
