"""Metadata are kept: byte for byte in the same format, with the same meaning in another."""

import hashlib
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from idsr_cli.errors import ItemError
from idsr_cli.images.metadata import Metadata, iptc_of, png_chunks
from idsr_cli.images.metadata import tiff_directory as directories
from idsr_cli.images.photo import Photo, decode, dropped, encode

H, W = 40, 48
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>rating 5</rdf:RDF></x:xmpmeta>'
IPTC = b"\x1c\x02\x78\x00\x0cWet in Bergen"[:-1] + b"n"


def picture(seed: int = 0) -> Image.Image:
    y, x = np.mgrid[:H, :W]
    planes = [255 * (0.5 + 0.45 * np.sin((i + 1) * (x + 2 * y) / 29 + seed)) for i in range(3)]
    return Image.fromarray(np.stack(planes, axis=2).astype(np.uint8))


def saved(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (image or picture()).save(stream, format, **options)
    return stream.getvalue()


def written(photo: Photo, format: str | None = None) -> bytes:
    """The file after a stand-in restoration."""
    return encode(photo, photo.rgb * np.float32(0.5), format)


def resource(number: int, content: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + content + b"\0" * (len(content) % 2)


def exif(order: str = "<", thumbnail: bytes = b"", tail: bytes = b"") -> bytes:
    """A handmade block: camera, orientation 6, exposure, a maker's note with its own offset, thumbnail, GPS."""
    pack = lambda letters, *values: struct.pack(order + letters, *values)  # noqa: E731

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return pack("HHI", tag, kind, count) + (pack("HH", value, 0) if kind == 3 else pack("I", value))

    main_at, sub_at, gps_at, second_at, values_at = 8, 80, 150, 180, 220
    main = pack("H", 4) + entry(271, 2, 7, values_at) + entry(274, 3, 1, 6) + entry(34665, 4, 1, sub_at)
    main += entry(34853, 4, 1, gps_at) + pack("I", second_at if thumbnail else 0)
    note = b"Maker\0" + struct.pack("<I", values_at + 60) + b"private, with an offset from the start of the block"
    sub = pack("H", 3) + entry(33434, 5, 1, values_at + 8) + entry(36867, 2, 20, values_at + 16)
    sub += entry(37500, 7, len(note), values_at + 60) + pack("I", 0)
    gps = pack("H", 1) + entry(1, 2, 2, int.from_bytes(b"N\0\0\0", "little" if order == "<" else "big")) + pack("I", 0)
    end = values_at + 60 + len(note)
    second = pack("H", 2) + entry(513, 4, 1, end) + entry(514, 4, 1, len(thumbnail)) + pack("I", 0)
    block = bytearray(end)
    head = (b"II" if order == "<" else b"MM") + pack("HI", 42, main_at)
    places = {
        0: head, main_at: main, sub_at: sub, gps_at: gps, second_at: second if thumbnail else b"",
        values_at: b"Camera\0", values_at + 8: pack("II", 1, 125), values_at + 16: b"2026:11:21 07:00:00\0",
        values_at + 60: note,
    }  # fmt: skip
    for at, part in places.items():
        block[at : at + len(part)] = part
    return bytes(block) + thumbnail + tail


def tags_of(block: bytes) -> dict[str, object]:
    """Read by Pillow."""
    tags = Image.Exif()
    tags.load(block)
    sub = tags.get_ifd(34665)
    return {
        "make": tags.get(271), "orientation": tags.get(274), "exposure": sub.get(33434), "time": sub.get(36867),
        "gps": tags.get_ifd(34853).get(1), "thumbnail": bool(tags.get_ifd(1)),
        "note": hashlib.sha256(sub.get(37500, b"")).hexdigest()[:8] if 37500 in sub else None,
    }  # fmt: skip


WANT = tags_of(exif())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_is_the_same_bytes_but_for_the_thumbnail(format, order) -> None:
    small = saved("JPEG", picture().resize((16, 12)))
    options = {"lossless": True} if format == "WEBP" else {}
    photo = decode(saved(format, exif=b"Exif\0\0" + exif(order, small), **options))
    block = decode(written(photo)).metadata.exif
    assert tags_of(block) == WANT == {**WANT, "make": "Camera", "orientation": 6, "exposure": 0.008, "gps": "N"}
    before = bytearray(exif(order, small)[: len(block)])
    differing = [i for i, (a, b) in enumerate(zip(before, block, strict=True)) if a != b]
    link = 8 + 2 + 4 * 12
    assert all(link <= i < link + 4 or 180 <= i < 220 for i in differing)  # the link to it, and its directory
    assert len(block) == len(exif(order))
    assert small[:40] not in written(photo)


def test_a_thumbnail_in_the_middle_is_wiped_in_place() -> None:
    small = saved("JPEG", picture().resize((16, 12)))
    block = exif("<", small, tail=b"and more")
    cleaned = directories.without_thumbnail(block)
    assert len(cleaned) == len(block)
    assert cleaned.endswith(bytes(len(small)) + b"and more")


def test_a_thumbnail_link_into_the_main_directory_wipes_nothing() -> None:
    block = bytearray(exif("<", b"x" * 30))
    struct.pack_into("<I", block, 180 + 2 + 8, 8)  # the thumbnail "begins" at the main directory
    assert tags_of(directories.without_thumbnail(bytes(block))) == WANT


def entries(order: str, fields: list[tuple[int, int, int, int]], following: int | None = 0) -> bytes:
    """A directory of (tag, type, count, value or offset); SHORT values lie in the first two bytes."""
    data = struct.pack(order + "H", len(fields))
    for tag, kind, count, value in fields:
        data += struct.pack(order + "HHI", tag, kind, count)
        data += struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
    return data if following is None else data + struct.pack(order + "I", following)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("target", ["gps", "sub", "main", "values", "beyond", "note"])
def test_wherever_the_second_directory_points_the_rest_stays(order, target) -> None:
    at = {"main": 8, "sub": 80, "gps": 150, "values": 220, "note": 290, "beyond": 1 << 20}[target]
    block = bytearray(exif(order))
    struct.pack_into(order + "I", block, 8 + 2 + 4 * 12, at)
    for format in ("JPEG", "PNG", "WEBP"):
        photo = decode(saved(format, exif=b"Exif\0\0" + bytes(block)))
        tags = tags_of(photo.metadata.exif)
        assert tags == WANT
        assert len(photo.metadata.exif) == len(block)
        assert tags_of(decode(written(photo, "TIFF")).metadata.exif) == WANT


def test_a_thumbnail_that_overlaps_the_rest_loses_its_directory_only() -> None:
    block = bytearray(exif("<", b"x" * 30))
    struct.pack_into("<I", block, 180 + 2 + 12 + 8, 5)  # its length
    struct.pack_into("<I", block, 180 + 2 + 8, 225)  # it "begins" in the name of the camera
    cleaned = directories.without_thumbnail(bytes(block))
    assert tags_of(cleaned) == WANT
    assert cleaned[180:210] == bytes(30)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_without_the_offset_of_a_next_directory_nothing_is_lost(format, order, recwarn) -> None:
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    text = b"Made by hand\0"
    north = int.from_bytes(b"N\0\0\0", "little" if order == "<" else "big")
    alone = head + entries(order, [(274, 3, 1, 6)], None)
    # Values, and a directory below, in the place of the offset.
    values = head + entries(order, [(271, 2, len(text), 34), (274, 3, 1, 6)], None) + text
    below = head + entries(order, [(274, 3, 1, 6), (34853, 4, 1, 34)], None) + entries(order, [(1, 2, 2, north)], None)
    for block in (alone, values, below):
        photo = decode(saved(format, exif=b"Exif\0\0" + block))
        assert photo.orientation == 6
        assert photo.metadata.exif == block
        for target in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "HEIF"):
            again = decode(written(photo, target)).metadata.exif
            head_again = directories.header(again)
            fields, lower = directories.tree(again, head_again)
            assert (271 in fields, 34853 in lower) == (block is values, block is below), target
            if target != "HEIF":  # whose pixels are turned
                assert directories.orientation(again) == 6
            if block is values:
                assert fields[271].data == text
            if block is below:
                assert lower[34853][1].data == b"N\0"
    assert not recwarn.list


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "letter"), [(1, "B"), (3, "H"), (4, "I"), (8, "h"), (9, "i"), (11, "f"), (13, "I")])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_an_orientation_of_any_type_is_read_and_written_as_short(order, kind, letter, format) -> None:
    block = bytearray(exif(order))
    at = 8 + 2 + 12  # the second field
    struct.pack_into(order + "HHI4s", block, at, 274, kind, 1, struct.pack(order + letter, 6).ljust(4, b"\0"))
    photo = decode(saved("JPEG", exif=b"Exif\0\0" + bytes(block)))
    assert photo.orientation == 6
    assert tags_of(photo.metadata.exif) == WANT
    data = written(photo, format)
    if format == "HEIF":  # the grid counts, and no reader turns it again
        assert (decode(data).width, decode(data).orientation) == (W, 1)
        return
    again = decode(data)
    assert (again.width, again.orientation) == (W, 6)
    head = directories.header(again.metadata.exif)
    assert directories.read(again.metadata.exif, head.first, head)[0][274].kind == 3
    assert Image.open(io.BytesIO(data)).getexif().get(274) == 6


