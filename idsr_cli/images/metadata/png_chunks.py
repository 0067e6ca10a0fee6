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
_ANIMATION = frozenset({b"acTL", b"fcTL", b"fdAT"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_XMP = b"XML:com.adobe.xmp"
# Texts and profiles are stored compressed; what takes more than this unpacked is left out.
_LONGEST = 1 << 27


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


def only_pixels(data: bytes, animation: bool = False) -> bytes:
    """A PNG with only the chunks that decoding needs, each with its own checksum, right or wrong.

    libpng prints warnings about the others to standard error, and Pillow refuses long ones.

    Args:
        data: the file.
        animation: keep the chunks that say how many pictures there are.
    """
    parts, at = [_SIGNATURE], len(_SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name[:1].isupper() or name == b"tRNS" or (animation and name in _ANIMATION):
            parts.append(data[at : at + 12 + length])
        at += 12 + length
    return b"".join(parts)


def colour_key(data: bytes) -> bytes:
    """The content of the chunk of transparency; b"" if there is none."""
    return next((content for name, content in chunks(data) if name == b"tRNS"), b"")


def is_text(chunk: Chunk) -> bool:
    """True for a text."""
    return chunk[0] in _TEXTS


def is_colour(chunk: Chunk) -> bool:
    """True for a description of the colours."""
    return chunk[0] in _COLOUR


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
        text = _unpacked(rest[1:]) if name == b"zTXt" else rest
        try:
            _, _, _, digits = text.split(b"\n", 3)
            return binascii.unhexlify(b"".join(digits.split()))
        except ValueError:
            continue
    return b""


def read_exif(data: bytes) -> bytes:
    """The EXIF block; b"" if there is none."""
    found = next((content for name, content in chunks(data) if name == b"eXIf"), b"")
    return found or read_raw_profile(data, ("exif", "app1"))


def read_icc(data: bytes) -> bytes:
    """The colour profile; b"" if there is none, or it is damaged."""
    for name, content in chunks(data):
        if name == b"iCCP":
            return _unpacked(content.partition(b"\0")[2][1:])
    return b""


def read_xmp(data: bytes) -> bytes:
    """The XMP packet; b"" if there is none, or it is damaged."""
    for name, content in chunks(data):
        title, _, rest = content.partition(b"\0")
        if name == b"iTXt" and title == _XMP and len(rest) > 2:
            packet = rest[2:].split(b"\0", 2)[-1]  # after the language and the translated title
            return _unpacked(packet) if rest[0] else packet
    return read_raw_profile(data, ("xmp",))


def read_dpi(data: bytes) -> tuple[float, float] | None:
    """Pixels per inch across and down; None if they are not said."""
    for name, content in chunks(data):
        if name == b"pHYs" and len(content) == 9 and content[8] == 1:
            across, down = struct.unpack(">II", content[:8])
            return across * 0.0254, down * 0.0254
    return None


def read_cicp(found: Iterable[Chunk]) -> tuple[int, int] | None:
    """Numbers of the primaries and the transfer function, for RGB of the full range; None if they are not said."""
    for name, content in found:
        if name == b"cICP" and len(content) == 4 and content[2:] == b"\0\1":
            return content[0], content[1]
    return None


def read_gamma(found: Iterable[Chunk]) -> tuple[float | None, tuple[float, ...] | None]:
    """Gamma of the file, and x and y of red, green, blue and white; None for what is not said or is sRGB."""
    known = dict(found)
    if b"sRGB" in known:
        return None, None
    gamma, points = known.get(b"gAMA", b""), known.get(b"cHRM", b"")
    white, *others = (
        [each / 100000 for each in struct.unpack(">8I", points)[i : i + 2]] for i in range(0, 8, 2)
    ) if len(points) == 32 else ([],)  # fmt: skip
    return (
        struct.unpack(">I", gamma)[0] / 100000 if len(gamma) == 4 else None,
        tuple(each for pair in [*others, white] for each in pair) or None,
    )


def cicp(numbers: tuple[int, int]) -> Chunk:
    """A description of the colours, as `read_cicp` reads it."""
    return b"cICP", bytes([*numbers, 0, 1])


def _unpacked(packed: bytes) -> bytes:
    """What was compressed; b"" if it is damaged or too long."""
    engine = zlib.decompressobj()
    try:
        content = engine.decompress(packed, _LONGEST)
    except zlib.error:
        return b""
    return b"" if engine.unconsumed_tail else content
