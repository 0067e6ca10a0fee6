"""Directories of a TIFF file or an EXIF block, which have the same structure: read, edited in place, written.

Libraries that rewrite EXIF move the makers' notes, which breaks the offsets inside them, and guess the types of values
again. Here a block is either edited in place, or its values are copied as bytes with their types.

Source of the layout: TIFF 6.0, section 2; BigTIFF as libtiff documents it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# Bytes per value of each field type; 16 to 18 are BigTIFF's.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7

ORIENTATION = 274
# Fields that point to another directory: EXIF, GPS, interoperability.
_POINTERS = frozenset({34665, 34853, 40965})
# Fields that are not copied to another file: those that describe the arrangement of its pixels, or old pixels (layers,
# previews), and those kept elsewhere in `Metadata`: XMP (700), IPTC (33723), Photoshop (34377), colour profile (34675).
LAYOUT = frozenset({
    *range(254, 260), 262, *range(263, 267), 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292, 293, 301, 317,
    320, 321, *range(322, 326), 330, *range(332, 342), 347, 512, 513, 514, *range(519, 522), *range(529, 533), 559,
    700, 33723, 34377, 34675, 37724,
})  # fmt: skip


class Header(NamedTuple):
    """Byte order ("<" or ">"), True for BigTIFF, and the offset of the first directory."""

    order: str
    big: bool
    first: int


class Field(NamedTuple):
    """One value, or several of one type, as bytes in the byte order of its file."""

    kind: int
    number: int
    data: bytes


Fields = dict[int, Field]


def header(data: bytes) -> Header | None:
    """The header of a TIFF file or EXIF block; None for other data."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return None
    (version,) = struct.unpack_from(order + "H", data, 2)
    if version == 42:
        return Header(order, False, struct.unpack_from(order + "I", data, 4)[0])
    if version == 43:
        return Header(order, True, struct.unpack_from(order + "Q", data, 8)[0])
    return None


def read(data: bytes, at: int, head: Header) -> tuple[Fields, int]:
    """Fields of the directory at an offset, without those whose data are missing, and the next one's offset or 0.

    Raises:
        struct.error: the directory itself is cut short.
    """
    fields: Fields = {}
    entries, count, step = _entries(data, at, head)
    inline = 8 if head.big else 4
    for entry in range(entries, entries + step * count, step):
        tag, kind, number = struct.unpack_from(head.order + ("HHQ" if head.big else "HHI"), data, entry)
        size = _SIZES.get(kind, 0) * number
        start = entry + step - inline
        if size > inline:
            (start,) = struct.unpack_from(head.order + ("Q" if head.big else "I"), data, start)
        if size and start + size <= len(data):
            fields[tag] = Field(kind, number, bytes(data[start : start + size]))
    (following,) = struct.unpack_from(head.order + ("Q" if head.big else "I"), data, entries + step * count)
    return fields, following


def _entries(data: bytes, at: int, head: Header) -> tuple[int, int, int]:
    """Offset of a directory's first entry, number of entries, and bytes per entry."""
    (count,) = struct.unpack_from(head.order + ("Q" if head.big else "H"), data, at)
    first, step = (at + 8, 20) if head.big else (at + 2, 12)
    if first + step * count > len(data):
        raise struct.error("the directory is cut short")
    return first, count, step