def test_a_ratio_or_a_double_as_orientation() -> None:
    for kind, value in ((5, struct.pack("<II", 12, 2)), (12, struct.pack("<d", 6.0))):
        block = bytearray(exif())
        struct.pack_into("<HHII", block, 8 + 2 + 12, 274, kind, 1, len(block))
        photo = decode(saved("JPEG", exif=b"Exif\0\0" + bytes(block) + value))
        assert photo.orientation == 6
        assert tags_of(decode(written(photo)).metadata.exif) == WANT


@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("target", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_travels_between_formats(source, target, order) -> None:
    """All metadata that the target format can hold, read back with its usual readers."""
    first = decode(saved("JPEG", exif=b"Exif\0\0" + exif(order), icc_profile=SRGB, xmp=XMP, dpi=(300, 300)))
    photo = decode(encode(first, first.rgb, source))
    data = written(photo, target)
    again = decode(data).metadata
    assert {**tags_of(again.exif), "note": WANT["note"]} == WANT
    assert again.icc == SRGB
    assert again.xmp == XMP
    if target in ("JPEG", "PNG", "TIFF") and source in ("JPEG", "PNG", "TIFF"):
        assert again.dpi == pytest.approx((300, 300), abs=0.01)
    image = Image.open(io.BytesIO(data))
    if target != "JPEG2000":
        assert image.info["icc_profile"] == SRGB
        assert image.info["xmp"] == XMP
        assert image.getexif()[271] == "Camera"
        assert image.getexif().get(274, 1) == 6
    if target != "AVIF" and source != "AVIF":  # whose library writes EXIF anew
        assert tags_of(again.exif)["note"] == WANT["note"]


def test_16_bit_files_carry_metadata_as_well() -> None:
    array = np.asarray(picture()).astype(np.uint16) * 257
    for format in ("PNG", "TIFF"):
        metadata = Metadata(exif=exif(), icc=SRGB, xmp=XMP, dpi=(300.0, 150.0))
        photo = Photo((array / 65535).astype(np.float32), bits=16, format=format, metadata=metadata)
        data = encode(photo, photo.rgb)
        again = decode(data).metadata
        assert (tags_of(again.exif), again.icc, again.xmp) == (WANT, SRGB, XMP)
        assert again.dpi == pytest.approx((300, 150), abs=0.02)
        back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        assert back.dtype == np.uint16


def test_tiff_fields_keep_their_types_units_and_private_tags() -> None:
    fields = {
        282: directories.numbers(">", directories.RATIONAL, [11811, 100]),
        283: directories.numbers(">", directories.RATIONAL, [11811, 100]),
        296: directories.numbers(">", directories.SHORT, [3]),  # per centimetre
        33550: directories.Field(12, 3, struct.pack(">3d", 0.1, 0.1, 0)),  # GeoTIFF's pixel scale
        65000: directories.Field(9, 1, struct.pack(">i", -7)),
        318: directories.numbers(">", directories.RATIONAL, [3127, 10000, 3290, 10000]),  # white point
    }
    photo = Photo(np.zeros((4, 5, 3), np.float32), format="TIFF")
    block = directories.block(fields, {}, ">")
    metadata = Metadata(exif=block)
    data = encode(Photo(photo.rgb, format="TIFF", metadata=metadata), photo.rgb)
    again = decode(data)
    head = directories.header(data)
    assert head.order == ">"
    found, _ = directories.read(data, head.first, head)
    assert {tag: found[tag] for tag in fields} == fields
    assert again.metadata.dpi == pytest.approx((300, 300), rel=1e-4)
    twice = written(again)
    found, _ = directories.read(twice, directories.header(twice).first, directories.header(twice))
    assert {tag: found[tag] for tag in fields} == fields
    assert Image.open(io.BytesIO(twice)).tag_v2[33550] == (0.1, 0.1, 0)


def app13(content: bytes) -> bytes:
    body = b"Photoshop 3.0\0" + content
    return b"\xff\xed" + struct.pack(">H", 2 + len(body)) + body


@pytest.mark.parametrize("source", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("target", ["JPEG", "PNG", "TIFF"])
def test_iptc_travels_and_photoshops_thumbnail_does_not(source, target) -> None:
    content = resource(1036, b"\xff\xd8 an old thumbnail") + resource(1028, IPTC) + resource(1005, b"resolution here!")
    first = decode(saved("JPEG", extra=app13(content)))
    photo = decode(encode(first, first.rgb * np.float32(0.9), source))
    data = written(photo, target)
    again = decode(data).metadata.photoshop
    assert again == resource(1028, IPTC) + resource(1005, b"resolution here!")
    assert iptc_of(again) == IPTC
    image = Image.open(io.BytesIO(data))
    if target == "JPEG":
        assert image.info["photoshop"][1028] == IPTC
    if target == "TIFF":
        assert image.tag_v2[33723] == IPTC
    if target == "PNG":
        text = image.text["Raw profile type iptc"].split("\n")
        assert (text[1], bytes.fromhex("".join(text[3:]))) == ("iptc", again)


@pytest.mark.parametrize("before", [
    b"MeSa" + resource(1, b"abcd")[4:], b"PHUT" + resource(7, b"x")[4:], b"AgHg" + resource(7, b"")[4:],
    b"junk that is no block", resource(1005, b"x" * 9)[:-4],
], ids="MeSa PHUT AgHg junk cut".split())  # fmt: skip
@pytest.mark.parametrize("source", ["JPEG", "TIFF", "PNG"])
def test_iptc_after_a_block_of_another_program(before, source) -> None:
    content = before + resource(1036, b"\xff\xd8 an old thumbnail") + resource(1028, IPTC)
    if source == "JPEG":
        data = saved("JPEG", extra=app13(content))
    elif source == "TIFF":
        data = saved("TIFF", tiffinfo={34377: content})
    else:
        data = png_chunks.insert(saved("PNG"), [png_chunks.raw_profile("iptc", content)])
    photo = decode(data)
    for target in ("JPEG", "TIFF", "PNG"):
        again = decode(written(photo, target)).metadata.photoshop
        assert iptc_of(again) == IPTC
        assert b"thumbnail" not in again
        assert before[:4] in again or not before[:4].isalpha() or before[:4] in (b"junk", b"8BIM")
    assert Image.open(io.BytesIO(written(photo, "TIFF"))).tag_v2[33723] == IPTC


def test_iptc_alone_in_a_tiff() -> None:
    photo = decode(saved("TIFF", tiffinfo={33723: IPTC}))
    assert iptc_of(photo.metadata.photoshop) == IPTC
    assert Image.open(io.BytesIO(written(photo, "JPEG"))).info["photoshop"][1028] == IPTC


def test_chunks_of_a_png() -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    kept = [
        (b"cICP", bytes([9, 16, 0, 1])), (b"gAMA", struct.pack(">I", 45455)), (b"sRGB", b"\0"),
        (b"cHRM", struct.pack(">8I", *range(31270, 31278))), (b"pHYs", struct.pack(">IIB", 3, 2, 0)),
        (b"tEXt", b"Author\0Someone"), (b"zTXt", b"Comment\0\0" + zlib.compress(b"long")),
        (b"iTXt", b"Title\0\0\0de\0Titel\0Regen"), (b"prIv", b"safe"), (b"prIv", b"twice"),
    ]  # fmt: skip
    kept = [(name if name != b"prIv" else b"prVt", content) for name, content in kept]
    dropped = [(b"tIME", bytes(7)), (b"sBIT", b"\5\5\5"), (b"bKGD", bytes(6)), (b"prVT", b"unsafe")]
    bare = saved("PNG")
    data = bare[:33] + b"".join(chunk(*each) for each in kept + dropped) + bare[33:]
    for source in (data, data[:33] + b"".join(chunk(*each) for each in kept + dropped) + wide_png()[33:]):
        if source is not data:
            source = wide_png()[:33] + source[33:]
        photo = decode(source)
        result = written(photo)
        ancillary = [each for each in png_chunks.chunks(result) if each[0][:1].islower()]
        assert ancillary == kept
        image = Image.open(io.BytesIO(result))
        image.load()
        assert (image.info["Author"], image.info["Title"], image.info["gamma"]) == ("Someone", "Regen", 0.45455)
        # None of it is for other formats.
        Image.open(io.BytesIO(written(photo, "TIFF"))).load()


LONG_TEXT = b"rain " * 420_000


@pytest.mark.parametrize("chunk", [
    (b"zTXt", b"Notes\0\0" + zlib.compress(LONG_TEXT)), (b"tEXt", b"Notes\0" + LONG_TEXT),
    (b"iTXt", b"Notes\0\1\0\0\0" + zlib.compress(LONG_TEXT)), (b"iTXt", b"Notes\0\0\0\0\0" + LONG_TEXT),
], ids="zTXt tEXt iTXt-packed iTXt".split())  # fmt: skip
@pytest.mark.parametrize("bits", [8, 16])
def test_texts_of_more_than_a_megabyte(chunk, bits) -> None:
    photo = decode(png_chunks.insert(saved("PNG") if bits == 8 else wide_png(), [chunk]))
    np.testing.assert_array_equal(np.round(photo.rgb * 255), np.asarray(picture())[:, :, :: 1 if bits == 8 else -1])
    again = decode(written(photo))
    assert again.metadata.chunks == (chunk,)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_xmp_and_profiles_of_more_than_a_megabyte(packed, bits) -> None:
    bare = saved("PNG") if bits == 8 else wide_png()
    rest = zlib.compress(LONG_TEXT) if packed else LONG_TEXT
    xmp = (b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed]) + b"\0de\0Titel\0" + rest)
    icc = SRGB + bytes(1_500_000)
    photo = decode(png_chunks.insert(bare, [xmp, png_chunks.icc(icc)]))
    assert (photo.metadata.xmp, photo.metadata.icc) == (LONG_TEXT, icc)
    for format in ("PNG", "TIFF", "AVIF"):
        again = decode(written(photo, format)).metadata
        assert (again.xmp, again.icc) == (LONG_TEXT, icc), format
    assert Image.open(io.BytesIO(written(photo, "TIFF"))).info["icc_profile"] == icc


