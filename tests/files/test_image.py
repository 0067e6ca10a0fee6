"""Photographs survive decoding and encoding: pixels, depth, transparency, grey, orientation, metadata."""

import io
import threading

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational

from idsr_cli.errors import ItemError
from idsr_cli.files.image import SUFFIX_FORMATS, Photo, decode, encode, read_photo
from idsr_cli.files.plan import PHOTO_SUFFIXES

H, W = 13, 17
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


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


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[274] = orientation
    tags[271] = "Camera"
    tags.get_ifd(34665)[33434] = IFDRational(1, 125)  # exposure time, in a directory of its own
    return tags


MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
EIGHT_BITS = [
    ("PNG", "L"), ("PNG", "LA"), ("PNG", "RGB"), ("PNG", "RGBA"),
    ("TIFF", "L"), ("TIFF", "LA"), ("TIFF", "RGB"), ("TIFF", "RGBA"),
    ("BMP", "L"), ("BMP", "RGB"), ("PPM", "L"), ("PPM", "RGB"), ("TGA", "L"), ("TGA", "RGB"), ("TGA", "RGBA"),
    ("JPEG2000", "L"), ("JPEG2000", "RGB"), ("JPEG2000", "RGBA"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "mode"), EIGHT_BITS)
@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_lossless_formats_come_back_exactly(format, mode, orientation) -> None:
    array = pixels(MODES[mode])
    keeps_exif = format in ("PNG", "TIFF")
    data = saved(Image.fromarray(array), format, **({"exif": exif(orientation).tobytes()} if keeps_exif else {}))
    photo = decode(data)
    assert (photo.width, photo.height, photo.bits, photo.grey) == (W, H, 8, mode in ("L", "LA"))
    assert photo.rgb.dtype == np.float32
    colour = array[:, :, None] if mode == "L" else array[:, :, :1] if mode == "LA" else array[:, :, :3]
    np.testing.assert_array_equal(np.round(photo.rgb * 255).astype(int), np.broadcast_to(colour, (H, W, 3)))

    again = decode(encode(photo, photo.rgb))
    np.testing.assert_array_equal(again.rgb, photo.rgb)
    assert (again.grey, again.format) == (photo.grey, format)
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(again.alpha, array[:, :, -1])
    else:
        assert again.alpha is None
    if keeps_exif:
        tags = Image.Exif()
        tags.load(again.metadata["exif"])
        assert (tags.get(274), tags[271], tags.get_ifd(34665)[33434]) == (orientation, "Camera", 0.008)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_sixteen_bits_stay_sixteen(format, channels, orientation) -> None:
    if format == "PPM" and channels == 4:
        pytest.skip("PPM has no transparency")
    array = pixels(channels, np.uint16)
    bgr = array if channels == 1 else array[:, :, [2, 1, 0, 3][:channels]]
    suffix = {"PNG": ".png", "TIFF": ".tiff", "PPM": ".ppm" if channels == 3 else ".pgm"}[format]
    photo = decode(cv2.imencode(suffix, bgr)[1].tobytes())  # written by somebody else
    assert (photo.bits, photo.grey) == (16, channels == 1)
    metadata = {"exif": exif(orientation).tobytes(), "icc_profile": SRGB, "dpi": (300.0, 300.0)} if channels > 1 else {}
    photo = Photo(photo.rgb, photo.alpha, photo.grey, 16, format, metadata=metadata)

    data = encode(photo, photo.rgb)
    again = decode(data)
    colour = array[:, :, None] if channels == 1 else array[:, :, :3]
    np.testing.assert_array_equal(np.round(again.rgb * 65535).astype(int), np.broadcast_to(colour, (H, W, 3)))
    if channels == 4:
        assert again.alpha.dtype == np.uint16
        np.testing.assert_array_equal(again.alpha, array[:, :, 3])
    if metadata and format != "PPM":
        tags = Image.Exif()
        tags.load(again.metadata["exif"])
        assert (tags.get(274), tags[271], tags.get_ifd(34665)[33434]) == (orientation, "Camera", 0.008)
        assert again.metadata["icc_profile"] == SRGB
        assert again.metadata["dpi"] == pytest.approx((300, 300), abs=0.01)
    # Read by somebody else, where that reader leaves the orientation alone.
    if orientation == 1:
        np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), bgr)


