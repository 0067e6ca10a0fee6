"""What a file says or holds beside its pixels: colours by number, more pictures, maps, films; and what is lost."""

import hashlib
import io
import struct
import sys
import zlib

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from idsr_cli.errors import ItemError
from idsr_cli.images.metadata import Metadata, colours, heif_items, png_chunks, xmp_claims
from idsr_cli.images.photo import Photo, check_single, decode, dropped, encode

H, W = 64, 96
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3, PQ, HLG = (12, 13), (9, 16), (9, 18)


def pixels(channels: int = 3) -> np.ndarray:
    y, x = np.mgrid[:H, :W]
    planes = [255 * (0.5 + 0.45 * np.sin((i + 1) * (x + 2 * y) / 60 + i)) for i in range(channels)]
    return np.stack(planes, axis=2).astype(np.uint8)


def saved(format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels()).save(stream, format, **options)
    return stream.getvalue()


def written(photo: Photo, format: str | None = None) -> bytes:
    """The file after a stand-in restoration."""
    return encode(photo, photo.rgb * np.float32(0.5), format)


def png_with(*chunks: tuple[bytes, bytes], **options: object) -> bytes:
    return png_chunks.insert(saved("PNG", **options), chunks)


# --- colours by number -----------------------------------------------------------------------------------------------


def heic_of(cicp: tuple[int, int], bits: int = 8) -> bytes:
    stream = io.BytesIO()
    array, mode = (pixels(), "RGB") if bits == 8 else (pixels().astype(np.uint16) * 257, "RGB;16")
    file = pillow_heif.from_bytes(mode, (W, H), array.tobytes())
    file.save(stream, quality=100, chroma=444, color_primaries=cicp[0], transfer_characteristics=cicp[1],
              matrix_coefficients=9 if cicp[0] == 9 else 6, full_range_flag=1)  # fmt: skip
    return stream.getvalue()


def source(format: str, cicp: tuple[int, int]) -> bytes:
    if format == "HEIF":
        return heic_of(cicp)
    if format == "HEIF10":
        return heic_of(cicp, 10)
    if format == "PNG":
        return png_with((b"cICP", bytes([*cicp, 0, 1])))
    return heif_items.with_cicp(saved("AVIF", subsampling="4:4:4"), cicp)


def said(data: bytes, format: str) -> tuple[int, int] | None:
    """Read by others: pillow-heif, FFmpeg where it is there; a PNG's chunk is four bytes."""
    if format == "PNG":
        return next((tuple(content[:2]) for name, content in png_chunks.chunks(data) if name == b"cICP"), None)
    if format == "HEIF":
        found = pillow_heif.open_heif(io.BytesIO(data)).info["nclx_profile"]
        return found["color_primaries"], found["transfer_characteristics"]
    at = data.index(b"colrnclx")
    box = struct.unpack_from(">HH", data, at + 8)
    if "av" in sys.modules or sys.version_info >= (3, 11):
        av = pytest.importorskip("av")
        with av.open(io.BytesIO(data)) as container:
            frame = next(container.decode(video=0))
            assert (frame.color_primaries, frame.color_trc) == box
    return box


@pytest.mark.parametrize("cicp", [P3, PQ, HLG, (9, 1), (1, 13)], ids=str)
@pytest.mark.parametrize("source_format", ["AVIF", "HEIF", "HEIF10", "PNG"])
@pytest.mark.parametrize("target", ["AVIF", "HEIF", "PNG"])
def test_colours_by_number_are_kept_where_the_format_can_say_them(cicp, source_format, target) -> None:
    photo = decode(source(source_format, cicp))
    assert photo.metadata.cicp == cicp
    data = written(photo, target)
    assert said(data, target) == cicp
    assert dropped(photo, data, target) == ()
    again = decode(data)
    assert again.metadata.cicp == cicp
    assert np.abs(again.rgb - photo.rgb * 0.5).max() < 0.06  # the same numbers