def test_imagemagicks_xmp_text_is_read_and_long_ones_too() -> None:
    for packet in (XMP, LONG_TEXT):
        photo = decode(png_chunks.insert(saved("PNG"), [png_chunks.raw_profile("xmp", packet)]))
        assert photo.metadata.xmp == packet
        assert decode(written(photo)).metadata.xmp == packet


def test_a_profile_that_unpacks_to_too_much_or_is_damaged_is_named(monkeypatch) -> None:
    monkeypatch.setattr(png_chunks, "_LONGEST", 1 << 16)
    bomb = (b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 20)))
    for chunk in (bomb, (b"iCCP", b"x\0\0 damaged")):
        photo = decode(png_chunks.insert(saved("PNG"), [chunk]))
        assert photo.metadata.icc == b""
        assert dropped(photo, written(photo)) == ("colour profile",)


def test_a_wrong_checksum_is_still_refused() -> None:
    data = bytearray(saved("PNG"))
    at = data.index(b"IHDR") - 4
    (length,) = struct.unpack_from(">I", data, at)
    data[at + 8 + length] ^= 1
    with pytest.raises(ItemError, match="not an image"):
        decode(bytes(data))


def wide_png() -> bytes:
    return cv2.imencode(".png", np.asarray(picture()).astype(np.uint16) * 257)[1].tobytes()


