"""Whether a stream of bytes holds a second picture behind the first, as `cat a.jpg b.jpg` makes it.

A decoder reads the first picture and never looks at the rest. In a file the rest may be what cameras put there (a
video, a gain map, previews); those that the first picture announces are no second picture.
"""

from __future__ import annotations

import struct

from idsr_cli.images.folders import begins_as_picture

# Texts by which a JPEG announces that other JPEGs follow: an index of pictures, or a directory in XMP.
_ANNOUNCED = (b"MPF\0", b"Container:Directory", b"GContainer", b"GDepth", b"GImage")


def has_second_picture(data: bytes) -> bool:
    """True if another picture begins where the first one ends; False if that cannot be told.

    Args:
        data: JPEG, PNG, WebP, GIF, BMP, PPM and its kin, JPEG 2000, AVIF or HEIC. A TIFF does not say where it ends:
            only another TIFF of the same byte order is found behind it. Other kinds have no known end.
    """
    try:
        end = _end(data)
    except (IndexError, ValueError, struct.error):  # a damaged file is reported by its decoder
        return False
    if end is None:
        return False
    rest = data[end:].lstrip(b"\0\r\n\t ")
    if len(data[end:]) - len(rest) and not begins_as_picture(rest):
        rest = data[end:]  # the leading bytes belong to the picture: a box begins with zeros
    return begins_as_picture(rest) and not _is_announced(data[:end])


def _end(data: bytes) -> int | None:
    """Number of bytes of the first picture; None if it cannot be told."""
    if data[:2] == b"\xff\xd8":
        return _end_of_jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _end_of_png(data)
    if data[:4] == b"RIFF":
        size = int.from_bytes(data[4:8], "little")
        return 8 + size + size % 2
    if data[:4] == b"GIF8":
        return _end_of_gif(data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _before_next(data)
    if data[:2] == b"BM":
        return int.from_bytes(data[2:6], "little") or None
    if data[:1] == b"P" and data[1:2] in b"456":
        return _end_of_netpbm(data)
    if data[4:8] == b"ftyp" or data[4:8] == b"jP  ":
        return _end_of_boxes(data)
    return None


def _end_of_jpeg(data: bytes) -> int:
    """Behind the marker EOI that belongs to the first SOI."""
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise ValueError("no marker")
        marker = data[at + 1]
        if marker == 0xD9:
            return at + 2
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:  # entropy-coded data follow: a marker in them is FF and neither 00 nor a restart
            while True:
                at = data.index(b"\xff", at)
                if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:
                    break
                at += 2


def _end_of_png(data: bytes) -> int:
    at = 8
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if kind == b"IEND":
            return at


def _end_of_gif(data: bytes) -> int:
    """Behind the trailer: colours, then blocks, each a chain of parts that begin with their length."""

    def colours(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    at = 13 + colours(data[10])
    while data[at] != 0x3B:
        if data[at] == 0x21:
            at += 2
        elif data[at] == 0x2C:
            at += 11 + colours(data[at + 9])
        else:
            raise ValueError("no block")
        while data[at]:
            at += 1 + data[at]
        at += 1
    return at + 1


def _end_of_netpbm(data: bytes) -> int:
    """P4 to P6: width, height and the largest value in text, comments between them, then the pixels."""
    numbers: list[int] = []
    wanted = 2 if data[1:2] == b"4" else 3
    at = 2
    while len(numbers) < wanted:
        while data[at : at + 1].isspace():
            at += 1
        if data[at : at + 1] == b"#":
            at = data.index(b"\n", at)
            continue
        start = at
        while data[at : at + 1].isdigit():
            at += 1
        numbers.append(int(data[start:at]))
    width, height = numbers[:2]
    samples = (3 if data[1:2] == b"6" else 1) * (2 if numbers[-1] > 255 else 1)
    return at + 1 + height * (width * samples if wanted == 3 else -(-width // 8))


def _end_of_boxes(data: bytes) -> int | None:
    """Before the second file type box (AVIF, HEIC) or signature box (JPEG 2000); None if there is none."""
    at, first = 0, True
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == data[4:8] and not first:
            return at
        if size == 1:
            size = struct.unpack_from(">Q", data, at + 8)[0]
        if size < 8:  # 0: up to the end, which in a joined stream is that of all
            return _before_next(data)
        if at + size > len(data):  # no box: something else follows, or the last box is cut off
            return None if first else at
        at, first = at + size, False
    return None


def _before_next(data: bytes) -> int | None:
    """For files that do not say where they end: before a later place at which a whole file of this kind begins."""
    from io import BytesIO

    from PIL import Image

    head = data[:12] if data[4:8] == b"jP  " else data[:4]
    at = data.find(head, 1)
    while at > 0:
        try:
            with Image.open(BytesIO(data[at:])) as image:
                image.load()
        except Exception:  # Pillow raises many kinds; these bytes only look like the head of a file
            at = data.find(head, at + 1)
        else:
            return at
    return None


def _is_announced(first: bytes) -> bool:
    return first[:2] == b"\xff\xd8" and any(text in first for text in _ANNOUNCED)
