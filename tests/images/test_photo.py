"""Cases outside the matrix of modes and formats: odd layouts, hidden colours, settings, refusals."""

import io
import os
import struct
import sys
import threading
import tracemalloc
import zlib

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from idsr_cli.errors import ItemError
from idsr_cli.images import opener
from idsr_cli.images import photo as photos
from idsr_cli.images.folders import SUFFIX_FORMATS
from idsr_cli.images.metadata import Metadata
from idsr_cli.images.photo import Photo, apply_orientation, decode, encode, read_photo, undo_orientation

H, W = 13, 17


def pixels(channels: int, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """(H, W) or (H, W, channels); smooth enough for JPEG, with every value range in it."""
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:H, :W]
    planes = [top * (0.5 + 0.45 * np.sin((i + 1) * (x + 2 * y) / 19 + seed)) for i in range(channels)]
    array = np.stack(planes, axis=2).astype(dtype)
    return array[:, :, 0] if channels == 1 else array


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def darker(photo: Photo) -> np.ndarray:
    """A stand-in for restored pixels."""
    return photo.rgb * np.float32(0.5)


def levels(photo: Photo) -> np.ndarray:
    return np.round(photo.rgb * (2**photo.bits - 1)).astype(int)


# --- what is written -------------------------------------------------------------------------------------------------


def test_unchanged_pixels_are_the_same_file_and_only_in_its_own_format() -> None:
    data = saved(Image.fromarray(pixels(3)), "JPEG", quality=60)
    photo = decode(data)
    assert encode(photo, photo.rgb.copy(), quality=30) == data
    assert encode(photo, photo.rgb, "JPEG") == data
    assert encode(photo, darker(photo)) != data
    assert opened(encode(photo, photo.rgb, "PNG")).format == "PNG"
    made = Photo(photo.rgb, format="JPEG")  # no file to copy
    assert opened(encode(made, made.rgb)).format == "JPEG"


