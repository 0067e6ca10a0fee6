"""Metadata of image files, read into the one form that every encoder takes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idsr_cli.images.metadata import jp2_boxes, png_chunks
from idsr_cli.images.metadata import tiff_directory as tiff

if TYPE_CHECKING:
    from PIL import Image

_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC = 1028
# Photoshop's two kinds of thumbnail. They show the rainy picture, so they are removed.
_THUMBNAILS = frozenset({1033, 1036})


@dataclass(frozen=True)
class Metadata:
    """Metadata that are written back into the file; empty where the file has none.

    Attributes:
        exif: a block that begins with its byte order ("II" or "MM"), without thumbnail.
        icc: colour profile of the pixels as decoded.
        xmp: an XMP packet.
        photoshop: Photoshop's resource blocks ("8BIM..."), IPTC among them, without thumbnails.
        comment: a JPEG's comment.
        dpi: pixels per inch across and down, or None.
        chunks: a PNG's texts, colour space and other chunks; only written to PNG.
        boxes: a JPEG 2000 file's boxes; only written to JPEG 2000.
        extra_sample: TIFF's code for a fourth channel: 2 = transparency, 0 = something else (near infrared, ...).
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    photoshop: bytes = b""
    comment: bytes = b""
    dpi: tuple[float, float] | None = None
    chunks: tuple[png_chunks.Chunk, ...] = ()
    boxes: bytes = b""
    extra_sample: int = 2


def read_metadata(image: Image.Image, data: bytes) -> Metadata:
    """The metadata of an opened image whose file holds `data`."""
    info, format = image.info, image.format
    if format == "TIFF":
        return tiff_metadata(data)
    exif, xmp, icc = info.get("exif", b""), _packet(info.get("xmp")), info.get("icc_profile") or b""
    photoshop = boxes = b""
    if format in ("JPEG", "MPO"):
        photoshop = _app13(data)
    elif format == "PNG":
        exif = exif or png_chunks.read_raw_profile(data, ("exif", "app1"))
        photoshop = png_chunks.read_raw_profile(data, ("iptc",))
    elif format == "JPEG2000":
        exif, xmp, icc, boxes = jp2_boxes.metadata(data)
    comment = info.get("comment", b"") if format in ("JPEG", "MPO") else b""
    return Metadata(
        exif=tiff.without_thumbnail(exif.removeprefix(b"Exif\0\0")),
        icc=icc,
        xmp=xmp,
        photoshop=_without_thumbnails(photoshop),
        comment=comment if isinstance(comment, bytes) else b"",
        dpi=_dpi(info.get("dpi")),
        chunks=png_chunks.kept_chunks(data) if format == "PNG" else (),
        boxes=boxes,
    )


def tiff_metadata(data: bytes) -> Metadata:
    """The metadata of a TIFF, read without Pillow, which cannot open every kind of TIFF.

    Raises:
        struct.error: it is cut short.
    """
    head = tiff.header(data)
    if head is None:
        return Metadata()
    fields, _ = tiff.read(data, head.first, head)

    def content(tag: int) -> bytes:
        return fields[tag].data if tag in fields else b""

    return Metadata(
        exif=tiff.repaired(data),
        icc=content(34675),
        xmp=content(700),
        # The IPTC record may be in a field of its own, without Photoshop's blocks.
        photoshop=_without_thumbnails(
            content(34377) or (_resource(_IPTC, content(33723)) if 33723 in fields else b""),
        ),
        dpi=_tiff_dpi(fields, head.order),
        extra_sample=0 if tiff.whole(fields, 338, head.order) == (0,) else 2,
    )


def _tiff_dpi(fields: tiff.Fields, order: str) -> tuple[float, float] | None:
    units = {2: 1.0, 3: 2.54}.get(tiff.whole(fields, 296, order, (2,))[0])
    both = [fields.get(tag) for tag in (282, 283)]
    if units is None or not all(f is not None and f.kind == tiff.RATIONAL and f.number == 1 for f in both):
        return None
    ratios = [struct.unpack(order + "II", f.data) for f in both if f is not None]
    return _dpi(tuple(units * above / below if below else 0.0 for above, below in ratios))


def iptc_of(photoshop: bytes) -> bytes:
    """The IPTC record among Photoshop's resource blocks, or b""."""
    return next((content for number, content, _ in _resources(photoshop) if number == _IPTC), b"")


def icc_space(profile: bytes) -> str:
    """The colour space a profile describes: "RGB", "GRAY", "CMYK", ..."""
    return profile[16:20].decode("ascii", "replace").strip()


def _packet(xmp: object) -> bytes:
    return xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else b""


def _dpi(dpi: object) -> tuple[float, float] | None:
    if not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    x, y = float(dpi[0]), float(dpi[1])
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def _app13(data: bytes) -> bytes:
    """Photoshop's resource blocks in a JPEG, joined if they are split over several segments."""
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        content = data[at + 4 : at + 2 + length]
        if marker == 0xDA:  # pixels begin
            break
        if marker == 0xED and content.startswith(_PHOTOSHOP):
            parts.append(content[len(_PHOTOSHOP) :])
        at += 2 + length
    return b"".join(parts)


def app13(photoshop: bytes) -> bytes:
    """The segments of a JPEG that hold these resource blocks."""
    room = 65533 - len(_PHOTOSHOP)
    parts = [photoshop[i : i + room] for i in range(0, len(photoshop), room)]
    return b"".join(
        b"\xff\xed" + struct.pack(">H", 2 + len(_PHOTOSHOP) + len(part)) + _PHOTOSHOP + part for part in parts
    )


def _resource(number: int, content: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + content + b"\0" * (len(content) % 2)


def _resources(photoshop: bytes) -> list[tuple[int, bytes, bytes]]:
    """Number, content and all bytes of each resource; stops at a damaged one."""
    found, at = [], 0
    while photoshop[at : at + 4] == b"8BIM" and at + 12 <= len(photoshop):
        (number,) = struct.unpack_from(">H", photoshop, at + 4)
        start = at + 6 + (photoshop[at + 6] + 2) // 2 * 2  # a name with its length before it, padded to even
        if start + 4 > len(photoshop):
            break
        (length,) = struct.unpack_from(">I", photoshop, start)
        end = start + 4 + length
        if end > len(photoshop):
            break
        found.append((number, photoshop[start + 4 : end], photoshop[at : end + length % 2]))
        at = end + length % 2
    return found


def _without_thumbnails(photoshop: bytes) -> bytes:
    return b"".join(whole for number, _, whole in _resources(photoshop) if number not in _THUMBNAILS)