@pytest.mark.parametrize("source_format", ["AVIF", "HEIF", "PNG"])
@pytest.mark.parametrize("target", ["JPEG", "TIFF", "WEBP", "JPEG2000"])
def test_elsewhere_they_become_a_profile(source_format, target) -> None:
    photo = decode(source(source_format, P3))
    data = written(photo, target)
    icc = decode(data).metadata.icc
    red = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.red_colorant[0]
    assert red == pytest.approx((0.51512, 0.24120, -0.00105), abs=1e-4)  # of Display P3, as Apple's profile has it
    assert dropped(photo, data, target) == ()
    # sRGB is what readers take a file without a profile for.
    plain = decode(source(source_format, (1, 13)))
    assert decode(written(plain, target)).metadata.icc == b""


@pytest.mark.parametrize("cicp", [PQ, HLG])
@pytest.mark.parametrize("source_format", ["AVIF", "HEIF", "PNG"])
def test_what_no_profile_can_say_is_named(cicp, source_format) -> None:
    photo = decode(source(source_format, cicp))
    for target in ("JPEG", "TIFF", "WEBP"):
        data = written(photo, target)
        assert decode(data).metadata.icc == b""
        assert dropped(photo, data, target) == ("colour space",)
    assert dropped(decode(source(source_format, P3)), b"", "BMP") == ("colour space",)


def test_made_profiles_mean_what_they_say() -> None:
    picture = Image.fromarray(pixels())
    for cicp, grey in (((1, 13), False), ((2, 2), False), ((1, 13), True)):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(colours.profile(cicp, grey)))
        image = picture.convert("L") if grey else picture
        result = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert np.abs(np.asarray(result).astype(int) - np.asarray(image.convert("RGB"))).max() <= 1
    # Red of P3 lies outside sRGB, and its grey is the same grey.
    p3 = ImageCms.ImageCmsProfile(io.BytesIO(colours.profile(P3, grey=False)))
    one = Image.new("RGB", (1, 1), (200, 100, 100))
    moved = ImageCms.profileToProfile(one, p3, ImageCms.createProfile("sRGB")).getpixel((0, 0))
    assert moved[0] > 205
    assert moved[1] < 100
    neutral = ImageCms.profileToProfile(Image.new("RGB", (1, 1), (90, 90, 90)), p3, ImageCms.createProfile("sRGB"))
    assert np.abs(np.array(neutral.getpixel((0, 0))) - 90).max() <= 1


def test_unknown_colours_are_not_written() -> None:
    photo = decode(source("AVIF", (2, 2)))
    data = written(photo, "PNG")
    assert (said(data, "PNG"), dropped(photo, data, "PNG")) == (None, ())
    assert decode(written(photo, "JPEG")).metadata.icc == b""


def test_a_grey_picture_gets_a_profile_for_grey() -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels()[:, :, 0]).save(stream, "PNG")
    photo = decode(png_chunks.insert(stream.getvalue(), [(b"cICP", bytes([12, 13, 0, 1]))]))
    assert decode(written(photo, "JPEG")).metadata.icc[16:20] == b"GRAY"


def test_a_pngs_profile_is_for_readers_without_numbers() -> None:
    photo = decode(png_with((b"cICP", bytes([*PQ, 0, 1])), icc_profile=SRGB))
    again = decode(written(photo))
    assert (again.metadata.cicp, again.metadata.icc) == (PQ, SRGB)
    assert decode(written(photo, "JPEG")).metadata.icc == SRGB
    avif = written(photo, "AVIF")  # where a profile would count before the numbers
    assert (said(avif, "AVIF"), decode(avif).metadata.icc) == (PQ, b"")


def test_a_profile_counts_before_the_numbers_in_avif_and_heic() -> None:
    for format in ("AVIF", "HEIF"):
        photo = decode(encode(Photo(pixels() / np.float32(255), metadata=Metadata(icc=SRGB)), pixels() / 255, format))
        assert (photo.metadata.icc, photo.metadata.cicp) == (SRGB, None)
        assert decode(written(photo, "PNG")).metadata.icc == SRGB


