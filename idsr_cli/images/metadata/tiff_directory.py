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
# Types that are not whole numbers by name, and still hold one now and then: unsigned and signed ratio, float, double.
_RATIOS, _FLOATS = {5: "II", 10: "ii"}, {11: "f", 12: "d"}
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7

ORIENTATION = 274
SUB_DIRECTORIES = 330
# Fields that point to another directory: EXIF, GPS, interoperability.
_POINTERS = frozenset({34665, 34853, 40965})
# Fields that are not copied to another file: those that describe the arrangement of its pixels, or old pixels (layers,
# previews), and those kept elsewhere in `Metadata`: XMP (700), IPTC (33723), Photoshop (34377), colour profile (34675).
LAYOUT = frozenset({
    *range(254, 260), 262, *range(263, 267), 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292, 293, 301, 317,
    320, 321, *range(322, 326), 330, *range(332, 342), 347, 512, 513, 514, *range(519, 522), *range(529, 533), 559,
    700, 33723, 34377, 34675, 37724,
    # A DNG's own fields, which describe the sensor's values. Nothing but a DNG may have them.
    *range(50706, 50742), *range(50778, 50782), *range(50827, 50835), 50879, *range(50931, 50943), *range(50964, 50983),
    51008, 51009, 51022, 51041, *range(51043, 51059), *range(51081, 51126),
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
    if version in (42, 42 << 8):  # the second is wrong, and some programs write it
        return Header(order, False, struct.unpack_from(order + "I", data, 4)[0])
    if version == 43:
        return Header(order, True, struct.unpack_from(order + "Q", data, 8)[0])
    return None


def read(data: bytes, at: int, head: Header) -> tuple[Fields, int]:
    """Fields of the directory at an offset, without those whose data are missing, and the next one's offset or 0.

    Some programs leave out the offset of the next directory. It is 0 where the data end before it, or where a value of
    this directory lies in its place.

    Raises:
        struct.error: the directory itself is cut short.
    """
    fields: Fields = {}
    entries, count, step = _entries(data, at, head)
    inline = 8 if head.big else 4
    link, following = entries + step * count, 0
    if link + inline <= len(data):
        (following,) = struct.unpack_from(head.order + ("Q" if head.big else "I"), data, link)
    for entry in range(entries, entries + step * count, step):
        tag, kind, number = struct.unpack_from(head.order + ("HHQ" if head.big else "HHI"), data, entry)
        size = _SIZES.get(kind, 0) * number
        start = entry + step - inline
        if size > inline:
            (start,) = struct.unpack_from(head.order + ("Q" if head.big else "I"), data, start)
            if start < link + inline and start + size > link:
                following = 0
        if size and start + size <= len(data):
            fields[tag] = Field(kind, number, bytes(data[start : start + size]))
    if any(link <= at < link + inline for tag in _POINTERS for at in whole(fields, tag, head.order)):
        following = 0
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


def number(fields: Mapping[int, Field], tag: int, order: str, default: int) -> int:
    """The first value of a field, of whatever type of number; the default if there is none or it is no whole number."""
    field = fields.get(tag)
    if field is None:
        return default
    if field.kind in _RATIOS:
        above, below = struct.unpack_from(order + _RATIOS[field.kind], field.data)
        return above // below if below and above % below == 0 else default
    if field.kind in _FLOATS:
        (value,) = struct.unpack_from(order + _FLOATS[field.kind], field.data)
        return int(value) if value.is_integer() else default
    return whole(fields, tag, order, (default,))[0]


def numbers(order: str, kind: int, values: Iterable[int]) -> Field:
    """A field of whole numbers; RATIONAL takes numerators and denominators in turn."""
    given = tuple(values)
    letter, each = ("I", 2) if kind == RATIONAL else (_WHOLE[kind], 1)
    return Field(kind, len(given) // each, struct.pack(f"{order}{len(given)}{letter}", *given))


def write(fields: Mapping[int, Field], order: str, at: int, following: int = 0) -> bytes:
    """The bytes of a directory that will begin at offset `at`, followed by its longer values.

    `following` is the offset of the next directory, 0 = none.
    """
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
    return b"".join([*entries, struct.pack(order + "I", following), *parts])


def tree(data: bytes, head: Header, fields: Fields | None = None) -> tuple[Fields, dict[int, Fields]]:
    """A directory without the `LAYOUT` fields, and the directories below it by tag, nested ones in the same dict.

    Args:
        data: the TIFF file or EXIF block.
        head: its header.
        fields: of the directory; None = the first one.

    Raises:
        struct.error: the directory is cut short.
    """
    fields = read(data, head.first, head)[0] if fields is None else dict(fields)
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
    if ORIENTATION in fields:
        fields[ORIENTATION] = numbers(head.order, SHORT, [orientation_of(fields, head.order)])
    plain = {tag: f for tag, f in fields.items() if tag not in LAYOUT and f.kind < 16}
    return plain, {tag: {t: f for t, f in d.items() if f.kind < 16} for tag, d in below.items()}


def write_tree(fields: Fields, below: Mapping[int, Fields], order: str, at: int, following: int = 0) -> bytes:
    """The bytes of a directory that will begin at offset `at`, followed by the directories below it.

    `following` is the offset of the next directory, 0 = none.
    """
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
    parts = [write(top, order, at, following)]
    for directory in lower.values():
        parts.append(write(directory, order, place))
        place += len(parts[-1])
    return b"".join(parts)


def orientation_of(fields: Mapping[int, Field], order: str) -> int:
    """How a directory's picture is turned, 1 to 8; 1 if it does not say, or says something else.

    The type should be SHORT. Programs write others, and readers take them.
    """
    found = number(fields, ORIENTATION, order, 1)
    return found if 1 <= found <= 8 else 1


def orientation(exif: bytes) -> int:
    """The orientation of an EXIF block, 1 to 8; 1 if there is none."""
    head = header(exif)
    if head is None:
        return 1
    try:
        fields, _ = read(exif, head.first, head)
    except struct.error:
        return 1
    return orientation_of(fields, head.order)


def with_orientation(exif: bytes, value: int | None = None) -> bytes:
    """An EXIF block with its orientation changed in place and stored as SHORT; unchanged if it has none.

    Args:
        exif: the block.
        value: the new orientation; None = the one it has.
    """
    head = header(exif)
    if head is None:
        return exif
    try:
        entries, count, step = _entries(exif, head.first, head)
    except struct.error:
        return exif
    for entry in range(entries, entries + step * count, step):
        (tag,) = struct.unpack_from(head.order + "H", exif, entry)
        if tag != ORIENTATION:
            continue
        edited = bytearray(exif)
        new = orientation(exif) if value is None else value
        struct.pack_into(head.order + ("HHQHHI" if head.big else "HHIHH"), edited, entry,
                         tag, SHORT, 1, new, 0, *([0] if head.big else []))  # fmt: skip
        return bytes(edited)
    return exif


def repaired(data: bytes) -> bytes:
    """An EXIF block with the intact fields of another, without `LAYOUT`; b"" if there are none."""
    head = header(data)
    if head is None:
        return b""
    try:
        fields, below = tree(data, head)
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
    """An EXIF block without its thumbnail, all other bytes in place but those of an orientation that is not SHORT.

    The thumbnail is the second directory and the picture it points to. What the main directory and those below it use
    stays, wherever the second directory points. The result is b"" if the block is damaged.
    """
    head = header(exif)
    if head is None or head.big:
        return b""
    try:
        _, second = read(exif, head.first, head)
    except struct.error:
        return b""
    exif = with_orientation(exif)
    if not second:
        return exif
    used = _used(exif, head)
    entries, count, step = _entries(exif, head.first, head)
    edited = bytearray(exif)
    struct.pack_into(head.order + "I", edited, entries + step * count, 0)
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
        stop = min(stop, len(exif)) if start == second else stop
        if stop > len(exif) or any(start < last and stop > begin for begin, last in used):
            continue
        edited[start:stop] = bytes(stop - start)
        end = start if stop >= end else end
    return bytes(edited[:end])


def _used(exif: bytes, head: Header) -> list[tuple[int, int]]:
    """Begin and end of all that the main directory and the directories below it consist of."""
    spans, pending, seen = [(0, 8)], [head.first], set()
    while pending:
        at = pending.pop()
        if at in seen:
            continue
        seen.add(at)
        try:
            entries, count, step = _entries(exif, at, head)
            fields, _ = read(exif, at, head)
        except struct.error:
            continue
        spans.append((at, entries + step * count + (4 if at == head.first else 0)))
        for entry in range(entries, entries + step * count, step):
            tag, kind, number, start = struct.unpack_from(head.order + "HHII", exif, entry)
            if tag in fields and _SIZES[kind] * number > 4:
                spans.append((start, start + _SIZES[kind] * number))
        pending += [where for tag in _POINTERS & set(fields) for where in whole(fields, tag, head.order)]
    return spans


def orientation_only(value: int) -> bytes:
    """An EXIF block with an orientation and nothing else; b"" for 1, the default."""
    return block({ORIENTATION: numbers("<", SHORT, [value])}, {}, "<") if value != 1 else b""


def without_makers_notes(exif: bytes) -> bytes:
    """An EXIF block without the makers' notes, usually its longest field, for formats with little room."""
    head = header(exif)
    if head is None:
        return b""
    fields, below = tree(exif, head)
    below.get(34665, {}).pop(37500, None)
    return block(fields, below, head.order)