def whole(fields: Mapping[int, Field], tag: int, order: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The whole numbers of a field."""
    field = fields.get(tag)
    if field is None or field.kind not in _WHOLE:
        return default
    return struct.unpack(f"{order}{field.number}{_WHOLE[field.kind]}", field.data)


def numbers(order: str, kind: int, values: Iterable[int]) -> Field:
    """A field of whole numbers; RATIONAL takes numerators and denominators in turn."""
    given = tuple(values)
    letter, each = ("I", 2) if kind == RATIONAL else (_WHOLE[kind], 1)
    return Field(kind, len(given) // each, struct.pack(f"{order}{len(given)}{letter}", *given))


def write(fields: Mapping[int, Field], order: str, at: int) -> bytes:
    """The bytes of a directory that will begin at offset `at`, followed by its longer values; it has no next one."""
    parts: list[bytes] = []
    free = at + 2 + 12 * len(fields) + 4
    entries = [struct.pack(order + "H", len(fields))]
    for tag, field in sorted(fields.items()):
        entries.append(struct.pack(order + "HHI", tag, field.kind, field.number))
        if len(field.data) <= 4:
            entries.append(field.data.ljust(4, b"\0"))
        else:
            entries.append(struct.pack(order + "I", free))
            parts.append(field.data + b"\0" * (len(field.data) % 2))
            free += len(parts[-1])
    return b"".join([*entries, b"\0" * 4, *parts])


def tree(data: bytes, at: int, head: Header) -> tuple[Fields, dict[int, Fields]]:
    """A directory without the `LAYOUT` fields, and the directories below it by tag, nested ones in the same dict.

    Raises:
        struct.error: the directory is cut short.
    """
    fields, _ = read(data, at, head)
    below: dict[int, Fields] = {}
    pending = [(tag, fields) for tag in _POINTERS & set(fields)]
    while pending:
        tag, owner = pending.pop()
        where = whole(owner, tag, head.order)
        del owner[tag]
        if not where or tag in below:
            continue
        try:
            below[tag], _ = read(data, where[0], head)
        except struct.error:
            continue
        pending += [(inner, below[tag]) for inner in _POINTERS & set(below[tag])]
    plain = {tag: f for tag, f in fields.items() if tag not in LAYOUT and f.kind < 16}
    return plain, {tag: {t: f for t, f in d.items() if f.kind < 16} for tag, d in below.items()}


def write_tree(fields: Fields, below: Mapping[int, Fields], order: str, at: int) -> bytes:
    """The bytes of a directory that will begin at offset `at`, followed by the directories below it."""
    nothing = numbers(order, LONG, [0])
    lower = {tag: dict(directory) for tag, directory in below.items()}
    owners = {tag: lower[34665] if tag == 40965 and 34665 in lower else fields for tag in lower}
    top = fields | {tag: nothing for tag, owner in owners.items() if owner is fields}
    for tag, owner in owners.items():
        if owner is not fields:
            owner[tag] = nothing
    place = at + len(write(top, order, 0))
    for tag, directory in lower.items():
        (top if owners[tag] is fields else owners[tag])[tag] = numbers(order, LONG, [place])
        place += len(write(directory, order, 0))
    place = at + len(write(top, order, 0))
    parts = [write(top, order, at)]
    for directory in lower.values():
        parts.append(write(directory, order, place))
        place += len(parts[-1])
    return b"".join(parts)


def orientation(data: bytes) -> int:
    """The orientation tag of a TIFF file or EXIF block; 1 if there is none."""
    head = header(data)
    if head is None:
        return 1
    try:
        fields, _ = read(data, head.first, head)
    except struct.error:
        return 1
    return whole(fields, ORIENTATION, head.order, (1,))[0]


def reset_orientation(data: bytes) -> bytes:
    """A TIFF file or EXIF block with its orientation tag set to 1 and everything else unchanged.

    Pillow and OpenCV apply this tag when they load a TIFF (unlike a JPEG or PNG), and it cannot be switched off.
    """
    head = header(data)
    if head is None:
        return data
    try:
        entries, count, step = _entries(data, head.first, head)
        for entry in range(entries, entries + step * count, step):
            tag, kind = struct.unpack_from(head.order + "HH", data, entry)
            if tag == ORIENTATION and kind == SHORT:
                turned = bytearray(data)
                struct.pack_into(head.order + "H", turned, entry + (12 if head.big else 8), 1)
                return bytes(turned)
    except struct.error:  # cut short; the decoder will report it
        pass
    return data


def repaired(data: bytes) -> bytes:
    """An EXIF block with the intact fields of a TIFF file or EXIF block, without `LAYOUT`; b"" if there are none."""
    head = header(data)
    if head is None:
        return b""
    try:
        fields, below = tree(data, head.first, head)
    except struct.error:
        return b""
    return block(fields, below, head.order) if fields or below else b""


def block(fields: Fields, below: Mapping[int, Fields], order: str) -> bytes:
    """A complete EXIF block: header and directories."""
    return file_header(order) + write_tree(fields, below, order, 8)


def file_header(order: str, first: int = 8) -> bytes:
    """The first 8 bytes of a TIFF file, with the offset of its main directory."""
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, first)


def without_thumbnail(exif: bytes) -> bytes:
    """An EXIF block without its thumbnail, all other bytes in place; b"" if the block is damaged.

    The thumbnail is the second directory and the picture it points to.
    """
    head = header(exif)
    if head is None or head.big:
        return b""
    try:
        entries, count, step = _entries(exif, head.first, head)
        link = entries + step * count
        (second,) = struct.unpack_from(head.order + "I", exif, link)
    except struct.error:
        return b""
    if not second:
        return exif
    edited = bytearray(exif)
    struct.pack_into(head.order + "I", edited, link, 0)
    try:
        fields, _ = read(exif, second, head)
        first, number, step = _entries(exif, second, head)
    except struct.error:
        return bytes(edited)
    spans = [(second, first + step * number + 4)]
    for where, length in ((513, 514), (273, 279)):
        starts, sizes = whole(fields, where, head.order), whole(fields, length, head.order)
        spans += [(start, start + size) for start, size in zip(starts, sizes, strict=False)]
    end = len(edited)
    for start, stop in sorted(spans, reverse=True):
        if start < link + 4 or stop > len(exif):
            continue  # points outside the block or into the main directory, which must stay
        edited[start:stop] = bytes(stop - start)
        end = start if stop >= end else end
    return bytes(edited[:end])


def orientation_only(value: int) -> bytes:
    """An EXIF block with an orientation and nothing else; b"" for 1, the default."""
    return block({ORIENTATION: numbers("<", SHORT, [value])}, {}, "<") if value != 1 else b""


def without_makers_notes(exif: bytes) -> bytes:
    """An EXIF block without the makers' notes, usually its longest field, for formats with little room."""
    head = header(exif)
    if head is None:
        return b""
    fields, below = tree(exif, head.first, head)
    below.get(34665, {}).pop(37500, None)
    return block(fields, below, head.order)