def test_an_avif_whose_colours_only_its_av1_data_describe() -> None:
    data = source("AVIF", PQ).replace(b"colrnclx", b"freenclx")
    assert heif_items.read(data).cicp == PQ


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0", "4:2:2"])
def test_avif_is_described_in_place(mode, subsampling) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels(4)).convert(mode).save(
        stream, "AVIF", **({} if mode == "L" else {"subsampling": subsampling})
    )
    before = stream.getvalue()
    after = heif_items.with_cicp(before, HLG)
    assert said(after, "AVIF") == HLG
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 6
    np.testing.assert_array_equal(*(np.asarray(Image.open(io.BytesIO(each))) for each in (before, after)))


def test_a_pngs_gamma_and_chromaticities_become_a_profile() -> None:
    wide = [(b"gAMA", struct.pack(">I", 45455)),
            (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))]  # fmt: skip
    icc = decode(written(decode(png_with(*wide)), "JPEG")).metadata.icc
    red = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.red_colorant[0]
    assert red == pytest.approx((0.51512, 0.24120, -0.00105), abs=1e-4)
    plain = [(b"gAMA", struct.pack(">I", 45455)),
             (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))]  # fmt: skip
    for chunks in (plain, [*wide, (b"sRGB", b"\0")], [(b"gAMA", bytes(4))], [(b"cHRM", bytes(32))]):
        assert decode(written(decode(png_with(*chunks)), "JPEG")).metadata.icc == b""
    photo = decode(png_with(*wide))
    assert dropped(photo, written(photo, "BMP"), "BMP") == ("colour space",)


# --- several pictures ------------------------------------------------------------------------------------------------


def heic_with(count: int = 1, **options: object) -> bytes:
    file = pillow_heif.from_bytes("RGB", (W, H), pixels().tobytes())
    for i in range(1, count):
        file.add_frombytes("RGB", (W, H), np.roll(pixels(), 9 * i, 1).tobytes())
    stream = io.BytesIO()
    file.save(stream, quality=90, **options)
    return stream.getvalue()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_heic_of_several_pictures_is_refused(count) -> None:
    photo = decode(heic_with(count))
    assert photo.pages == count
    if count > 1:
        with pytest.raises(ItemError, match=f"holds {count} pictures, and only single ones are taken"):
            check_single(photo, "a.heic")


def test_thumbnails_tiles_and_transparency_are_no_pictures() -> None:
    file = pillow_heif.from_bytes("RGBA", (W, H), pixels(4).tobytes())
    stream = io.BytesIO()
    file.save(stream, quality=90, thumbnails=[32])
    assert decode(stream.getvalue()).pages == 1
    large = pillow_heif.from_bytes("RGB", (1200, 800), np.zeros((800, 1200, 3), np.uint8).tobytes())
    stream = io.BytesIO()
    large.save(stream, quality=50, tile_size=512)
    assert decode(stream.getvalue()).pages == 1
    stream = io.BytesIO()
    Image.fromarray(pixels(4)).save(stream, "AVIF")
    assert decode(stream.getvalue()).pages == 1


def avif_of_two(hidden: bool = False, kind: bytes = b"av01") -> bytes:
    """An AVIF of one picture, with a second item that has the same data."""
    data = saved("AVIF")
    at = data.index(b"iinf") - 4
    (length,) = struct.unpack_from(">I", data, at)
    entry = b"infe" + bytes([2, 0, 0, hidden]) + struct.pack(">HH", 2, 0) + kind + b"\0"
    entry = struct.pack(">I", 4 + len(entry)) + entry
    iinf = struct.pack(">I", length + len(entry)) + data[at + 4 : at + 12] + struct.pack(">H", 2)
    iinf += data[at + 14 : at + length] + entry
    data = data[:at] + iinf + data[at + length :]
    meta = data.index(b"meta") - 4
    data = bytearray(data)
    struct.pack_into(">I", data, meta, struct.unpack_from(">I", data, meta)[0] + len(entry))
    place = data.index(b"iloc") + 4 + 4 + 2 + 2 + 2 + 2 + 2  # offset of the first part of the first item
    struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(entry))
    return bytes(data)