def test_imagemagicks_exif_text_becomes_an_exif_chunk_once() -> None:
    bare = saved("PNG")
    text = png_chunks.chunk(*png_chunks.raw_profile("exif", b"Exif\0\0" + exif()))
    photo = decode(bare[:33] + text + bare[33:])
    assert tags_of(photo.metadata.exif) == WANT
    names = [name for name, _ in png_chunks.chunks(written(photo))]
    assert (names.count(b"eXIf"), names.count(b"zTXt")) == (1, 0)


def test_a_jpegs_comment_and_metadata_too_long_for_a_segment() -> None:
    photo = decode(saved("JPEG", comment=b"by hand"))
    assert Image.open(io.BytesIO(written(photo))).info["comment"] == b"by hand"
    # A maker's note and an XMP packet longer than a segment: the rest of EXIF is kept.
    long = Image.Exif()
    long[274], long[271] = 6, "Camera"
    long.get_ifd(34665)[37500] = bytes(70000)
    long.get_ifd(34665)[33434] = IFDRational(1, 125)
    photo = decode(saved("PNG", exif=long.tobytes()))
    photo = Photo(
        photo.rgb, metadata=Metadata(photo.metadata.exif, xmp=b"x" * 70000, photoshop=resource(1028, IPTC * 9000))
    )
    again = decode(written(photo, "JPEG")).metadata
    assert {k: tags_of(again.exif)[k] for k in ("make", "orientation", "exposure", "note")} == {
        "make": "Camera", "orientation": 6, "exposure": 0.008, "note": None,
    }  # fmt: skip
    assert again.photoshop == photo.metadata.photoshop  # spread over segments
    long[270] = "d" * 70000
    photo = Photo(photo.rgb, metadata=Metadata(long.tobytes().removeprefix(b"Exif\0\0")))
    assert tags_of(decode(written(photo, "JPEG")).metadata.exif)["orientation"] == 6


