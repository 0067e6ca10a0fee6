"""Items of a HEIC or AVIF file: how many pictures it holds, their size, and how their colours are described.

Neither Pillow nor pillow-heif tells all of it, and Pillow cannot write the description of colours.

Source: ISO/IEC 14496-12 (boxes, items), 23008-12 (HEIF); AV1 Bitstream Specification, section 5.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from idsr_cli.images.metadata.xmp_claims import DEPTH, GAIN_MAP, VIDEO

_IMAGES = frozenset({b"hvc1", b"hev1", b"av01", b"grid", b"iden", b"iovl", b"avc1", b"vvc1", b"jpeg", b"j2k1", b"unci"})
# References from an item that is no picture of its own: a thumbnail of, and something that belongs to.
_BESIDE = frozenset({b"thmb", b"auxl"})
_NCLX = b"nclx"
# Types of items beside a picture.
_APPLE_GAIN_MAP = b":aux:hdrgainmap"
_DEPTHS = (b"urn:mpeg:hevc:2015:auxid:2", b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth")
Span = tuple[bytes, int, int]


@dataclass(frozen=True)
class Items:
    """What a file holds.

    Attributes:
        pictures: number of pictures, or frames of a sequence, without thumbnails, tiles, transparency and gain maps.
        size: width and height of the main picture as stored, or (0, 0).
        cicp: numbers of the colour primaries and the transfer function of the main picture (ITU-T H.273), or None.
        places: offsets in the file of the two numbers, 2 bytes each, in all descriptions of colours.
        pixels: offset of the main picture's data, 0 if it is not found.
        has_gain_map: one of the items is a gain map for brighter screens.
        has_depth: one of the items is a map of depth.
        has_video: a video follows the photograph (a motion photo).
    """

    pictures: int = 1
    size: tuple[int, int] = (0, 0)
    cicp: tuple[int, int] | None = None
    places: tuple[int, ...] = field(default=(), repr=False)
    pixels: int = 0
    has_gain_map: bool = False
    has_depth: bool = False
    has_video: bool = False

    @property
    def attachments(self) -> set[str]:
        """Names of what is beside the pictures and not read."""
        found = {GAIN_MAP: self.has_gain_map, DEPTH: self.has_depth, VIDEO: self.has_video}
        return {name for name, is_there in found.items() if is_there}


def read(data: bytes) -> Items:
    """The items of a file; what cannot be found has its default."""
    try:
        return _read(data)
    except (struct.error, IndexError):
        return Items()


def _read(data: bytes) -> Items:
    top = list(_boxes(data, 0, len(data)))
    has_video = any(name == b"mpvd" for name, _, _ in top) or sum(name == b"ftyp" for name, _, _ in top) > 1
    frames = max((_frames(data, span) for span in top if span[0] == b"moov"), default=0)
    meta = next((span for span in top if span[0] == b"meta"), None)
    if meta is None:
        return Items(max(1, frames), has_video=has_video)
    inner = {name: (start, end) for name, start, end in _boxes(data, meta[1] + 4, meta[2])}
    kinds, hidden, gain_map = _kinds(data, *inner.get(b"iinf", (0, 0)))
    gain_map |= data.find(_APPLE_GAIN_MAP, meta[1], meta[2]) >= 0
    has_depth = any(data.find(kind, meta[1], meta[2]) >= 0 for kind in _DEPTHS)
    beside, parts = _references(data, *inner.get(b"iref", (0, 0)))
    primary = _number(data, inner[b"pitm"][0] + 4, 4 if data[inner[b"pitm"][0]] else 2) if b"pitm" in inner else 0
    shown = {item for item, kind in kinds.items() if kind in _IMAGES} - hidden - beside - parts | {primary}
    properties: list[Span] = []
    owned: list[int] = []
    for name, start, end in _boxes(data, *inner.get(b"iprp", (0, 0))):
        if name == b"ipco":
            properties = list(_boxes(data, start, end))
        elif name == b"ipma":
            owned += _associations(data, start, primary)
    size, cicp = (0, 0), None
    for index in owned:
        if not 0 < index <= len(properties):
            continue
        name, start, _ = properties[index - 1]
        if name == b"ispe":
            size = struct.unpack_from(">II", data, start + 4)
        elif name == b"colr" and data[start : start + 4] == _NCLX:
            cicp = struct.unpack_from(">HH", data, start + 4)
    pixels = _place(data, *inner.get(b"iloc", (0, 0)), primary)
    if cicp is None and kinds.get(primary) == b"av01" and (bit := _described_at(data, pixels)) is not None:
        both = int.from_bytes(data[bit // 8 : bit // 8 + 3], "big") >> (8 - bit % 8) & 0xFFFF
        cicp = both >> 8, both & 255
    places = tuple(s + 4 for name, s, _ in properties if name == b"colr" and data[s : s + 4] == _NCLX)
    return Items(max(len(shown), frames, 1), size, cicp, places, pixels, gain_map, has_depth, has_video)


def with_cicp(data: bytes, cicp: tuple[int, int]) -> bytes:
    """An AVIF file of one picture with another description of its colours, in its box and in the AV1 data."""
    found = read(data)
    edited = bytearray(data)
    for place in found.places:
        struct.pack_into(">HH", edited, place, *cicp)
    bit = _described_at(data, found.pixels)
    if bit is not None:
        for i, value in enumerate(cicp):
            for j in range(8):
                where, shift = divmod(bit + 8 * i + j, 8)
                edited[where] = edited[where] & ~(128 >> shift) | (128 >> shift) * (value >> (7 - j) & 1)
    return bytes(edited)


def _described_at(data: bytes, at: int) -> int | None:
    """Where in a file, in bits, the AV1 data at an offset describe the colours of a still picture; None = nowhere."""
    if at <= 0 or at + 24 > len(data):
        return None
    while data[at] & 0x78 == 0x10 and data[at] & 2:  # temporal delimiters
        at += 2 + data[at + 1]
    if data[at] & 0x7E != 0x0A:  # not a sequence header with its length
        return None
    bit = 8 * (at + 2)

    def bits(count: int) -> int:
        nonlocal bit
        value = 0
        for _ in range(count):
            value = value << 1 | data[bit // 8] >> (7 - bit % 8) & 1
            bit += 1
        return value

    profile, _, reduced = bits(3), bits(1), bits(1)
    if not reduced:
        return None
    bits(5)  # level
    width, height = bits(4) + 1, bits(4) + 1
    bits(width + height + 6)  # size of the picture and switches of the decoder
    if bits(1) and profile == 2:
        bits(1)  # 12 bits
    if profile != 1:
        bits(1)  # grey
    is_described = bits(1)
    return bit if is_described else None


def _boxes(data: bytes, at: int, end: int) -> Iterator[Span]:
    """Name, begin and end of the content of each box; stops at a damaged one."""
    while at + 8 <= end:
        length, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if length == 0 else at + length
        if stop < start or stop > end:
            return
        yield name, start, stop
        at = stop


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def _kinds(data: bytes, start: int, end: int) -> tuple[dict[int, bytes], set[int], bool]:
    """Type of each item, those that are hidden, and True if one is a gain map."""
    kinds, hidden = {}, set()
    if end > start:
        start += 6 if data[start] == 0 else 8
    for name, at, stop in _boxes(data, start, end):
        if name != b"infe" or data[at] < 2:
            continue
        size = 2 if data[at] == 2 else 4
        item = _number(data, at + 4, size)
        kinds[item] = data[at + 6 + size : min(at + 10 + size, stop)]
        if data[at + 3] & 1:
            hidden.add(item)
    return kinds, hidden, b"tmap" in kinds.values()


def _references(data: bytes, start: int, end: int) -> tuple[set[int], set[int]]:
    """Items that lie beside a picture, and items that others are made of."""
    beside, parts = set(), set()
    size = 2 if end > start and data[start] == 0 else 4
    for name, at, _ in _boxes(data, start + 4, end):
        if name in _BESIDE:
            beside.add(_number(data, at, size))
        elif name == b"dimg":
            count = _number(data, at + size, 2)
            parts |= {_number(data, at + size + 2 + size * i, size) for i in range(count)}
    return beside, parts


def _associations(data: bytes, at: int, item: int) -> list[int]:
    """Numbers of an item's properties, from 1."""
    size = 2 if data[at] == 0 else 4
    wide = data[at + 3] & 1
    count = _number(data, at + 4, 4)
    at += 8
    for _ in range(count):
        owner, number = _number(data, at, size), data[at + size]
        at += size + 1
        step = 2 if wide else 1
        if owner == item:
            mask = 0x7FFF if wide else 0x7F
            return [_number(data, at + step * i, step) & mask for i in range(number)]
        at += step * number
    return []