def test_avif_of_several_pictures_is_refused() -> None:
    assert decode(avif_of_two()).pages == 2
    assert decode(avif_of_two(hidden=True)).pages == 1
    assert decode(avif_of_two(kind=b"Exif")).pages == 1
    frames = [Image.fromarray(np.roll(pixels(), i, 1)) for i in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, "AVIF", save_all=True, append_images=frames[1:])
    assert decode(stream.getvalue()).pages == 3


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


@pytest.mark.parametrize(("kind", "want"), [(b"pict", 5), (b"vide", 1)])
def test_frames_of_a_sequence_count_and_those_of_a_film_do_not(kind, want) -> None:
    sizes = box(b"stbl", box(b"stsz", struct.pack(">III", 0, 0, 5)))
    track = box(b"mdia", box(b"hdlr", bytes(8) + kind + bytes(13)) + box(b"minf", sizes))
    assert heif_items.read(heic_with() + box(b"moov", box(b"trak", track))).pictures == want


def test_damaged_containers_have_one_picture() -> None:
    rng = np.random.default_rng(0)
    for data in (heic_with(2), avif_of_two()):
        for _ in range(300):
            broken = bytearray(data)
            for at in rng.integers(4, 400, 3):
                broken[at] = rng.integers(0, 256)
            assert heif_items.read(bytes(broken)).pictures >= 1
        for end in range(0, 400, 7):
            assert heif_items.read(data[:end]).pictures >= 1


# --- claims of XMP ---------------------------------------------------------------------------------------------------

RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'


def packet(declared: str, attributes: str = "", inside: str = "") -> bytes:
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}><rdf:Description rdf:about="" {declared} '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/" {attributes} dc:format="image/jpeg">{inside}'
        "<dc:title>Regen</dc:title></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


CONTAINER = (
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
)
HDR = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"'
CAMERA = 'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
ITEMS = '<Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="{}"/></rdf:li></rdf:Seq></Container:Directory>'  # noqa: E501
CLAIMS = [
    (packet(f"{HDR} {CONTAINER}", 'hdrgm:Version="1.0"', ITEMS.format("GainMap")), "gain map"),
    (packet(HDR, "", "<hdrgm:Version>1.0</hdrgm:Version><hdrgm:Max><rdf:Seq/></hdrgm:Max><hdrgm:Base/>"), "gain map"),
    (packet(HDR.replace("hdrgm", "other"), "other:Version='1.0'"), "gain map"),
    (packet(f"{CAMERA} {CONTAINER}", 'GCamera:MotionPhoto="1"', ITEMS.format("MotionPhoto")), "motion video"),
    (packet(CAMERA, 'GCamera:MicroVideo="1" GCamera:MicroVideoOffset="4120"'), "motion video"),
    (packet(CAMERA, "", "<GCamera:MotionPhoto>1</GCamera:MotionPhoto>"), "motion video"),
]


