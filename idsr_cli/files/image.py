"""Photographs from bytes and back, on the stored pixel grid.

What is kept: width and height as stored (the EXIF orientation is carried along as a tag, never applied), bit depth,
transparency, grey as grey, colour profile, EXIF without its thumbnail, XMP where the format has a place for it, and
resolution. No colour management: the numbers in the file are the numbers processed.

What changes: palette pictures come back as RGB, CMYK as RGB (through the embedded profile if there is one). The first
page of several is read; `Photo.pages` tells.
"""

from __future__ import annotations

import io
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import ItemError
from idsr_cli.files import encoders
from idsr_cli.files.faults import item_error, one_line
from idsr_cli.files.tiff_orientation import without_orientation

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# The suffix decides the encoder. Formats that can be read but are not here (GIF, PSD, ...) need another output format.
SUFFIX_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".avif": "AVIF",
    ".tga": "TGA",
}
_HOLDS_ALPHA = frozenset({"PNG", "TIFF", "WEBP", "JPEG2000", "AVIF", "TGA"})
_HOLDS_16_BITS = {"PNG": encoders.png, "TIFF": encoders.tiff, "PPM": encoders.ppm}

JPEG_QUALITY = 95

# TIFF keeps its layout (size, strips, compression, ...) in the same directory as EXIF. These tags belong to the file
# that was read and would contradict the one written.
_LAYOUT_TAGS = frozenset({
    *range(254, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 318, 319, 320, *range(322, 326),
    330, 332, 338, 339, 347, 512, 513, 514, *range(529, 533), 700, 34675,
})  # fmt: skip

# Pillow warns about odd metadata. Warnings can be silenced only for the whole process, so one thread at a time.
_quiet = threading.Lock()


@dataclass(frozen=True, eq=False)
class Photo:
    """One decoded photograph.

    Attributes:
        rgb: (H, W, 3) float32 in [0, 1]; three equal channels if `grey`.
        alpha: (H, W) uint8 or uint16 as stored, or None.
        grey: stored as grey.
        bits: 8 or 16 per channel, as stored.
        format: Pillow's name of the format read ("JPEG", "PNG", ...).
        lossless: the file read was losslessly compressed, where its format has both kinds (WebP).
        pages: number of pages or frames in the file; `rgb` is the first.
        metadata: what goes back into the file: exif, icc_profile, dpi, xmp.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    bits: int = 8
    format: str = "PNG"
    lossless: bool = True
    pages: int = 1
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Pixels per row."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.rgb.shape[0])


def read_photo(path: Path) -> Photo:
    """Read and decode one file.

    Raises:
        ItemError: the file cannot be read, or is no photograph; `path` is set.
    """
    try:
        # Reading the bytes ourselves makes every path work (cv2 cannot open all of them on Windows).
        return decode(path.read_bytes())
    except ItemError as error:
        raise ItemError(error.reason, path=path, hint=error.hint) from error
    except OSError as error:
        raise item_error(error, path) from error


def decode(data: bytes) -> Photo:
    """Decode the bytes of an image file.

    Raises:
        ItemError: empty, no image, damaged, too large, or pixels without an agreed range (32-bit integer, float).
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ItemError("the file is empty")
    data, orientation = without_orientation(data)
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
        deep = _is_16_bit(image)
        # Pillow's decoder sees truncation that OpenCV's passes over, so it runs even where OpenCV's array is used.
        image.load()
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _photo(image, data, deep, orientation)
    except UnidentifiedImageError:
        raise ItemError("not an image, or of a kind that cannot be read") from None
    except Image.DecompressionBombError as error:
        raise ItemError(f"too large: {one_line(error).split(', could')[0].lower()}") from None
    except (ItemError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, ... on bad data
        raise ItemError(f"damaged image: {one_line(error)}") from error


def encode(photo: Photo, rgb: np.ndarray, format: str | None = None, quality: int = JPEG_QUALITY) -> bytes:
    """Encode new pixels in the form of the photograph they came from.

    Args:
        photo: the photograph as read; its depth, transparency and metadata are kept.
        rgb: (H, W, 3) float32 in [0, 1], same size as `photo.rgb`.
        format: one of the values of SUFFIX_FORMATS; None = as read.
        quality: 1..100 for JPEG (always 4:4:4), lossy WebP and AVIF.

    Raises:
        ItemError: the format cannot hold the picture.
    """
    import numpy as np
    from PIL import Image

    if rgb.shape != photo.rgb.shape:
        raise ValueError(f"rgb is {rgb.shape}, the photograph {photo.rgb.shape}")
    format = format or ("JPEG" if photo.format == "MPO" else photo.format)
    if format not in SUFFIX_FORMATS.values():
        raise ItemError(f"{format} cannot be written", hint="choose another with `--format png`")
    if photo.alpha is not None and format not in _HOLDS_ALPHA:
        raise ItemError(f"{format} cannot hold transparency", hint="choose another with `--format png`")

    deep = photo.bits == 16 and format in _HOLDS_16_BITS
    if photo.grey:
        rgb = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    peak = np.float32(65535 if deep else 255)
    pixels = np.clip(rgb * peak + np.float32(0.5), 0, peak).astype(np.uint16 if deep else np.uint8)
    if photo.alpha is not None:
        alpha = (
            photo.alpha if deep or photo.bits == 8 else ((photo.alpha.astype(np.uint32) + 128) // 257).astype(np.uint8)
        )
        pixels = np.dstack([pixels, alpha])
    if deep or format == "TIFF":
        return _HOLDS_16_BITS[format](pixels, photo.metadata)
    try:
        return _save(Image.fromarray(pixels), format, photo, quality)
    except (OSError, ValueError) as error:
        raise ItemError(f"cannot be written as {format}: {one_line(error)}") from error


def _save(image: Image.Image, format: str, photo: Photo, quality: int) -> bytes:
    options: dict[str, Any] = dict(photo.metadata)
    if format == "JPEG":
        options.update(quality=quality, subsampling="4:4:4")
    elif format == "WEBP":
        # exact: colours under full transparency are pixels too.
        options.update(quality=quality, exact=True, lossless=photo.format == "WEBP" and photo.lossless)
    elif format == "AVIF":
        options.update(quality=quality, subsampling="4:4:4")
    if format not in ("JPEG", "WEBP", "AVIF"):
        options.pop("xmp", None)
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


# --- decoding --------------------------------------------------------------------------------------------------------


def _is_16_bit(image: Image.Image) -> bool:
    """Whether an image just opened has 16 bits per channel; Pillow's mode does not tell ("RGB" either way)."""
    for tile in getattr(image, "tile", []):
        args = tile[3]
        if ";16" in str(args):
            return True
        if image.format == "PPM" and isinstance(args, tuple) and any(isinstance(a, int) and a > 255 for a in args):
            return True
    return image.mode.startswith("I;16")


def _photo(image: Image.Image, data: bytes, deep: bool, orientation: int) -> Photo:
    import numpy as np

    metadata = _metadata(image, orientation)
    converted = _to_plain(image, deep)
    if image.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
        metadata.pop("icc_profile", None)  # it describes the colours as stored, not the RGB made of them
    if deep and converted.mode in ("RGB", "RGBA"):
        array = _wide_pixels(data, converted)
    else:
        array = np.asarray(converted)
        array = array.astype(np.uint16) if deep else array
    if array.ndim == 2:
        array = array[:, :, None]
    bits = 8 * array.dtype.itemsize
    channels = array.shape[2]
    colour = array[:, :, : channels - 1 if channels in (2, 4) else channels]
    unit = np.divide(colour, np.float32(2**bits - 1), dtype=np.float32)
    grey = colour.shape[2] == 1
    return Photo(
        rgb=np.repeat(unit, 3, axis=2) if grey else unit,
        alpha=array[:, :, -1].copy() if channels in (2, 4) else None,
        grey=grey,
        bits=bits,
        format=image.format or "PNG",
        lossless=image.format != "WEBP" or _webp_is_lossless(data),
        # An MPO is one photograph: the other "pages" are previews or a second eye.
        pages=1 if image.format in ("MPO", "JPEG") else int(getattr(image, "n_frames", 1)),
        metadata=metadata,
    )


def _to_plain(image: Image.Image, deep: bool) -> Image.Image:
    """The image in one of the modes L, LA, RGB, RGBA, or a 16-bit grey mode."""
    mode = image.mode
    see_through = "transparency" in image.info
    if mode.startswith("I;16") or (mode == "I" and deep):
        return image
    if mode in ("1", "L"):
        return image.convert("LA" if see_through else "L")
    if mode in ("RGB", "P"):
        return image.convert("RGBA" if see_through else "RGB")
    if mode in ("LA", "RGBA"):
        return image
    if mode == "La":
        return image.convert("LA")
    if mode in ("PA", "RGBa"):
        return image.convert("RGBA")
    if mode == "CMYK":
        return _from_cmyk(image)
    if mode in ("RGBX", "YCbCr", "HSV"):
        return image.convert("RGB")
    raise ItemError(
        f"pixels of kind {mode} have no agreed range", hint="convert the image to 8 or 16 bits per channel first"
    )


def _from_cmyk(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if profile:
        try:
            rgb = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if rgb is not None:
                return rgb
        except (ImageCms.PyCMSError, OSError):
            pass  # a profile that does not fit its picture is common; the plain formula is the next best
    return image.convert("RGB")


def _wide_pixels(data: bytes, image: Image.Image) -> np.ndarray:
    """The 16-bit pixels, (H, W, 2, 3 or 4), which Pillow has no mode for; `image` is its 8-bit view of them."""
    import cv2
    import numpy as np

    # IMREAD_UNCHANGED leaves depth, channels and orientation alone.
    array = cv2.imdecode(np.frombuffer(_pixels_only(data), np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.shape[:2] != (image.height, image.width) or array.ndim != 3:
        raise ItemError("this kind of 16-bit image cannot be read", hint="save it as a plain 16-bit PNG or TIFF")
    if data.startswith(b"\x89PNG") and data[25] == 4:  # grey with alpha, which both libraries spread over RGBA
        return array[:, :, [0, -1]]
    # OpenCV's order is BGR; a colour key (tRNS) it may or may not have turned into a fourth channel.
    return array[:, :, [2, 1, 0, 3] if array.shape[2] == 4 else [2, 1, 0]]


def _pixels_only(data: bytes) -> bytes:
    """A PNG without the chunks that say nothing about pixels: libpng prints its doubts about them to stderr."""
    if not data.startswith(b"\x89PNG"):
        return data
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if name[:1].isupper() or name == b"tRNS":  # an upper-case first letter marks a critical chunk
            parts.append(data[at:end])
        at = end
    return b"".join(parts)


def _webp_is_lossless(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        name = data[at : at + 4]
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        at += at & 1
    return False


def _metadata(image: Image.Image, orientation: int) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    exif = _exif(image, orientation)
    if exif:
        kept["exif"] = exif
    if image.info.get("icc_profile"):
        kept["icc_profile"] = image.info["icc_profile"]
    if image.info.get("xmp"):
        kept["xmp"] = image.info["xmp"]
    dpi = image.info.get("dpi")
    if dpi and len(dpi) == 2 and all(0 < float(d) < 1e6 for d in dpi):
        kept["dpi"] = (float(dpi[0]), float(dpi[1]))
    return kept


def _exif(image: Image.Image, orientation: int) -> bytes | None:
    """EXIF to write again: without thumbnail and file layout. `orientation` replaces the tag's value unless it is 1."""
    from PIL import ExifTags, Image

    tag = int(ExifTags.Base.Orientation)
    try:
        exif = image.getexif()
    except Exception:  # damaged EXIF is no reason to refuse the photograph
        exif = Image.Exif()
    if image.format in ("TIFF", "MPO"):
        for layout in _LAYOUT_TAGS & set(exif):
            del exif[layout]
    if orientation != 1:
        exif[tag] = orientation
    if not exif:
        return None
    try:
        # Only the main directory and those it points to are written, so the thumbnail of the rainy picture goes.
        return exif.tobytes()
    except Exception:  # some value cannot be written back; the one that matters for the pixels can
        alone = Image.Exif()
        alone[tag] = exif.get(tag, 1)
        return alone.tobytes()
