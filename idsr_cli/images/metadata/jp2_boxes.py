"""Boxes around the codestream of a JPEG 2000 file, which hold its metadata; neither Pillow nor OpenCV keeps them.

Source: ISO/IEC 15444-1, annex I. The identifiers of XMP and EXIF are those Adobe and Exiv2 use.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF = b"JpgTiffExif->JP2"
_CODESTREAM = b"\xff\x4f\xff\x51"


def is_codestream(data: bytes) -> bool:
    """True for a bare codestream (.j2k), which has no boxes."""
    return data.startswith(_CODESTREAM)


def depth(data: bytes) -> tuple[int, bool]:
    """Bits of the deepest component, and True if any component is signed; (8, False) if the header is not found."""
    at = data.find(_CODESTREAM)
    if at < 0 or len(data) < at + 42:
        return 8, False
    (components,) = struct.unpack_from(">H", data, at + 40)
    sizes = data[at + 42 : at + 42 + 3 * components : 3]
    return max(((size & 127) + 1 for size in sizes), default=8), any(size & 128 for size in sizes)


def metadata(data: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """EXIF, XMP, colour profile (each b"" if absent), and the other boxes that stay valid when the pixels change."""
    exif = xmp = icc = b""
    others = []
    for name, content in boxes(data):
        if name == b"uuid" and content[:16] == _XMP:
            xmp = content[16:]
        elif name == b"uuid" and content[:16] == _EXIF:
            exif = content[16:]
        elif name in (b"uuid", b"xml ", b"uinf"):
            others.append(_box(name, content))
        elif name == b"jp2h":
            for inner, text in boxes(content):
                if inner == b"colr" and text[:1] in (b"\2", b"\3"):
                    icc = text[3:]
                elif inner == b"res ":
                    others.append(_box(inner, text))
    return exif, xmp, icc, b"".join(others)


def insert(data: bytes, exif: bytes, xmp: bytes, icc: bytes, others: bytes) -> bytes:
    """A newly encoded file with these boxes inserted; `others` comes from `metadata`."""
    resolution = b"".join(_box(name, content) for name, content in boxes(others) if name == b"res ")
    after = b"".join(_box(name, content) for name, content in boxes(others) if name != b"res ")
    parts = [data[:12]] if data[4:8] == b"jP  " else []
    for name, content in boxes(data):
        if name == b"jp2h":
            inner = b"".join(
                _box(b"colr", b"\2\0\0" + icc) if each == b"colr" and icc else _box(each, text)
                for each, text in boxes(content)
                if each != b"res " or not resolution
            )
            parts.append(_box(name, inner + resolution))
            parts += [_box(b"uuid", _EXIF + exif)] if exif else []
            parts += [_box(b"uuid", _XMP + xmp)] if xmp else []
            parts.append(after)
        elif name != b"jP  ":
            parts.append(_box(name, content))
    return b"".join(parts)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of each box; stops at a damaged one."""
    at = 0
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1 and at + 16 <= len(data):
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = len(data) if length == 0 else at + length
        if end < start or end > len(data):
            return
        yield name, data[start:end]
        at = end


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content