@pytest.mark.parametrize(("xmp", "name"), CLAIMS)
@pytest.mark.parametrize("source_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_claims_about_a_gain_map_or_a_video_go_with_it(xmp, name, source_format) -> None:
    options = {"tiffinfo": {700: xmp}} if source_format == "TIFF" else {"xmp": xmp}
    photo = decode(png_with(png_chunks.xmp(xmp)) if source_format == "PNG" else saved(source_format, **options))
    for format in (source_format, "JPEG", "PNG", "TIFF"):
        data = written(photo, format)
        left = decode(data).metadata.xmp
        for word in (b"hdrgm", b"other:", b"GainMap", b"Motion", b"MicroVideo", b"Container", b"Item"):
            assert word not in left
        assert b'dc:format="image/jpeg"' in left
        assert b"<dc:title>Regen</dc:title>" in left
        assert dropped(photo, data, format) == (name,)
    assert dropped(photo, encode(photo, photo.rgb)) == ()  # the very file, with all that it holds


def test_other_xmp_is_not_touched() -> None:
    for xmp in (packet(CAMERA, 'GCamera:PortraitVersion="1"'), packet("", 'dc:rights="GainMap Ltd."'), b"no xml <"):
        assert xmp_claims.without_attachments(xmp) == (xmp, ())
        assert xmp_claims.without_extension(xmp) == xmp


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content


def extended(extension: bytes, name: bytes, parts: int = 3, missing: bool = False) -> bytes:
    xmp = packet('xmlns:xmpNote="http://ns.adobe.com/xmp/note/"', f'xmpNote:HasExtendedXMP="{name.decode()}"')
    step = -(-len(extension) // parts)
    blocks = [
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + name + struct.pack(">II", len(extension), at)
                + extension[at : at + step])
        for at in range(0, len(extension), step)
    ]  # fmt: skip
    data = saved("JPEG", xmp=xmp)
    return data[:2] + b"".join(blocks[::-1][missing:]) + data[2:]


def test_extended_xmp_is_kept_in_a_jpeg_and_its_claim_goes_elsewhere() -> None:
    extension = packet("", 'dc:creator="x"', "y" * 150000)
    name = hashlib.md5(extension).hexdigest().upper().encode()
    photo = decode(extended(extension, name))
    assert photo.metadata.extension == extension
    data = written(photo)
    assert dropped(photo, data) == ()
    again = decode(data).metadata
    assert (again.xmp, again.extension) == (photo.metadata.xmp, extension)
    # Read by hand: each segment has the name, the whole length and its place.
    found, at = {}, 2
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        content = data[at + 4 : at + 2 + length]
        if content.startswith(b"http://ns.adobe.com/xmp/extension/\0"):
            assert content[35:67] == name
            whole, place = struct.unpack_from(">II", content, 67)
            assert whole == len(extension)
            found[place] = content[75:]
        at += 2 + length
    assert b"".join(found[place] for place in sorted(found)) == extension
    for format in ("PNG", "TIFF", "WEBP", "AVIF"):
        other = written(photo, format)
        assert b"HasExtendedXMP" not in decode(other).metadata.xmp
        assert b"<dc:title>Regen</dc:title>" in decode(other).metadata.xmp
        assert dropped(photo, other, format) == ("extended XMP",)


def test_an_extension_that_is_not_whole_is_named() -> None:
    photo = decode(extended(b"x" * 90000, b"0" * 32, missing=True))
    data = written(photo)
    assert b"HasExtendedXMP" not in decode(data).metadata.xmp
    assert dropped(photo, data) == ("extended XMP",)


# --- what is lost ----------------------------------------------------------------------------------------------------


def test_films_and_maps_that_xmp_does_not_speak_of() -> None:
    data = saved("JPEG") + b"MotionPhoto_Data" + bytes(40)
    photo = decode(data)
    assert dropped(photo, written(photo)) == ("motion video",)
    iso = segment(0xE2, b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4))
    photo = decode(saved("JPEG")[:2] + iso + saved("JPEG")[2:])
    assert dropped(photo, written(photo)) == ("gain map",)
    heic = heic_with()
    for extra, name in ((b"mpvd", "motion video"), (b"ftyp", "motion video")):
        photo = decode(heic + struct.pack(">I", 16) + extra + b"12345678")
        assert dropped(photo, written(photo)) == (name,)
        assert photo.pages == 1


def test_further_pictures_of_an_mpo() -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels()).save(stream, "MPO", save_all=True, append_images=[Image.fromarray(pixels())])
    photo = decode(stream.getvalue())
    assert dropped(photo, written(photo)) == ("further pictures",)
    assert dropped(photo, encode(photo, photo.rgb)) == ()


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_that_becomes_rgb_is_named(format) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels()).convert("CMYK").save(stream, format)
    photo = decode(stream.getvalue())
    for target in (format, "PNG"):
        assert dropped(photo, written(photo, target), target) == ("CMYK colours",)
    assert dropped(photo, encode(photo, photo.rgb), format) == ()
    rgb = decode(saved(format))
    assert dropped(rgb, written(rgb)) == ()