def test_every_16_bit_value_survives_the_way_through_floats() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for array in (values, np.dstack([values, values.T, values[::-1]])):
        photo = decode(cv2.imencode(".png", array)[1].tobytes())
        back = cv2.imdecode(np.frombuffer(encode(photo, photo.rgb, "TIFF"), np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(back, array)


def test_16_bit_grey_with_alpha_is_rgba_in_a_tiff() -> None:
    array = pixels(2, np.uint16)
    grey = np.repeat(array[:, :, :1] / np.float32(65535), 3, axis=2).astype(np.float32)
    photo = Photo(grey, array[:, :, 1], grey=True, bits=16)
    data = encode(photo, grey, "TIFF")
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(back, array[:, :, [0, 0, 0, 1]])
    again = decode(data)
    assert again.grey
    np.testing.assert_array_equal(again.alpha, array[:, :, 1])


def test_sixteen_bits_into_eight_are_rounded() -> None:
    array = np.uint16([[[0, 128, 129], [65535, 65406, 257]]])
    photo = Photo((array / 65535).astype(np.float32), np.uint16([[65535, 128]]), bits=16)
    again = decode(encode(photo, photo.rgb, "WEBP", quality=100))
    assert again.bits == 8
    np.testing.assert_array_equal(again.alpha, [[255, 0]])


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_settings(quality, progressive) -> None:
    source = saved(Image.fromarray(pixels(3)), "JPEG", progressive=progressive, optimize=True)
    photo = decode(source)
    image = opened(encode(photo, darker(photo), quality=quality))
    assert [component[1:3] for component in image.layer] == [(1, 1)] * 3  # no colour subsampling
    assert bool(image.info.get("progressive")) == progressive
    want = opened(saved(Image.fromarray(pixels(3)), "JPEG", quality=quality)).quantization
    assert image.quantization == want


def test_lossy_and_lossless_webp_stay_so() -> None:
    for lossless in (True, False):
        photo = decode(saved(Image.fromarray(pixels(4)), "WEBP", lossless=lossless, exact=True))
        assert photo.lossless == lossless
        again = decode(encode(photo, darker(photo)))
        assert again.lossless == lossless
        np.testing.assert_array_equal(again.alpha, photo.alpha)
    assert not decode(encode(Photo(photo.rgb), photo.rgb, "WEBP")).lossless


def test_grey_in_a_lossy_webp_stays_grey() -> None:
    photo = decode(saved(Image.fromarray(pixels(1)), "WEBP", quality=80))
    assert (photo.grey, photo.grey_as_rgb) == (True, True)
    tinted = photo.rgb + np.float32([0.1, 0, -0.1])
    assert np.ptp(np.asarray(opened(encode(photo, tinted, "PNG"))).astype(int), axis=2).max() == 0
    assert decode(encode(photo, tinted)).grey


def test_grey_is_made_with_the_usual_weights() -> None:
    photo = Photo(np.zeros((1, 1, 3), np.float32), grey=True)
    image = opened(encode(photo, np.float32([[[1, 0, 0]]])))
    assert (image.mode, image.getpixel((0, 0))) == ("L", 76)


def test_values_outside_the_range_are_clipped() -> None:
    photo = Photo(np.zeros((1, 2, 3), np.float32))
    back = np.asarray(opened(encode(photo, np.float32([[[-1] * 3, [2] * 3]]))))
    np.testing.assert_array_equal(back, [[[0] * 3, [255] * 3]])


@pytest.mark.parametrize("format", ["JPEG", "PPM"])
def test_transparency_is_never_dropped_silently(format) -> None:
    photo = decode(saved(Image.fromarray(pixels(4)), "PNG"))
    with pytest.raises(ItemError, match=f"{format} cannot hold transparency"):
        encode(photo, photo.rgb, format)


def test_gif_is_read_and_not_written() -> None:
    gif = decode(saved(Image.fromarray(pixels(3)), "GIF"))
    with pytest.raises(ItemError, match="GIF cannot be written"):
        encode(gif, darker(gif))


def test_too_large_for_a_format_is_an_error_of_one_line() -> None:
    photo = Photo(np.zeros((1, 17000, 3), np.float32))
    with pytest.raises(ItemError, match=r"cannot be written as WEBP: \w+"):
        encode(photo, photo.rgb, "WEBP")


def test_16_bit_colour_in_jpeg_2000_is_read_and_refused_not_flattened() -> None:
    array = cv2.resize(pixels(3, np.uint16), (64, 48))
    photo = decode(cv2.imencode(".jp2", array)[1].tobytes())
    assert photo.bits == 16
    with pytest.raises(ItemError, match="16-bit colour cannot be written as JPEG 2000") as caught:
        encode(photo, darker(photo))
    assert "--format tif" in caught.value.hint
    assert decode(encode(photo, darker(photo), "TIFF")).bits == 16


def test_every_suffix_has_an_encoder_and_gets_its_own_format() -> None:
    photo = Photo(np.full((H, W, 3), 0.3, np.float32))
    for suffix, format in SUFFIX_FORMATS.items():
        again = decode(encode(photo, photo.rgb, format))
        assert again.format == format, suffix


# --- colours under transparency --------------------------------------------------------------------------------------


def test_hidden_colours_neither_bleed_nor_change() -> None:
    array = np.full((20, 24, 4), 200, np.uint8)
    array[:, 12:] = [255, 0, 255, 0]  # magenta under full transparency
    array[:, 11, 3] = 128  # half transparent: its colour counts as visible
    photo = decode(saved(Image.fromarray(array), "PNG"))
    filled = photo.visible
    np.testing.assert_array_equal(np.round(filled * 255), 200)
    np.testing.assert_array_equal(levels(photo), array[:, :, :3])  # as stored, still

    blurred = cv2.GaussianBlur(filled, (0, 0), 3)  # a stand-in that spreads colours
    back = np.asarray(opened(encode(photo, blurred * np.float32(0.5))))
    np.testing.assert_array_equal(back[:, :12, :3], 100)
    np.testing.assert_array_equal(back[:, 12:], array[:, 12:])
    np.testing.assert_array_equal(back[:, :, 3], array[:, :, 3])
    # For a dry photograph the network returns the filled pixels; the file is still the same.
    assert encode(photo, filled) == photo.source


def test_hidden_pixels_take_the_nearest_visible_colour() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.random((9, 11, 3)).astype(np.float32)
    alpha = (rng.random((9, 11)) > 0.7).astype(np.uint8) * 255
    filled = Photo(rgb, alpha).visible
    seen = np.argwhere(alpha > 0)
    for y, x in np.argwhere(alpha == 0):
        distances = np.hypot(*(seen - [y, x]).T)
        # Within the precision of the distance transform, which is approximate.
        near = [tuple(rgb[tuple(p)]) for p in seen[distances <= distances.min() * 1.05]]
        assert tuple(filled[y, x]) in near
    np.testing.assert_array_equal(filled[alpha > 0], rgb[alpha > 0])


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_is_filled_if_all_pixels_or_none_are_hidden(value) -> None:
    photo = Photo(np.zeros((3, 3, 3), np.float32), np.full((3, 3), value, np.uint8))
    assert photo.visible is photo.rgb


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_viewers_do_and_can_be_undone(orientation) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    image = Image.fromarray(pixels(3))
    image.getexif()[274] = orientation
    photo = decode(saved(image, "PNG", exif=tags.tobytes()))
    assert photo.orientation == orientation
    turned = apply_orientation(photo.rgb, orientation)
    np.testing.assert_array_equal(np.round(turned * 255), np.asarray(ImageOps.exif_transpose(image)))
    np.testing.assert_array_equal(undo_orientation(turned, orientation), photo.rgb)


def test_an_orientation_without_exif_is_written_as_a_tag() -> None:
    photo = Photo(np.full((H, W, 3), 0.5, np.float32), orientation=6)
    for format in ("PNG", "JPEG", "TIFF"):
        assert decode(encode(photo, photo.rgb, format)).orientation == 6
    plain = Photo(photo.rgb)
    assert decode(encode(plain, plain.rgb, "PNG")).metadata.exif == b""


def test_an_orientation_that_does_not_exist_turns_nothing() -> None:
    for value in (0, 9, 77):
        tags = Image.Exif()
        tags[274] = value
        assert decode(saved(Image.fromarray(pixels(3)), "PNG", exif=tags.tobytes())).orientation == 1


# --- what is read ----------------------------------------------------------------------------------------------------


def test_cmyk_becomes_rgb_without_its_profile() -> None:
    image = Image.merge("CMYK", Image.fromarray(pixels(4)).split())
    for format, options in (("JPEG", {"quality": 100}), ("TIFF", {})):
        photo = decode(saved(image, format, icc_profile=b"\0" * 16 + b"CMYK not a profile in truth", **options))
        assert photo.metadata.icc == b""
        plain = np.asarray(image.convert("RGB"), np.float32) / 255
        assert np.abs(photo.rgb - plain).max() < 0.1
        result = opened(encode(photo, darker(photo)))
        assert result.mode == "RGB"
        assert "icc_profile" not in result.info


def test_colour_keys_of_16_bit_pngs() -> None:
    def png(colour: int, samples: list[int], key: list[int]) -> bytes:
        def chunk(name: bytes, content: bytes) -> bytes:
            return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

        width = 2
        raw = zlib.compress(b"\0" + struct.pack(f">{len(samples)}H", *samples))
        return b"\x89PNG\r\n\x1a\n" + b"".join([
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, 16, colour, 0, 0, 0)),
            chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)), chunk(b"IDAT", raw), chunk(b"IEND", b""),
        ])  # fmt: skip

    grey = decode(png(0, [5, 6], [5]))
    assert (grey.bits, grey.grey) == (16, True)
    np.testing.assert_array_equal(grey.alpha, [[0, 65535]])
    colour = decode(png(2, [5, 6, 7, 8, 9, 10], [5, 6, 7]))
    np.testing.assert_array_equal(colour.alpha, [[0, 65535]])
    np.testing.assert_array_equal(levels(colour), [[[5, 6, 7], [8, 9, 10]]])


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("key", [0, 1, -1])
def test_colour_keys_of_grey_pngs_of_every_depth(depth, key) -> None:
    top = 2**depth - 1
    key = key % (top + 1)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    values = (np.arange(16).reshape(2, 8) & top).astype(np.uint8)
    values[0, 0] = key
    digits = (values[:, :, None] >> np.arange(depth - 1, -1, -1, dtype=np.uint8)) & 1
    lines = np.packbits(digits.reshape(2, -1), axis=1)
    raw = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    data = b"\x89PNG\r\n\x1a\n" + b"".join([
        chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 2, depth, 0, 0, 0, 0)),
        chunk(b"tRNS", struct.pack(">H", key)), chunk(b"IDAT", raw), chunk(b"IEND", b""),
    ])  # fmt: skip
    photo = decode(data)
    np.testing.assert_array_equal(levels(photo)[:, :, 0], values.astype(int) * (255 // top))
    np.testing.assert_array_equal(photo.alpha, np.where(values == key, 0, 255))
    np.testing.assert_array_equal(decode(encode(photo, darker(photo), "PNG")).alpha, photo.alpha)
    # OpenCV agrees.
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if seen.ndim == 3 and seen.shape[2] == 4:
        np.testing.assert_array_equal(seen[:, :, 3], photo.alpha)


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (b"P6\n# by hand\n1 1\n1023\n" + struct.pack(">HHH", 1023, 512, 0), [65535, 32800, 0]),
        (b"P5 1 1 1023 " + struct.pack(">H", 512), [32800] * 3),
        (b"P3\n1 1\n65535\n65535 512 3\n", [65535, 512, 3]),
        (b"P2\n1 1\n4095\n4095\n", [65535] * 3),
    ],
    ids="P6 P5 P3 P2".split(),
)
def test_16_bit_portable_maps_are_stretched_to_the_full_range(data, want) -> None:
    photo = decode(data)
    assert photo.bits == 16
    np.testing.assert_allclose(levels(photo)[0, 0], want, atol=1)