def test_sixteen_bit_grey_with_alpha() -> None:
    array = pixels(2, np.uint16)
    grey = np.repeat(array[:, :, :1] / np.float32(65535), 3, axis=2).astype(np.float32)
    photo = Photo(grey, array[:, :, 1], grey=True, bits=16)
    again = decode(encode(photo, grey))
    assert (again.bits, again.grey) == (16, True)
    np.testing.assert_array_equal(np.round(again.rgb[:, :, 0] * 65535).astype(int), array[:, :, 0])
    np.testing.assert_array_equal(again.alpha, array[:, :, 1])
    tiff = decode(encode(photo, grey, "TIFF"))
    np.testing.assert_array_equal(tiff.rgb, again.rgb)
    np.testing.assert_array_equal(tiff.alpha, array[:, :, 1])


def test_sixteen_bits_into_eight_are_rounded() -> None:
    array = np.uint16([[[0, 128, 129], [65535, 65406, 257]]])
    photo = Photo((array / 65535).astype(np.float32), np.uint16([[65535, 128]]), bits=16)
    again = decode(encode(photo, photo.rgb, "WEBP", quality=100))
    assert again.bits == 8
    np.testing.assert_array_equal(again.alpha, [[255, 0]])


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_jpeg(mode, orientation) -> None:
    array = pixels(MODES[mode])
    data = saved(Image.fromarray(array), "JPEG", quality=100, subsampling=0, exif=exif(orientation), icc_profile=SRGB)
    photo = decode(data)
    assert (photo.width, photo.height, photo.grey, photo.format) == (W, H, mode == "L", "JPEG")
    result = encode(photo, photo.rgb)
    image = opened(result)
    assert (image.format, image.mode, image.size) == ("JPEG", mode, (W, H))
    assert (image.getexif()[274], image.getexif()[271]) == (orientation, "Camera")
    assert image.info["icc_profile"] == SRGB
    assert np.abs(decode(result).rgb - photo.rgb).max() < 0.04
    if mode == "RGB":
        assert [component[1:3] for component in image.layer] == [(1, 1)] * 3  # no colour subsampling
    assert len(encode(photo, photo.rgb, quality=30)) < len(result)


def test_thumbnail_of_the_rainy_picture_is_dropped() -> None:
    tags = exif(6)
    tags.get_ifd(1)[513] = 0  # the directory of the thumbnail
    photo = decode(saved(Image.fromarray(pixels(3)), "JPEG", exif=tags.tobytes()))
    again = opened(encode(photo, photo.rgb)).getexif()
    assert again[274] == 6
    assert not again.get_ifd(1)


@pytest.mark.parametrize("lossless", [True, False])
def test_webp(lossless) -> None:
    array = pixels(4)
    data = saved(Image.fromarray(array), "WEBP", lossless=lossless, exact=True, exif=exif(6), icc_profile=SRGB)
    photo = decode(data)
    assert photo.lossless == lossless
    again = decode(encode(photo, photo.rgb))
    assert again.lossless == lossless
    np.testing.assert_array_equal(again.alpha, photo.alpha)
    assert again.metadata["icc_profile"] == SRGB
    assert opened(encode(photo, photo.rgb)).getexif()[274] == 6
    if lossless:
        np.testing.assert_array_equal(again.rgb, photo.rgb)


def test_avif() -> None:
    photo = decode(saved(Image.fromarray(pixels(3)), "AVIF", quality=100))
    again = decode(encode(photo, photo.rgb))
    assert again.format == "AVIF"
    assert np.abs(again.rgb - photo.rgb).max() < 0.06


def test_palette_bilevel_and_colour_keys() -> None:
    image = Image.fromarray(pixels(3)).quantize(16)
    photo = decode(saved(image, "PNG"))
    np.testing.assert_array_equal(np.round(photo.rgb * 255), np.asarray(image.convert("RGB")))
    assert (opened(encode(photo, photo.rgb)).mode, photo.alpha) == ("RGB", None)
    keyed = decode(saved(image, "PNG", transparency=bytes([0, 128] + [255] * 14)))
    assert set(np.unique(keyed.alpha)) == {0, 128, 255}
    gif = decode(saved(image, "GIF"))
    with pytest.raises(ItemError, match="GIF cannot be written"):
        encode(gif, gif.rgb)
    bilevel = decode(saved(Image.fromarray(pixels(1) > 200), "PNG"))
    assert bilevel.grey
    assert set(np.unique(bilevel.rgb)) == {0.0, 1.0}