def resource(number: int, content: bytes, mark: bytes = b"8BIM") -> bytes:
    return mark + struct.pack(">HHI", number, 0, len(content)) + content + b"\0" * (len(content) % 2)


FULL = Metadata(
    exif=b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x04\0\0\0Cam\0\0\0\0\0", icc=SRGB, xmp=packet(""),
    photoshop=resource(1028, b"\x1c\x02\x78\0\x04Rain"), comment=b"by hand", dpi=(300.0, 300.0),
    chunks=((b"tEXt", b"Author\0Someone"),), boxes=b"\0\0\0\x0cxml <a/>", mask=zlib.compress(bytes(H * W // 8)),
)  # fmt: skip


@pytest.mark.parametrize(
    ("format", "want"),
    [
        ("JPEG", {"texts", "internal mask", "JPEG 2000 boxes"}),
        ("PNG", {"internal mask", "JPEG 2000 boxes", "comment"}),
        ("TIFF", {"texts", "JPEG 2000 boxes", "comment"}),
        ("WEBP", {"texts", "internal mask", "JPEG 2000 boxes", "comment", "IPTC", "resolution"}),
        ("AVIF", {"texts", "internal mask", "JPEG 2000 boxes", "comment", "IPTC", "resolution"}),
        ("HEIF", {"texts", "internal mask", "JPEG 2000 boxes", "comment", "IPTC", "resolution"}),
        ("JPEG2000", {"texts", "internal mask", "comment", "IPTC", "resolution"}),
        ("BMP", {"texts", "internal mask", "JPEG 2000 boxes", "comment", "IPTC", "EXIF", "XMP", "colour profile"}),
        ("J2K", {"texts", "internal mask", "JPEG 2000 boxes", "comment", "IPTC", "EXIF", "XMP", "colour profile",
                 "resolution"}),
        ("PPM", {"texts", "internal mask", "JPEG 2000 boxes", "comment", "IPTC", "EXIF", "XMP", "colour profile",
                 "resolution"}),
    ],
)  # fmt: skip
def test_what_a_format_has_no_place_for_is_named_and_the_rest_is_there(format, want) -> None:
    photo = Photo(pixels() / np.float32(255), metadata=FULL)
    data = encode(photo, photo.rgb, format)
    assert set(dropped(photo, data, format)) == want
    again = decode(data).metadata
    for name, kind in (("exif", "EXIF"), ("icc", "colour profile"), ("xmp", "XMP"), ("photoshop", "IPTC"),
                       ("comment", "comment"), ("mask", "internal mask"), ("boxes", "JPEG 2000 boxes")):  # fmt: skip
        assert bool(getattr(again, name)) == (kind not in want), name


def test_nothing_is_named_that_was_not_there_or_means_nothing() -> None:
    for format in ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TGA", "AVIF"):
        photo = decode(saved("JPEG", dpi=(72, 72)))
        assert dropped(photo, written(photo, format), format) == ()


def test_what_is_too_long_for_a_jpeg_is_named() -> None:
    note = Image.Exif()
    note[271] = "Camera"
    note.get_ifd(34665)[37500] = bytes(70000)
    long = Image.Exif()
    long[270] = "d" * 70000
    for exif, xmp, want in (
        (note, b"", ("maker's notes",)), (long, b"", ("EXIF",)), (Image.Exif(), b"x" * 70000, ("XMP",)),
    ):  # fmt: skip
        block = exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else b""
        photo = Photo(pixels() / np.float32(255), metadata=Metadata(block, xmp=xmp))
        assert dropped(photo, encode(photo, photo.rgb, "JPEG"), "JPEG") == want