def raw_tiff(array: np.ndarray, tags: dict[int, list[int]], order: str = "<", tile: int = 0, predictor: bool = False,
             planar: bool = False, big: bool = False) -> bytes:  # fmt: skip
    """A TIFF made by hand, deflated; array (H, W, C), uint8 or uint16."""
    height, width, channels = array.shape
    planes = [array[:, :, i : i + 1] for i in range(channels)] if planar else [array]
    blocks = []
    for plane in planes:
        parts = [plane[top : top + 7] for top in range(0, height, 7)]
        if tile:
            padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            parts = [padded[y : y + tile, x : x + tile] for y in range(0, height, tile) for x in range(0, width, tile)]
        for part in parts:
            step = part.copy()
            if predictor:
                step[:, 1:] -= part[:, :-1]
            blocks.append(zlib.compress(step.astype(step.dtype.newbyteorder(order)).tobytes()))
    every = {
        256: [width], 257: [height], 258: [array.itemsize * 8] * channels, 259: [8], 262: [2 if channels > 2 else 1],
        277: [channels], 284: [2 if planar else 1], 317: [2 if predictor else 1],
        **({322: [tile], 323: [tile]} if tile else {278: [7]}), 325 if tile else 279: [len(block) for block in blocks],
        **tags,
    }  # fmt: skip
    count, pointer, start = ("Q", "Q", 16) if big else ("H", "I", 8)
    entry = struct.calcsize("<HH" + 2 * pointer)
    where = 324 if tile else 273
    every[where] = [0] * len(blocks)
    after = start + struct.calcsize("<" + count) + entry * len(every) + struct.calcsize("<" + pointer)
    inline = struct.calcsize("<" + pointer) // 4
    data_at = after + sum(4 * len(v) for v in every.values() if len(v) > inline)
    every[where] = [data_at + sum(map(len, blocks[:i])) for i in range(len(blocks))]
    head, tail = struct.pack(order + count, len(every)), b""
    for tag, values in sorted(every.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        head += struct.pack(f"{order}HH{pointer}", tag, 4, len(values))
        if len(values) > inline:
            head += struct.pack(order + pointer, after + len(tail))
            tail += packed
        else:
            head += packed.ljust(4 * inline, b"\0")
    mark = b"II" if order == "<" else b"MM"
    first = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    return mark + first + head + struct.pack(order + pointer, 0) + tail + b"".join(blocks)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "layout",
    [{}, {"predictor": True}, {"planar": True}, {"planar": True, "predictor": True}, {"tile": 16},
     {"tile": 16, "predictor": True}, {"tile": 16, "planar": True}, {"big": True, "predictor": True}],
    ids=lambda layout: "+".join(layout) or "strips",
)  # fmt: skip
def test_16_bit_tiffs_of_every_layout(order, channels, layout, capfd) -> None:
    rng = np.random.default_rng(channels)
    array = rng.integers(0, 65536, (19, 37, channels)).astype(np.uint16)
    extra = {338: [2]} if channels in (2, 4) else {}
    photo = decode(raw_tiff(array, {**extra, 274: [6]}, order, **layout))
    colour = array[:, :, : 1 if channels < 3 else 3]
    np.testing.assert_array_equal(levels(photo), np.broadcast_to(colour, (19, 37, 3)))
    if extra:
        np.testing.assert_array_equal(photo.alpha, array[:, :, -1])
    assert capfd.readouterr() == ("", "")