def test_cmyk_becomes_rgb_without_its_profile() -> None:
    image = Image.merge("CMYK", Image.fromarray(pixels(4)).split())
    photo = decode(saved(image, "JPEG", quality=100, icc_profile=b"not a CMYK profile"))
    assert photo.rgb.shape == (H, W, 3)
    assert "icc_profile" not in photo.metadata
    assert opened(encode(photo, photo.rgb)).mode == "RGB"
    plain = np.asarray(image.convert("RGB"), np.float32) / 255
    assert np.abs(photo.rgb - plain).max() < 0.1


@pytest.mark.parametrize("format", ["JPEG", "BMP", "PPM"])
def test_transparency_is_never_dropped_silently(format) -> None:
    photo = decode(saved(Image.fromarray(pixels(4)), "PNG"))
    with pytest.raises(ItemError, match=f"{format} cannot hold transparency"):
        encode(photo, photo.rgb, format)


def test_grey_is_made_with_the_usual_weights() -> None:
    photo = Photo(np.zeros((1, 1, 3), np.float32), grey=True)
    image = opened(encode(photo, np.float32([[[1, 0, 0]]])))
    assert (image.mode, image.getpixel((0, 0))) == ("L", 76)


def test_values_outside_the_range_are_clipped() -> None:
    photo = Photo(np.zeros((1, 2, 3), np.float32))
    np.testing.assert_array_equal(
        np.asarray(opened(encode(photo, np.float32([[[-1] * 3, [2] * 3]])))), [[[0] * 3, [255] * 3]]
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"plain text, whatever its name", "not an image"),
        (saved(Image.fromarray(pixels(3)), "PNG")[:-60], "damaged image"),
        (saved(Image.fromarray(pixels(3)), "JPEG")[:-60], "damaged image: image file is truncated"),
        (saved(Image.fromarray(pixels(3)), "TIFF")[:300], "damaged image"),
        (cv2.imencode(".png", pixels(3, np.uint16))[1].tobytes()[:-200], "damaged image"),
        (saved(Image.fromarray(np.float32(pixels(1))), "TIFF"), "pixels of kind F have no agreed range"),
        (saved(Image.fromarray(np.int32(pixels(1))), "TIFF"), "pixels of kind I have no agreed range"),
        (saved(Image.new("1", (20000, 20000)), "PNG"), "too large: image size"),
    ],
    ids="empty text png jpeg tiff png16 float int bomb".split(),
)  # fmt: skip
def test_bad_data(data, reason, capfd) -> None:
    with pytest.raises(ItemError) as caught:
        decode(data)
    assert caught.value.reason.startswith(reason)
    assert "\n" not in caught.value.reason
    assert capfd.readouterr() == ("", "")


def test_damaged_exif_is_no_reason_to_refuse(recwarn) -> None:
    data = saved(Image.fromarray(pixels(3)), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage")
    photo = decode(data)
    assert photo.rgb.shape == (H, W, 3)
    encode(photo, photo.rgb)
    assert not recwarn.list


def test_a_profile_that_libpng_doubts_prints_nothing(capfd) -> None:
    photo = Photo(
        np.zeros((2, 2, 3), np.float32), np.zeros((2, 2), np.uint16), True, 16, metadata={"icc_profile": SRGB}
    )
    assert decode(encode(photo, photo.rgb)).metadata["icc_profile"] == SRGB
    assert capfd.readouterr() == ("", "")


def test_one_pixel() -> None:
    for mode in ("L", "RGB", "RGBA"):
        photo = decode(saved(Image.new(mode, (1, 1)), "PNG"))
        assert decode(encode(photo, photo.rgb)).rgb.shape == (1, 1, 3)


def test_pages_are_counted() -> None:
    frames = [Image.fromarray(pixels(3, seed=seed)) for seed in (0, 1)]
    assert decode(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])).pages == 2
    stereo = decode(saved(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert (stereo.pages, opened(encode(stereo, stereo.rgb)).format) == (1, "JPEG")


def test_read_photo_names_the_file(tmp_path) -> None:
    with pytest.raises(ItemError) as caught:
        read_photo(tmp_path / "ünknown.png")
    assert str(caught.value) == f"{tmp_path}/ünknown.png: no such file (moved, or a link that leads nowhere)"
    with pytest.raises(ItemError, match="is a directory"):
        read_photo(tmp_path)


def test_threads_do_not_disturb_each_other() -> None:
    data = [saved(Image.fromarray(pixels(3, seed=seed)), "PNG", exif=exif(6)) for seed in range(8)]
    want = [decode(d).rgb for d in data]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(decode(data[i]).rgb, want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_every_suffix_searched_for_can_be_written() -> None:
    assert set(SUFFIX_FORMATS) == PHOTO_SUFFIXES
