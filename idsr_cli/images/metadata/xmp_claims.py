"""Claims of an XMP packet about data outside it, and their removal where those data are not written again.

The packet is edited as text, so that everything else in it stays byte for byte.

Sources: XMP Specification, part 3 (extended XMP); Adobe's gain map specification; Google's motion photo and container
formats.
"""

from __future__ import annotations

import re

GAIN_MAP, DEPTH, VIDEO, EXTENSION = "gain map", "depth map", "motion video", "extended XMP"

_NOTE = b"http://ns.adobe.com/xmp/note/"
_CAMERA = b"http://ns.google.com/photos/1.0/camera/"
_CONTAINER = b"http://ns.google.com/photos/1.0/container/"
_ITEM = b"http://ns.google.com/photos/1.0/container/item/"
_HDR = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_APPLE_HDR = b"http://ns.apple.com/HDRGainMap/1.0/"
# Namespace and names of the properties (a regular expression) that speak of data after the picture.
_OUTSIDE = (
    (_HDR, rb"[\w.-]+"), (_APPLE_HDR, rb"[\w.-]+"), (_CAMERA, rb"(?:MotionPhoto|MicroVideo)\w*"),
    (_CONTAINER, rb"[Dd]irectory"),
)  # fmt: skip
_GUID = re.compile(rb"HasExtendedXMP\s*(?:=\s*[\"']|>)\s*([0-9A-Fa-f]{32})")


def extension_of(packet: bytes) -> bytes:
    """The 32 digits that name the extension a packet claims to have; b"" if it claims none."""
    found = _GUID.search(packet)
    return found[1] if found else b""


def without_extension(packet: bytes) -> bytes:
    """A packet that does not claim to have an extension."""
    return _without(packet, _NOTE, rb"HasExtendedXMP")


def without_attachments(packet: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A packet that does not speak of a gain map or video after the picture, and which of them it spoke of."""
    text = packet.lower()
    spoken = tuple(
        name
        for name, signs in ((GAIN_MAP, (b"hdr-gain-map", b"gainmap")), (VIDEO, (b"motionphoto", b"microvideo")))
        if any(sign in text for sign in signs)
    )
    edited = packet
    for namespace, names in _OUTSIDE:
        edited = _without(edited, namespace, names)
    if edited != packet:
        edited = _without_declaration(edited, _ITEM)
    return edited, spoken if edited != packet else ()


def _without(packet: bytes, namespace: bytes, names: bytes) -> bytes:
    prefixes = set(re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace) + rb"[\"']", packet))
    edited = packet
    for prefix in prefixes:
        name = re.escape(prefix) + rb":" + names
        edited = re.sub(rb"\s+" + name + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')", b"", edited)
        edited = re.sub(rb"<(" + name + rb")(?:\s[^>]*)?(?:/>|(?<!/)>.*?</\1\s*>)", b"", edited, flags=re.DOTALL)
    return _without_declaration(edited, namespace) if edited != packet else packet


def _without_declaration(packet: bytes, namespace: bytes) -> bytes:
    """Without the declaration of a namespace of which nothing is left."""
    for declaration, prefix in re.findall(
        rb"(\s+xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace) + rb"[\"'])", packet
    ):
        if not re.search(rb"[\s</]" + re.escape(prefix) + rb":", packet):
            packet = packet.replace(declaration, b"")
    return packet