def test_tiff_white_is_zero_and_transparency_multiplied_in() -> None:
    array = np.full((9, 9, 1), 1000, np.uint16)
    assert set(levels(decode(raw_tiff(array, {262: [0]}))).ravel()) == {64535}
    array = np.full((9, 9, 4), 10000, np.uint16)
    array[:, :, 3] = 20000
    photo = decode(raw_tiff(array, {338: [1]}))
    assert abs(levels(photo) - 32768).max() <= 1
    assert set(photo.alpha.ravel()) == {20000}
    again = decode(encode(photo, photo.rgb, "PNG"))
    np.testing.assert_array_equal(again.rgb, photo.rgb)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_extra_channel_that_is_not_transparency_is_kept(dtype) -> None:
    array = np.random.default_rng(0).integers(0, 256, (19, 37, 4)).astype(dtype)
    array[:5, :, 3] = 0  # near infrared, say: nothing is hidden there
    photo = decode(raw_tiff(array, {338: [0]}))
    assert photo.visible is photo.rgb
    again = decode(encode(photo, darker(photo)))
    np.testing.assert_array_equal(again.alpha, array[:, :, 3])
    np.testing.assert_allclose(levels(again), array[:, :, :3] / 2, atol=0.51)
    assert again.metadata.extra_sample == 0
    with pytest.raises(ItemError, match="PNG cannot hold the fourth channel"):
        encode(photo, photo.rgb, "PNG")


