"""What FFmpeg does not tell of Matroska and WebM files, or does not write: where they end, the shape of their pixels.

Both formats are EBML: elements of an id, a size and a payload, one within the other.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

# FFmpeg's name of the demuxer.
MATROSKA = "matroska,webm"

# Goes at the end of the video track's name while the clip is written, and makes room for what `set_pixel_shape` writes.
ROOM = "~" * 24

_HEADER, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TRACKS, _TRACK, _NAME, _VIDEO = 0x1654AE6B, 0xAE, 0x536E, 0xE0
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_VOID, _CRC = 0xEC, 0xBF


def segment_end(path: Path) -> int | None:
    """Where the file ends according to its header, in bytes from its start; None if the header does not say."""
    with open(path, "rb") as file:
        header = _head(file)
        if header is None or header[0] != _HEADER or header[1] is None:
            return None
        file.seek(header[1], 1)
        segment = _head(file)
        if segment is None or segment[0] != _SEGMENT or segment[1] is None:
            return None
        return file.tell() + segment[1]


def recordings(path: Path) -> int:
    """How many files of this kind are joined in one; FFmpeg reads the first two at most."""
    count = 0
    with open(path, "rb") as file:
        while (header := _head(file)) is not None and header[0] == _HEADER and header[1] is not None:
            file.seek(header[1], 1)
            segment = _head(file)
            if segment is None or segment[0] != _SEGMENT:
                break
            count += 1
            if segment[1] is None:
                break
            file.seek(segment[1], 1)
    return count


def set_pixel_shape(path: Path, width: int, height: int, shape: Fraction) -> None:
    """Write the shape of the pixels into the header of a file whose video track is named with `ROOM` at the end.

    FFmpeg can write it, but PyAV has no way to ask for it. The file keeps its length.

    Args:
        path: a file just written by FFmpeg.
        width: of the stored grid, pixels.
        height: of the stored grid, pixels.
        shape: width of a pixel as a multiple of its height.
    """
    with open(path, "r+b") as file:
        size = -1
        for wanted in (_HEADER, _SEGMENT, _TRACKS):
            while True:
                head = _head(file)
                if head is None or head[0] == _CLUSTER:
                    return
                if head[0] == wanted:
                    size = -1 if head[1] is None else head[1]
                    break
                file.seek(head[1] or 0, 1)
            if wanted == _HEADER:
                file.seek(size, 1)
        start = file.tell()
        tracks = file.read(size)
        rest = b"".join(
            _element(number, _with_shape(payload, width, height, shape) if number == _TRACK else payload)
            for number, payload in _children(tracks)
            if number != _CRC
        )
        checked = tracks[:1] == bytes([_CRC])
        room = size - len(rest) - (6 if checked else 0)
        # An empty element of exactly this size; its own id and size take 2 of it.
        rest += _element(_VOID, bytes(room - 2))
        if checked:
            rest = _element(_CRC, zlib.crc32(rest).to_bytes(4, "little")) + rest
        file.seek(start)
        file.write(rest)


def _with_shape(track: bytes, width: int, height: int, shape: Fraction) -> bytes:
    """The track that holds `ROOM`, without it and with the size at which it is shown; other tracks as they are."""
    children = list(_children(track))
    if not any(number == _NAME and payload.endswith(ROOM.encode()) for number, payload in children):
        return track
    across, down = _display_size(width, height, shape)
    made = b""
    for number, payload in children:
        if number == _NAME:
            payload = payload[: -len(ROOM)]
            if not payload:
                continue
        elif number == _VIDEO:
            # FFmpeg says that the unit is unknown; without it, it is pixels.
            payload = b"".join(_element(*child) for child in _children(payload) if child[0] != _DISPLAY_UNIT)
            payload += _element(_DISPLAY_WIDTH, _number(across)) + _element(_DISPLAY_HEIGHT, _number(down))
        made += _element(number, payload)
    return made


def _display_size(width: int, height: int, shape: Fraction) -> tuple[int, int]:
    """A size in whole pixels, near the stored one, whose ratio is exact if that is possible."""
    ratio = shape * width / height
    times = round(height / ratio.denominator)
    if times:
        return times * ratio.numerator, times * ratio.denominator
    return round(width * shape), height


def _head(file: BinaryIO) -> tuple[int, int | None] | None:
    """Id and size of the next element; the size is None if unknown. None at the end of the file."""
    number = _vint(file, keep_mark=True)
    size = _vint(file, keep_mark=False)
    if number is None or size is None:
        return None
    return number[0], None if size[0] == (1 << 7 * size[1]) - 1 else size[0]


def _vint(file: BinaryIO, keep_mark: bool) -> tuple[int, int] | None:
    """A number whose first byte tells its length, and this length; None at the end of the file or in other data."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    return (value if keep_mark else value - (1 << 7 * length)), length


def _children(payload: bytes) -> Iterator[tuple[int, bytes]]:
    import io

    file = io.BytesIO(payload)
    while (head := _head(file)) is not None:
        yield head[0], file.read(head[1])


def _element(number: int, payload: bytes) -> bytes:
    size = len(payload)
    length = next(length for length in range(1, 9) if size < (1 << 7 * length) - 1)
    mark = 1 << 7 * length
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + (mark | size).to_bytes(length, "big") + payload


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
