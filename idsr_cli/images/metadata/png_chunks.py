"""Chunks of a PNG that are not pixels: reading them, choosing those still valid for changed pixels, inserting them.

Source: Portable Network Graphics Specification (Third Edition), sections 5.4 (what the letters of a chunk's name say)
and 11.3. The "Raw profile type" texts are ImageMagick's, read and written by ExifTool too.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Iterable, Iterator

Chunk = tuple[bytes, bytes]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that define the colours. They are not marked as safe to copy, but the colour space is not changed here.
_COLOUR = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI"})
_XMP = b"XML:com.adobe.xmp"


def chunks(data: bytes) -> Iterator[Chunk]:
    """Name and content of each chunk that is whole."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if at + 12 + length > len(data):
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def kept_chunks(data: bytes) -> tuple[Chunk, ...]:
    """The chunks to write again: colour space, resolution, texts, and all that are marked as safe to copy.

    Left out are those kept elsewhere in `Metadata` (colour profile, EXIF, XMP, IPTC) and those about the old pixels.
    """
    return tuple((name, content) for name, content in chunks(data) if _is_kept(name, content))


def _is_kept(name: bytes, content: bytes) -> bool:
    if name in (b"eXIf", b"iCCP") or (name == b"iTXt" and content.startswith(_XMP)):
        return False
    if name == b"zTXt" or name == b"tEXt":
        title = content.split(b"\0")[0].lower()
        if title.startswith(b"raw profile type ") and title[17:] in (b"exif", b"app1", b"iptc", b"xmp"):
            return False
    # Lower case: first letter = ancillary, last letter = may be copied into an edited picture.
    return name in _COLOUR or (name[:1].islower() and name[3:].islower())


def only_pixels(data: bytes) -> bytes:
    """A PNG with only the chunks that decoding needs: libpng prints warnings about the others to standard error."""
    kept = [(name, content) for name, content in chunks(data) if name[:1].isupper() or name == b"tRNS"]
    return _SIGNATURE + b"".join(chunk(name, content) for name, content in kept)


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk's bytes."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def insert(data: bytes, extra: Iterable[Chunk]) -> bytes:
    """A PNG with the `extra` chunks inserted directly after its header."""
    after = len(_SIGNATURE) + 25
    return data[:after] + b"".join(chunk(*each) for each in extra) + data[after:]


def icc(profile: bytes) -> Chunk:
    """A colour profile."""
    return b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)


def xmp(packet: bytes) -> Chunk:
    """An XMP packet."""
    return b"iTXt", _XMP + b"\0\0\0\0\0" + packet


def resolution(dpi: tuple[float, float]) -> Chunk:
    """Pixels per metre from pixels per inch."""
    return b"pHYs", struct.pack(">IIB", *(round(each / 0.0254) for each in dpi), 1)


def raw_profile(kind: str, content: bytes) -> Chunk:
    """A text chunk for metadata that PNG has no chunk for: a line with the kind, one with the length, then hex."""
    digits = binascii.hexlify(content)
    lines = b"\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    text = f"\n{kind}\n{len(content):8d}\n".encode() + lines + b"\n"
    return b"zTXt", f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text)


def read_raw_profile(data: bytes, kinds: Iterable[str]) -> bytes:
    """The content of the first such text of one of these kinds; b"" if there is none, or it is damaged."""
    titles = {f"raw profile type {kind}".encode() for kind in kinds}
    for name, content in chunks(data):
        title, _, rest = content.partition(b"\0")
        if name not in (b"zTXt", b"tEXt") or title.lower() not in titles:
            continue
        try:
            text = zlib.decompressobj().decompress(rest[1:], 1 << 26) if name == b"zTXt" else rest
            _, _, _, digits = text.split(b"\n", 3)
            return binascii.unhexlify(b"".join(digits.split()))
        except (zlib.error, ValueError):
            continue
    return b""