def test_pages_are_counted_and_previews_are_not() -> None:
    frames = [Image.fromarray(pixels(3, seed=seed)) for seed in (0, 1)]
    for format in ("TIFF", "PNG", "WEBP", "GIF", "AVIF"):
        assert decode(saved(frames[0], format, save_all=True, append_images=frames[1:])).pages == 2, format
    stereo = decode(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert (stereo.pages, opened(encode(stereo, darker(stereo))).format) == (1, "JPEG")
    small = frames[1].resize((5, 4))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    data = saved(frames[0], "TIFF", save_all=True, append_images=[small])
    assert opened(data).n_frames == 2
    assert decode(data).pages == 1


def heic(rgb: np.ndarray, orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    stream = io.BytesIO()
    file = pillow_heif.from_bytes("RGB", rgb.shape[1::-1], rgb.tobytes())
    file.save(stream, quality=100, chroma=444, exif=tags.tobytes())
    return stream.getvalue()


def test_heic_is_on_the_grid_that_every_reader_gives() -> None:
    rgb = cv2.resize(pixels(3), (48, 32))
    data = heic(rgb, 6)  # as a telephone held upright does
    photo = decode(data)
    assert (photo.width, photo.height) == (32, 48)
    seen = np.asarray(pillow_heif.open_heif(io.BytesIO(data)))
    np.testing.assert_array_equal(levels(photo), seen)
    again = decode(encode(photo, darker(photo)))
    assert (again.width, again.height) == (32, 48)
    assert np.abs(again.rgb - darker(photo)).max() < 0.05
    # From a JPEG whose orientation is a tag, the grid counts.
    tags = Image.Exif()
    tags[274] = 6
    jpeg = decode(saved(Image.fromarray(rgb), "JPEG", exif=tags.tobytes()))
    assert (decode(encode(jpeg, jpeg.rgb, "HEIF")).width, jpeg.width) == (48, 48)


def test_without_pillow_heif_one_line_says_what_to_install(monkeypatch) -> None:
    data = heic(cv2.resize(pixels(3), (48, 32)), 1)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ItemError) as caught:
        decode(data)
    install = "install the extra `heic`: pip install -c constraints.txt '.[heic]' in idsr's folder"
    assert str(caught.value) == f"HEIC needs pillow-heif ({install})"
    photo = Photo(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(ItemError, match="HEIC needs pillow-heif"):
        encode(photo, photo.rgb, "HEIF")


def test_one_pixel() -> None:
    for format, mode in (
        ("PNG", "L"),
        ("PNG", "RGBA"),
        ("JPEG", "RGB"),
        ("TIFF", "RGB"),
        ("WEBP", "RGB"),
        ("BMP", "L"),
    ):
        photo = decode(saved(Image.new(mode, (1, 1)), format))
        assert decode(encode(photo, photo.rgb + np.float32(0.5))).rgb.shape == (1, 1, 3)


def test_names_in_any_script(tmp_path) -> None:
    path = tmp_path / "雨 ünd søl.png"
    path.write_bytes(saved(Image.fromarray(pixels(3)), "PNG"))
    np.testing.assert_array_equal(levels(read_photo(path)), pixels(3))


# --- what is refused -------------------------------------------------------------------------------------------------


def huge(format: str) -> bytes:
    """A small file whose header speaks of 20000x20000 pixels or more."""
    if format == "PNG":
        return saved(Image.new("1", (20000, 20000)), "PNG")
    if format == "TIFF":
        return raw_tiff(np.zeros((9, 9, 3), np.uint16), {256: [60000], 257: [60000]})
    if format == "JPEG":
        data = bytearray(saved(Image.new("L", (8, 8)), "JPEG"))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = b"\xff\xf0\xff\xf0"
        return bytes(data)
    return b"P6\n99999 99999\n255\n" + bytes(64)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "PPM"])