def test_a_grey_profile_is_not_put_on_colour() -> None:
    grey = b"\0" * 16 + b"GRAY" + b"\0" * 108
    photo = Photo(np.zeros((4, 5, 3), np.float32), grey=True, metadata=Metadata(icc=grey))
    assert decode(encode(photo, photo.rgb, "PNG")).metadata.icc == grey
    assert decode(encode(photo, photo.rgb, "WEBP")).metadata.icc == b""


def test_the_profile_of_a_ycbcr_tiff_is_kept_if_it_is_of_rgb() -> None:
    photo = decode(saved("TIFF", picture().convert("YCbCr"), icc_profile=SRGB))
    assert Image.open(io.BytesIO(written(photo))).info["icc_profile"] == SRGB


def test_jpeg_2000_boxes_of_others_are_kept() -> None:
    bare = saved("JPEG2000")
    at = bare.index(b"jp2c") - 4
    geo = struct.pack(">I", 8 + 16 + 5) + b"uuid" + bytes(range(16)) + b"where"
    xml = struct.pack(">I", 8 + 4) + b"xml " + b"<a/>"
    photo = decode(bare[:at] + geo + xml + bare[at:])
    result = written(photo)
    assert geo + xml in result
    assert result.index(geo) < result.index(b"jp2c")
    Image.open(io.BytesIO(result)).load()
    assert cv2.imdecode(np.frombuffer(result, np.uint8), cv2.IMREAD_UNCHANGED).shape == (H, W, 3)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_does_not_stop_reading(format, recwarn) -> None:
    for block in (b"II*\0\x08\0\0\0\xff\xff garbage", b"II*\0\xff\xff\xff\xff", b"no exif", exif()[:100], b"MM\0*"):
        photo = decode(saved(format, exif=b"Exif\0\0" + block))
        for target in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
            assert decode(written(photo, target)).width == W
    assert not recwarn.list


def test_a_profile_that_libpng_warns_about_prints_nothing(capfd) -> None:
    photo = Photo(
        np.zeros((2, 2, 3), np.float32), np.zeros((2, 2), np.uint16), True, bits=16, metadata=Metadata(icc=SRGB)
    )
    assert decode(encode(photo, photo.rgb)).metadata.icc == SRGB
    assert capfd.readouterr() == ("", "")
