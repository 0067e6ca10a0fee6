"""Segments of a JPEG before its pixels: those of metadata that Pillow does not read or write as a whole.

Sources: ITU-T T.81, annex B; XMP Specification, part 3 (extended XMP).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PHOTOSHOP = b"Photoshop 3.0\0"
_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"


def segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment of a JPEG before its pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == 0xDA:  # pixels begin
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def read_app13(data: bytes) -> bytes:
    """Photoshop's resource blocks in a JPEG, joined if they are split over several segments."""
    return b"".join(
        content[len(_PHOTOSHOP) :]
        for marker, content in segments(data)
        if marker == 0xED and content.startswith(_PHOTOSHOP)
    )


def read_extension(data: bytes, name: bytes) -> bytes:
    """The second part of a JPEG's XMP, joined from its segments; b"" if it is not whole."""
    parts: dict[int, bytes] = {}
    length = 0
    at = len(_EXTENSION)
    for marker, content in segments(data):
        if marker == 0xE1 and content.startswith(_EXTENSION + name) and name and len(content) >= at + 40:
            length, offset = struct.unpack_from(">II", content, at + 32)
            parts[offset] = content[at + 40 :]
    joined = b"".join(parts[offset] for offset in sorted(parts))
    is_whole = len(joined) == length and all(
        offset == sum(len(parts[before]) for before in parts if before < offset) for offset in parts
    )
    return joined if is_whole else b""


def extension(name: bytes, packet: bytes) -> bytes:
    """The segments of a JPEG that hold the second part of its XMP, under the name that the first part gives it."""
    room = 65533 - len(_EXTENSION) - 40
    parts = []
    for offset in range(0, len(packet), room):
        part = packet[offset : offset + room]
        content = _EXTENSION + name + struct.pack(">II", len(packet), offset) + part
        parts.append(b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content)
    return b"".join(parts)


def app13(photoshop: bytes) -> bytes:
    """The segments of a JPEG that hold these resource blocks."""
    room = 65533 - len(_PHOTOSHOP)
    parts = [photoshop[i : i + room] for i in range(0, len(photoshop), room)]
    return b"".join(
        b"\xff\xed" + struct.pack(">H", 2 + len(_PHOTOSHOP) + len(part)) + _PHOTOSHOP + part for part in parts
    )


def has_gain_map(data: bytes) -> bool:
    """True if a gain map for brighter screens follows the picture, as ISO 21496-1 describes it."""
    return any(marker == 0xE2 and content.startswith(_ISO_GAIN_MAP) for marker, content in segments(data))
