"""Every mode in every format that can hold it, with every orientation: what goes in comes out.

Sources are written by others (Pillow, OpenCV, pillow-heif) or by hand, and results are re-read by others. Each case is
decoded; written back unchanged; written after a stand-in restoration; and written unchanged as PNG.
"""

import io
import struct
import zlib

import cv2
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from idsr_cli.images.photo import decode, encode

H, W = 33, 40  # OpenCV writes no JPEG 2000 below 32 pixels


def ramp(channels: int, dtype: type = np.uint8) -> np.ndarray:
    """(H, W, channels), smooth enough for lossy formats, colours apart, transparency never complete."""
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:H, :W]
    planes = [top * (0.5 + 0.4 * np.sin((2 * x + (i + 1) * y) / 25 + i)) for i in range(channels)]
    return np.stack(planes, axis=2).astype(dtype)


def exif_block(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    tags[271] = "Camera"
    tags.get_ifd(34665)[33434] = IFDRational(1, 125)
    return tags.tobytes()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_16(array: np.ndarray, exif: bytes) -> bytes:
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[array.shape[2]]
    rows = array.astype(">u2").reshape(H, -1).view(np.uint8)
    lines = np.hstack([np.zeros((H, 1), np.uint8), rows]).tobytes()
    head = struct.pack(">IIBBBBB", W, H, 16, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")])


def tiff_16(array: np.ndarray, exif: bytes) -> bytes:
    channels = array.shape[2]
    tags = Image.Exif()
    tags.load(exif)
    directory = ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = tags.get_ifd(tag) if tag == 34665 else value
    raw = array.astype("<u2").tobytes()
    layout = {256: W, 257: H, 258: (16,) * channels, 259: 1, 262: 2 if channels > 2 else 1, 277: channels, 278: H}
    for tag, value in {**layout, 279: len(raw), 339: (1,) * channels, 273: 0}.items():
        directory[tag] = value
    if channels in (2, 4):
        directory[338] = 2
    directory.tagtype[273] = 4
    stream = io.BytesIO()
    directory.save(stream)
    return stream.getvalue() + raw


def pillow(image: Image.Image, format: str, exif: bytes, **more: object) -> bytes:
    lossy = {"JPEG": {"quality": 100, "subsampling": 0}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    lossless = {"WEBP": {"lossless": True, "exact": True}, "J2K": {"no_jp2": True}}
    keeps = {"exif": exif} if format in KEEPS_EXIF else {}
    stream = io.BytesIO()
    name = "JPEG2000" if format == "J2K" else format
    image.save(stream, name, **{**lossy.get(format, {}), **lossless.get(format, {}), **keeps, **more})
    return stream.getvalue()


def opencv(array: np.ndarray, suffix: str) -> bytes:
    order = [2, 1, 0, 3][: array.shape[2]] if array.shape[2] > 2 else [0]
    return cv2.imencode(suffix, array[:, :, order])[1].tobytes()


def heic(array: np.ndarray, mode: str, exif: bytes) -> bytes:
    stream = io.BytesIO()
    file = pillow_heif.from_bytes(mode, (W, H), np.ascontiguousarray(array).tobytes())
    file.save(stream, quality=100, chroma=444, exif=exif)
    return stream.getvalue()


PALETTE = Image.fromarray(ramp(3)).quantize(32)
GREY_PALETTE = Image.fromarray(ramp(1)[:, :, 0] & 0xF0).quantize(16)
CMYK = Image.merge("CMYK", Image.fromarray(ramp(4)).split())


def source(mode: str, format: str, exif: bytes) -> bytes:
    """A file of this mode and format, not written by us."""
    if format == "HEIF":
        arrays = {
            "L": ramp(1),
            "RGB": ramp(3),
            "RGBA": ramp(4),
            "RGB16": ramp(3, np.uint16),
            "RGBA16": ramp(4, np.uint16),
        }
        return heic(arrays[mode], mode.replace("16", ";16"), exif)
    if mode.endswith("16"):
        array = ramp({"L16": 1, "LA16": 2, "RGB16": 3, "RGBA16": 4}[mode], np.uint16)
        if format == "PNG":
            return png_16(array, exif)
        if format == "TIFF":
            return tiff_16(array, exif)
        return opencv(array, {"PPM": ".ppm" if mode == "RGB16" else ".pgm", "JPEG2000": ".jp2"}[format])
    if format == "BMP" and mode == "RGBA":
        return opencv(ramp(4), ".bmp")
    more: dict[str, object] = {}
    if mode == "P+transparency":
        image, more = PALETTE, {"transparency": bytes([0, 128] + [255] * 30) if format == "PNG" else 3}
    else:
        image = {
            "1": lambda: Image.fromarray(ramp(1)[:, :, 0] > 120),
            "L": lambda: Image.fromarray(ramp(1)[:, :, 0]),
            "LA": lambda: Image.fromarray(ramp(2)),
            "RGB": lambda: Image.fromarray(ramp(3)),
            "grey RGB": lambda: Image.fromarray(np.repeat(ramp(1), 3, axis=2)),
            "RGBA": lambda: Image.fromarray(ramp(4)),
            "P": lambda: PALETTE,
            "grey P": lambda: GREY_PALETTE,
            "CMYK": lambda: CMYK,
            "YCbCr": lambda: Image.fromarray(ramp(3)).convert("YCbCr"),
        }[mode]()
    return pillow(image, format, exif, **more)


def expected(mode: str) -> np.ndarray:
    """(H, W, C): what the pixels of a mode are."""
    if mode == "1":
        return ((ramp(1) > 120) * np.uint8(255)).astype(np.uint8)
    if mode.endswith("16"):
        return ramp({"L16": 1, "LA16": 2, "RGB16": 3, "RGBA16": 4}[mode], np.uint16)
    if mode in ("L", "LA", "RGB", "RGBA"):
        return ramp(len(mode))
    images = {"P": PALETTE, "grey P": GREY_PALETTE, "CMYK": CMYK, "YCbCr": Image.fromarray(ramp(3))}
    if mode == "grey RGB":
        return np.repeat(ramp(1), 3, axis=2)
    if mode == "P+transparency":
        alpha = np.array([0, 128] + [255] * 30, np.uint8)[np.asarray(PALETTE)]
        return np.dstack([np.asarray(PALETTE.convert("RGB")), alpha])
    array = np.asarray(images[mode].convert("RGB"))
    return array[:, :, :1] if mode == "grey P" else array


KEEPS_EXIF = frozenset({"JPEG", "PNG", "TIFF", "WEBP", "AVIF"})
MODES = {
    "1": "JPEG PNG TIFF BMP PPM TGA",
    "L": "JPEG PNG TIFF BMP PPM TGA JPEG2000 J2K AVIF HEIF",
    "LA": "PNG TIFF TGA JPEG2000 J2K",
    "L16": "PNG TIFF PPM JPEG2000",
    "LA16": "PNG TIFF",
    "P": "PNG TIFF BMP TGA",
    "grey P": "PNG TIFF BMP TGA",
    "P+transparency": "PNG",
    "RGB": "JPEG PNG TIFF WEBP BMP PPM TGA JPEG2000 J2K AVIF HEIF",
    "grey RGB": "JPEG PNG TIFF WEBP BMP PPM TGA JPEG2000 AVIF",
    "RGBA": "PNG TIFF WEBP BMP TGA JPEG2000 J2K AVIF HEIF",
    "RGB16": "PNG TIFF PPM JPEG2000 HEIF",
    "RGBA16": "PNG TIFF JPEG2000 HEIF",
    "CMYK": "JPEG TIFF",
    "YCbCr": "JPEG TIFF",
}
CASES = [
    pytest.param(mode, format, orientation, id=f"{mode}-{format}-{orientation}")
    for mode, formats in MODES.items()
    for format in formats.split()
    for orientation in (range(1, 9) if format in KEEPS_EXIF else (1,))
]
LOSSY = frozenset({"JPEG", "AVIF", "HEIF"})
# Largest error of a pixel of a lossy file re-read, in grey levels of 255.
TOLERANCE = 7


def reread(data: bytes, format: str, alpha: bool, bits: int) -> np.ndarray:
    """(H, W, C) pixels as a reader of another make sees them: OpenCV, or Pillow.

    OpenCV reads no TGA and no mirrored AVIF with transparency, and multiplies the transparency of an 8-bit TIFF into
    its colours.
    """
    if format == "HEIF":
        array = np.asarray(pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False))
    elif format in ("TGA", "J2K") or (alpha and bits == 8 and format in ("TIFF", "JPEG2000", "AVIF")):
        array = np.asarray(Image.open(io.BytesIO(data)))
    else:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if array.ndim == 3:
            array = array[:, :, [2, 1, 0, 3][: array.shape[2]]]
    return array if array.ndim == 3 else array[:, :, None]


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """As a reader that applies the orientation (OpenCV with TIFF) sees it."""
    array = array.transpose(1, 0, 2) if orientation >= 5 else array
    return {
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        6: array[:, ::-1],
        7: array[::-1, ::-1],
        8: array[::-1],
    }.get(orientation, array)


def magic(data: bytes) -> str:
    starts = {
        b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"RIFF": "WEBP", b"BM": "BMP",
        b"P5": "PPM", b"P6": "PPM", b"\0\0\0\x0cjP": "JPEG2000", b"\xff\x4f\xff\x51": "J2K",
    }  # fmt: skip
    brands = {b"avif": "AVIF", b"heic": "HEIF", b"heix": "HEIF"}
    if data[4:8] == b"ftyp":
        return brands[data[8:12]]
    return next((format for start, format in starts.items() if data.startswith(start)), "TGA")


def spread(array: np.ndarray) -> np.ndarray:
    """Grey, grey with alpha, RGB or RGBA, as RGB or RGBA."""
    return array[:, :, {1: [0, 0, 0], 2: [0, 0, 0, 1]}.get(array.shape[2], slice(None))]


@pytest.mark.parametrize(("mode", "format", "orientation"), CASES)
def test_what_goes_in_comes_out(mode, format, orientation, capfd) -> None:
    data = source(mode, format, exif_block(orientation))
    want = expected(mode)
    is_16_bit = want.dtype == np.uint16
    top = 65535 if is_16_bit else 255
    tolerance = top // 255 * TOLERANCE if format in LOSSY or mode == "YCbCr" else 0
    if is_16_bit and format == "JPEG2000":  # OpenCV writes it lossily, by a few of 65536 levels
        tolerance = 64
    alpha = want.shape[2] in (2, 4)

    # Decoded: size, depth, greyness, transparency and values.
    photo = decode(data)
    assert (photo.width, photo.height, photo.bits, photo.format) == (W, H, 16 if is_16_bit else 8, format)
    assert photo.grey == (mode in ("1", "L", "LA", "L16", "LA16", "grey P", "grey RGB"))
    assert photo.rgb.dtype == np.float32
    colour = spread(want)[:, :, :3].astype(int)
    assert np.abs(np.round(photo.rgb * top) - colour).max() <= tolerance
    assert (photo.alpha is not None) == alpha
    if alpha:
        assert photo.alpha.dtype == want.dtype
        assert np.abs(photo.alpha.astype(int) - want[:, :, -1]).max() <= tolerance

    # A dry photograph: the same file.
    assert encode(photo, photo.rgb.copy()) == data

    # A dry photograph as another, lossless format: the same values.
    png = reread(encode(photo, photo.rgb, "PNG"), "PNG", alpha, photo.bits)
    assert png.dtype == want.dtype
    np.testing.assert_array_equal(spread(png)[:, :, :3], np.round(photo.rgb * top))
    if alpha:
        np.testing.assert_array_equal(png[:, :, -1], photo.alpha)

    # A restored one. 16-bit colour in JPEG 2000 cannot be written, and says so (tested elsewhere).
    if format == "JPEG2000" and mode in ("RGB16", "RGBA16"):
        return
    # The stand-in halves the brightness and tints: grey must not show it.
    restored = photo.rgb * np.float32([0.5, 0.5, 0.4] if not photo.grey else [0.5, 0.5, 0.5])
    tinted = restored + (np.float32([0.02, -0.01, 0]) if photo.grey else 0)
    result = encode(photo, tinted, quality=100)
    assert magic(result) == format
    back = reread(result, format, alpha, photo.bits)
    if photo.grey:
        halved = restored[:, :, :1] + np.float32(0.299 * 0.02 - 0.587 * 0.01)
        assert np.ptp(spread(back)[:, :, :3].astype(int), axis=2).max() == 0
    else:
        halved = restored
    if photo.hidden is not None:
        halved = np.where(photo.hidden[:, :, None], photo.rgb, halved)
    halved = np.clip(spread(halved) * top, 0, top)
    if format == "TIFF":
        halved = turned(halved, orientation)
    assert back.shape[:2] == halved.shape[:2]
    assert back.dtype == want.dtype
    lossy = top // 255 * TOLERANCE if format in LOSSY else 0
    assert np.abs(spread(back)[:, :, :3] - halved).max() <= 0.51 + lossy
    if alpha:
        stored = photo.alpha[:, :, None]
        stored = turned(stored, orientation) if format == "TIFF" else stored
        assert np.abs(back[:, :, -1:].astype(int) - stored).max() <= (lossy if format != "WEBP" else 0)
    if photo.grey and format not in ("WEBP", "HEIF") and not photo.grey_as_rgb and not alpha:
        assert back.shape[2] == 1

    # The tags, on the grid as stored.
    again = decode(result)
    assert (again.width, again.height, again.bits, again.grey) == (W, H, photo.bits, photo.grey)
    if format in KEEPS_EXIF:
        tags = Image.Exif()
        tags.load(again.metadata.exif)
        assert (tags.get(274, 1), tags[271], tags.get_ifd(34665)[33434]) == (orientation, "Camera", 0.008)
    assert capfd.readouterr() == ("", "")