def test_a_huge_header_is_refused_before_memory_is_taken(format) -> None:
    with pytest.raises(ItemError, match=r"^too large: \d+x\d+ pixels, the limit is 256 million"):
        decode(huge(format))


def sparse_file(path, head: bytes, length: int):
    """A file of this length that takes no room on the disk."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(length)
    return path


BIG_HEADS = {
    "tif": raw_tiff(np.zeros((9, 9, 3), np.uint16), {256: [60000], 257: [60000]}),
    "tif, big": raw_tiff(np.zeros((9, 9, 3), np.uint16), {256: [60000], 257: [60000]}, ">", big=True),
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 70000, 70000),
    "ppm": b"P6\n40000 50000\n255\n",
    "jpg": bytes.fromhex("ffd8 ffc0 0011 08 fff0 fff0 03 012200 021101 031101 ffda 000c 03010002110311003f00"),
    "avif": b"\0\0\0\x10ftypavif\0\0\0\0" + struct.pack(
        ">I4s4xI4s4xHI4sI4sI4s4xIII4s4xI3BB", 82, b"meta", 14, b"pitm", 1, 56, b"iprp", 28, b"ipco", 20, b"ispe", 90000,
        90000, 20, b"ipma", 1, 0, 1, 1, 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BIG_HEADS)
@pytest.mark.parametrize("length", [1 << 28, 6_000_000_000])
def test_too_many_pixels_are_refused_before_the_file_is_read(name, length, tmp_path) -> None:
    path = sparse_file(tmp_path / "big", BIG_HEADS[name], length)
    tracemalloc.start()
    with pytest.raises(ItemError, match="big: too large: ") as caught:
        read_photo(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    if length < photos.MAX_BYTES or name not in ("ppm", "jpg"):
        assert "pixels, the limit is 256 million" in str(caught.value)
    else:
        assert "6.0 GB, the limit is 2.3 GB" in str(caught.value)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"no image", "too large: 6.0 GB, the limit is 2.3 GB"),
        (b"RIFF\0\0\0\0WEBPVP8X", "too large: 6.0 GB, the limit is 2.3 GB"),
        (saved(Image.fromarray(pixels(3)), "PNG"), "too large: 6.0 GB, the limit is 2.3 GB"),
        (saved(Image.fromarray(np.float32(pixels(1))), "TIFF"), "32-bit float pixels have no agreed range"),
        (saved(Image.fromarray(pixels(3)), "TIFF", save_all=True, append_images=[Image.fromarray(pixels(3))]),
         "holds 2 pictures"),
    ],
    ids="text webp png float pages".split(),
)  # fmt: skip
def test_a_file_that_is_too_long_is_refused_before_it_is_read(head, reason, tmp_path) -> None:
    tracemalloc.start()
    with pytest.raises(ItemError) as caught:
        read_photo(sparse_file(tmp_path / "big", head, 6_000_000_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert caught.value.reason.startswith(reason)
    assert caught.value.path == str(tmp_path / "big")


def test_a_long_file_with_a_small_picture_is_read(tmp_path) -> None:
    data = saved(Image.fromarray(pixels(3)), "TIFF")
    path = tmp_path / "long.tif"
    path.write_bytes(data + bytes(20_000_000))
    np.testing.assert_array_equal(levels(read_photo(path)), pixels(3))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_read(tmp_path) -> None:
    os.mkfifo(tmp_path / "pipe")
    data = saved(Image.fromarray(pixels(3)), "PNG")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    assert read_photo(tmp_path / "pipe").source == data
    writer.join()


def test_the_largest_cameras_are_below_the_limit_and_pillows_own_is_untouched() -> None:
    before = Image.MAX_IMAGE_PIXELS
    opener.check_size(16320, 12240)  # a telephone's 200 megapixels, above Pillow's bound
    image = opener.open_image(saved(Image.new("1", (16320, 12240)), "PNG"))
    assert image.size == (16320, 12240)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"plain text, whatever its name", "not an image"),
        (saved(Image.fromarray(pixels(3)), "PNG")[:-60], "damaged image"),
        (saved(Image.fromarray(pixels(3)), "JPEG")[:-60], "damaged image: image file is truncated"),
        (saved(Image.fromarray(pixels(3)), "TIFF")[:300], "damaged image"),
        (saved(Image.fromarray(pixels(3)), "WEBP")[:-30], "damaged image"),
        (saved(Image.fromarray(pixels(3)), "BMP")[:-60], "damaged image"),
        (saved(Image.fromarray(pixels(3)), "JPEG2000")[:150], "damaged image"),
        (saved(Image.fromarray(pixels(3)), "AVIF")[:-60], "damaged image"),
        (heic(cv2.resize(pixels(3), (48, 32)), 1)[:-60], "damaged image"),
        (b"P6\n9 9\n65535\n" + bytes(99), "damaged image"),
        (cv2.imencode(".png", pixels(3, np.uint16))[1].tobytes()[:-200], "damaged image"),
        (raw_tiff(pixels(3, np.uint16), {})[:-200], "damaged image"),
        (raw_tiff(pixels(3, np.uint16), {})[:60], "damaged image"),
        (raw_tiff(pixels(3), {339: [2] * 3}), "8-bit signed pixels have no agreed range"),
        (raw_tiff(pixels(3, np.uint16), {339: [2] * 3}), "16-bit signed pixels have no agreed range"),
        (saved(Image.fromarray(np.float32(pixels(1))), "TIFF"), "32-bit float pixels have no agreed range"),
        (saved(Image.fromarray(np.int32(pixels(1))), "TIFF"), "32-bit signed pixels have no agreed range"),
        (raw_tiff(pixels(3, np.uint16), {258: [12] * 3}), "12-bit integer pixels have no agreed range"),
        (raw_tiff(pixels(5), {338: [0, 0]}), "has 5 channels"),
        (raw_tiff(pixels(4, np.uint16), {262: [5]}), "16-bit pixels that are neither grey nor RGB"),
        (saved(Image.new("LAB", (9, 9)), "TIFF"), "LAB colours are not supported"),
    ],
    ids="empty text png jpeg tiff webp bmp jp2 avif heic ppm16 png16 tiff16 header int8 int16 float int bits12 five "
    "cmyk16 lab".split(),
)  # fmt: skip
def test_bad_data(data, reason, capfd) -> None:
    with pytest.raises(ItemError) as caught:
        decode(data)
    assert caught.value.reason.startswith(reason)
    assert "\n" not in caught.value.reason
    assert capfd.readouterr() == ("", "")


def test_damage_anywhere_is_an_error_of_one_line_or_harmless(capfd) -> None:
    rng = np.random.default_rng(0)
    sources = [
        saved(Image.fromarray(pixels(3)), "JPEG", exif=Image.Exif().tobytes()),
        saved(Image.fromarray(pixels(4)), "PNG", dpi=(300, 300)),
        saved(Image.fromarray(pixels(3)), "TIFF"),
        saved(Image.fromarray(pixels(3)), "JPEG2000"),
        raw_tiff(pixels(3, np.uint16), {}, predictor=True),
    ]
    for data in sources:
        for _ in range(60):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 400), 3):
                broken[at] = rng.integers(0, 256)
            try:
                photo = decode(bytes(broken))
            except ItemError as error:
                assert "\n" not in str(error)  # noqa: PT017
            else:
                if photo.format in SUFFIX_FORMATS.values() and photo.width * photo.height < 1e6:
                    encode(photo, darker(photo))


def test_threads_do_not_disturb_each_other() -> None:
    before = Image.MAX_IMAGE_PIXELS
    data = [saved(Image.fromarray(pixels(3, seed=seed)), "PNG") for seed in range(8)]
    data += [raw_tiff(pixels(3, np.uint16, seed), {}) for seed in range(4)]
    want = [decode(d).rgb for d in data]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(decode(data[i]).rgb, want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert before == Image.MAX_IMAGE_PIXELS


def test_read_photo_names_the_file(tmp_path) -> None:
    with pytest.raises(ItemError) as caught:
        read_photo(tmp_path / "ünknown.png")
    assert str(caught.value) == f"{tmp_path}/ünknown.png: no such file (moved, or a broken link)"
    with pytest.raises(ItemError, match="is a directory"):
        read_photo(tmp_path)


def test_the_metadata_of_a_made_photo_is_empty() -> None:
    assert Photo(np.zeros((1, 1, 3), np.float32)).metadata == Metadata()
