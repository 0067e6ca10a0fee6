"""Metadata of image files, read into the one form that every encoder takes."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from idsr_cli.images.metadata import heif_items, jp2_boxes, jpeg_segments, png_chunks, xmp_claims
from idsr_cli.images.metadata import tiff_directory as tiff

if TYPE_CHECKING:
    from PIL import Image

_IPTC = 1028
# Marks of resource blocks. Photoshop writes the first; other programs of Adobe's write their own among them.
_MARK = re.compile(rb"8BIM|MeSa|PHUT|AgHg|DCSR")
# Photoshop's two kinds of thumbnail. They show the rainy picture, so they are removed.
_THUMBNAILS = frozenset({1033, 1036})


@dataclass(frozen=True)
class Metadata:
    """Metadata that are written back into the file; empty where the file has none.

    Attributes:
        exif: a block that begins with its byte order ("II" or "MM"), without thumbnail.
        icc: colour profile of the pixels as decoded.
        xmp: an XMP packet, without claims about data outside it that are not here.
        extension: the second part of the XMP, which `xmp` names, as a JPEG may have it; only written to JPEG.
        photoshop: Photoshop's resource blocks ("8BIM..."), IPTC among them, without thumbnails.
        comment: a JPEG's comment.
        dpi: pixels per inch across and down, or None.
        chunks: a PNG's texts, colour space and other chunks; only written to PNG.
        boxes: a JPEG 2000 file's boxes; only written to JPEG 2000.
        cicp: colours by number (ITU-T H.273: primaries, transfer function), or None; not beside a profile that counts.
        mask: a TIFF's mask of the valid pixels: rows of bits, each row padded to whole bytes, deflated.
        extra_sample: TIFF's code for a fourth channel: 2 = transparency, 0 = something else (near infrared, ...).
        dropped: kinds of data in the file that are not here and not written again, such as "gain map".
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    extension: bytes = b""
    photoshop: bytes = b""
    comment: bytes = b""
    dpi: tuple[float, float] | None = None
    chunks: tuple[png_chunks.Chunk, ...] = ()
    boxes: bytes = b""
    cicp: tuple[int, int] | None = None
    mask: bytes = b""
    extra_sample: int = 2
    dropped: tuple[str, ...] = ()


def read_metadata(image: Image.Image, data: bytes) -> Metadata:
    """The metadata of an opened image, not a TIFF, whose file holds `data`."""
    info, format = image.info, image.format
    if format == "PNG":
        return _png_metadata(data)
    exif, xmp, icc = info.get("exif", b""), _packet(info.get("xmp")), info.get("icc_profile") or b""
    photoshop = extension = boxes = comment = b""
    cicp = None
    dropped: set[str] = set()
    if format in ("JPEG", "MPO"):
        photoshop = jpeg_segments.read_app13(data)
        extension = jpeg_segments.read_extension(data, xmp_claims.extension_of(xmp))
        comment = info.get("comment", b"")
        if jpeg_segments.has_gain_map(data):
            dropped.add(xmp_claims.GAIN_MAP)
        if b"MotionPhoto_Data" in data:
            dropped.add(xmp_claims.VIDEO)
    elif format == "JPEG2000":
        exif, xmp, icc, boxes = jp2_boxes.metadata(data)
    elif format == "AVIF":
        items = heif_items.read(data)
        cicp = None if icc else items.cicp
        dropped |= items.attachments
    found = without_claims(
        Metadata(
            exif=tiff.without_thumbnail(exif.removeprefix(b"Exif\0\0")),
            icc=icc,
            xmp=xmp,
            extension=extension,
            photoshop=_without_thumbnails(photoshop),
            comment=comment if isinstance(comment, bytes) else b"",
            dpi=_dpi(info.get("dpi")),
            boxes=boxes,
            cicp=cicp,
            dropped=tuple(sorted(dropped)),
        )
    )
    if format == "MPO" and not found.dropped:  # the other pictures of one with a gain map are that
        found = replace(found, dropped=("further pictures",))
    return found


def without_claims(metadata: Metadata) -> Metadata:
    """Without claims of XMP about data that are not read, which are named in `dropped`."""
    xmp, gone = xmp_claims.without_attachments(metadata.xmp)
    dropped = set(metadata.dropped) | set(gone)
    if not metadata.extension and xmp_claims.extension_of(xmp):
        xmp = xmp_claims.without_extension(xmp)
        dropped.add(xmp_claims.EXTENSION)
    return replace(metadata, xmp=xmp, dropped=tuple(sorted(dropped)))


def _png_metadata(data: bytes) -> Metadata:
    exif, icc, xmp = png_chunks.read_exif(data), png_chunks.read_icc(data), png_chunks.read_xmp(data)
    kept = png_chunks.kept_chunks(data)
    names = {name for name, _ in png_chunks.chunks(data)}
    return without_claims(
        Metadata(
            exif=tiff.without_thumbnail(exif.removeprefix(b"Exif\0\0")),
            icc=icc,
            xmp=xmp,
            photoshop=_without_thumbnails(png_chunks.read_raw_profile(data, ("iptc",))),
            dpi=_dpi(png_chunks.read_dpi(data)),
            chunks=kept,
            cicp=png_chunks.read_cicp(kept),
            dropped=("colour profile",) if b"iCCP" in names and not icc else (),
        )
    )


def tiff_metadata(head: tiff.Header, fields: tiff.Fields, data: bytes) -> Metadata:
    """The metadata of a picture in a TIFF, read without Pillow, which cannot open every kind of TIFF.

    Args:
        head: the file's header.
        fields: those that describe the picture.
        data: the file.
    """

    def content(tag: int) -> bytes:
        return fields[tag].data if tag in fields else b""

    plain, below = tiff.tree(data, head, fields)
    return without_claims(
        Metadata(
            exif=tiff.block(plain, below, head.order) if plain or below else b"",
            icc=content(34675),
            xmp=content(700),
            # The IPTC record may be in a field of its own, without Photoshop's blocks.
            photoshop=_without_thumbnails(
                content(34377) or (_resource(_IPTC, content(33723)) if 33723 in fields else b""),
            ),
            dpi=_tiff_dpi(fields, head.order),
            extra_sample=0 if tiff.whole(fields, 338, head.order) == (0,) else 2,
        )
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


def _resource(number: int, content: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + content + b"\0" * (len(content) % 2)


def _resources(photoshop: bytes) -> list[tuple[int, bytes, bytes]]:
    """Number, content and all bytes of each resource; -1 as the number of another program's.

    What is damaged is left out, up to the next mark.
    """
    found, at = [], 0
    while mark := _MARK.search(photoshop, at):
        at = mark.start()
        if at + 12 > len(photoshop):
            break
        (number,) = struct.unpack_from(">H", photoshop, at + 4)
        start = at + 6 + (photoshop[at + 6] + 2) // 2 * 2  # a name with its length before it, padded to even
        length = int.from_bytes(photoshop[start : start + 4], "big")
        end = start + 4 + length
        if start + 4 > len(photoshop) or end > len(photoshop):
            at += 4
            continue
        is_own = mark[0] == b"8BIM"
        found.append((number if is_own else -1, photoshop[start + 4 : end], photoshop[at : end + length % 2]))
        at = end + length % 2
    return found


def _without_thumbnails(photoshop: bytes) -> bytes:
    return b"".join(whole for number, _, whole in _resources(photoshop) if number not in _THUMBNAILS)