def _place(data: bytes, start: int, end: int, item: int) -> int:
    """Offset in the file of an item's first part; 0 if it is not found."""
    if end <= start:
        return 0
    version, sizes = data[start], _number(data, start + 4, 2)
    offset, length, base, index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if version == 2 else 2
    count, at = _number(data, start + 6, wide), start + 6 + wide
    for _ in range(count):
        owner = _number(data, at, wide)
        at += wide
        method = _number(data, at, 2) & 15 if version else 0
        at += 4 if version else 2
        begin, parts = _number(data, at, base), _number(data, at + base, 2)
        at += base + 2
        step = (index if version else 0) + offset + length
        if owner == item:
            return begin + _number(data, at + step - offset - length, offset) if parts and not method else 0
        at += step * parts
    return 0


def _frames(data: bytes, span: Span) -> int:
    """Frames of the longest sequence of pictures in a box. A film behind a photograph is none."""
    most, is_film = 0, False
    for name, start, end in _boxes(data, span[1], span[2]):
        if name in (b"trak", b"mdia", b"minf", b"stbl"):
            most = max(most, _frames(data, (name, start, end)))
        elif name == b"stsz":
            most = max(most, _number(data, start + 8, 4))
        elif name == b"hdlr" and span[0] == b"mdia":
            is_film = data[start + 8 : start + 12] != b"pict"
    return 0 if is_film else most
