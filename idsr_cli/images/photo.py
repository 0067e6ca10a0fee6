"""Photographs from bytes and back, on the stored pixel grid.

Kept: width and height as stored (the EXIF orientation stays a tag and is not applied), bit depth, transparency and the
colours hidden under it, grey as grey, colour profile, colours that are described by number, EXIF without its thumbnail,
XMP, IPTC and resolution where the format has a place for them, the texts of a PNG and the internal mask of a TIFF. If
the pixels did not change, the result is the bytes of the original file. There is no colour management: the numbers in
the file are the numbers processed.

Changed: palette pictures become RGB (grey if all their colours are grey), bilevel ones 8-bit grey, CMYK 8-bit sRGB
(through the embedded profile if there is one). HEIC of 10 or 12 bits is written with 10, AVIF with 8. TIFFs are written
deflated, in strips. Only the first picture of a file is read; `Photo.pages` has their number. Previews and masks do not
count, and are not taken for the photograph.

Lost: thumbnails, previews, gain maps, videos behind a photograph, and what the output format has no place for.
`dropped` names all but the thumbnails and previews.

Refused: pixels without an agreed range (float, signed, 32-bit), more than one channel besides the colours, raw
photographs, and what takes too much memory (before it is read).
"""

from __future__ import annotations

import io
import mmap
import os
import re
import struct
import zlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, cast

from idsr_cli.arguments import path_text
from idsr_cli.errors import ItemError
from idsr_cli.files.faults import item_error, one_line
from idsr_cli.files.stores import StorePath, location
from idsr_cli.images import heic, opener, sixteen_bit, tiff
from idsr_cli.images.encoders import ENCODERS, JPEG_QUALITY, Encoder, Settings, fitted
from idsr_cli.images.metadata import (
    Metadata,
    heif_items,
    icc_space,
    jp2_boxes,
    png_chunks,
    read_metadata,
    tiff_metadata,
)
from idsr_cli.images.metadata import tiff_directory as directories

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# EXIF orientation -> slices of rows and columns that flip the array, after the transposition that 5 to 8 begin with.
_BACK = slice(None, None, -1)
_FLIPS = {
    1: (slice(None), slice(None)), 2: (slice(None), _BACK), 3: (_BACK, _BACK), 4: (_BACK, slice(None)),
    5: (slice(None), slice(None)), 6: (slice(None), _BACK), 7: (_BACK, _BACK), 8: (_BACK, slice(None)),
}  # fmt: skip

# Longest file that is read, bytes: the most pixels there may be, 8 bytes each, and room for metadata.
MAX_BYTES = 8 * opener.MAX_PIXELS + (1 << 28)
# Files up to this long are read before their header is looked at.
_SMALL = 1 << 24


@dataclass(frozen=True, eq=False)
class Photo:
    """One decoded photograph.

    Attributes:
        rgb: (H, W, 3) float32 in [0, 1]; three equal channels if stored as grey.
        alpha: (H, W) uint8 or uint16 as stored, or None.
        grey: every pixel is grey; the photograph is written as grey again.
        grey_as_rgb: grey, but stored in three channels (always so in WebP), and written that way again.
        bits: 8 or 16 per channel, as stored (10 and 12 count as 16).
        format: name of the format read: a key of `ENCODERS`, "J2K" (a bare JPEG 2000 codestream), or another name that
            Pillow uses.
        lossless: True unless the file is a lossy WebP.
        progressive: the file is a progressive JPEG.
        pages: number of pages or frames in the file; `rgb` is the first.
        metadata: what is written back into the file.
        orientation: EXIF's, 1..8: how a viewer turns the stored grid. A picture without EXIF gets a tag that says so.
        source: the file's bytes; b"" for a photograph that was not read from a file.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    grey_as_rgb: bool = False
    bits: int = 8
    format: str = "PNG"
    lossless: bool = True
    progressive: bool = False
    pages: int = 1
    metadata: Metadata = field(default_factory=Metadata)
    orientation: int = 1
    source: bytes = field(default=b"", repr=False)

    @property
    def width(self) -> int:
        """Pixels per row."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.rgb.shape[0])

    @property
    def hidden(self) -> np.ndarray | None:
        """(H, W) bool: fully transparent pixels; None if no pixel is, or all are."""
        if self.alpha is None or self.metadata.extra_sample != 2:
            return None
        hidden: np.ndarray = self.alpha == 0
        return hidden if hidden.any() and not hidden.all() else None

    @property
    def oriented_rgb(self) -> np.ndarray:
        """`rgb` with the EXIF orientation applied, contiguous."""
        import numpy as np

        return np.ascontiguousarray(apply_orientation(self.rgb, self.orientation))

    @cached_property
    def visible(self) -> np.ndarray:
        """`rgb`, with the colours under full transparency replaced by the nearest visible ones.

        Otherwise whatever an image editor left there (black, rain, another picture) would bleed over the visible edge.
        """
        hidden = self.hidden
        if hidden is None:
            return self.rgb
        import cv2
        import numpy as np

        labels = cv2.distanceTransformWithLabels(
            hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
        )[1]
        # Each visible pixel has its own label; a hidden pixel has the label of the nearest visible one.
        nearest = np.empty((labels.max() + 1, 3), np.float32)
        nearest[labels[~hidden]] = self.rgb[~hidden]
        filled = self.rgb.copy()
        filled[hidden] = nearest[labels[hidden]]
        return filled


def apply_orientation(array: np.ndarray, orientation: int) -> np.ndarray:
    """An (H, W, ...) array on the stored grid, turned as a viewer turns it: the scene's top is at the top."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    return array[_FLIPS[orientation]]


def undo_orientation(array: np.ndarray, orientation: int) -> np.ndarray:
    """The inverse of `apply_orientation`: back to the stored grid."""
    array = array[_FLIPS[orientation]]
    return array.swapaxes(0, 1) if orientation >= 5 else array


def orient_points(xy: np.ndarray, image_size: tuple[int, int], orientation: int) -> np.ndarray:
    """Points on the stored grid, turned with their image by `apply_orientation`.

    Args:
        xy: (N, 2), pixels, origin at the centre of the top-left pixel.
        image_size: (width, height) of the stored image.
        orientation: EXIF's, 1..8.
    """
    import numpy as np

    ends = np.array(image_size) - 1
    if orientation >= 5:
        xy, ends = xy[:, ::-1], ends[::-1]
    rows, columns = _FLIPS[orientation]
    return np.where([columns == _BACK, rows == _BACK], ends - xy, xy)


def read_photo(path: str | os.PathLike[str] | StorePath) -> Photo:
    """Read and decode one file, or one object of a store (`s3://bucket/x.jpg`).

    Raises:
        ItemError: the file cannot be read, or is not a photograph; `path` is set.
        UsageError: the path is neither text nor a path, or a URL that cannot be used.
    """
    place = path if isinstance(path, StorePath) else location(path_text("a photograph", path))
    try:
        if isinstance(place, StorePath):
            return decode(_read_object(place))
        # Reading the bytes ourselves makes every path work (cv2 cannot open all of them on Windows).
        with place.open("rb") as file:
            _check_before_reading(file)
            return decode(file.read())
    except ItemError as error:
        raise ItemError(error.reason, path=place, hint=error.hint) from error
    except OSError as error:
        raise item_error(error, place) from error


def _read_object(path: StorePath) -> bytes:
    status = path.stat()
    if status is not None and status.st_size is not None:
        _check_length(status.st_size)
    return path.read_bytes()


def _check_length(length: int) -> None:
    if length > MAX_BYTES:
        raise ItemError(f"too large: {length / 1e9:.1f} GB, the limit is {MAX_BYTES / 1e9:.1f} GB")


def _check_before_reading(file: BinaryIO) -> None:
    """Refuse a file that is too large to be held in memory, from its header.

    Raises:
        ItemError: with the reason.
    """
    length = os.fstat(file.fileno()).st_size
    if length <= _SMALL:
        return
    try:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            is_known = _check_header(cast(bytes, view), length)  # slices of it are bytes
        if not is_known and length <= MAX_BYTES:
            opener.check_size(*opener.open_file(file).size)
    except ItemError:
        raise
    except Exception:  # decoding will say what is wrong
        pass
    _check_length(length)
    file.seek(0)


def _check_header(data: bytes, length: int) -> bool:
    """Refuse a picture of too many pixels, or of many pages in a long file; False if Pillow can look at its header.

    Pillow reads all of a WebP and of an AVIF to do so.
    """
    if data[:4] == b"\x89PNG":
        opener.check_size(*struct.unpack_from(">II", data, 16))
    elif heic.is_container(data):
        opener.check_size(*heif_items.read(data).size)
    elif (picture := tiff.find(data)) is not None:
        opener.check_size(*picture.size)
        check_pages(picture.pages if length > MAX_BYTES else 1)
        tiff.check(picture, length)
    else:
        return data[:4] == b"RIFF"
    return True


def decode(data: bytes) -> Photo:
    """Decode the bytes of an image file.

    Raises:
        ItemError: empty, no image, damaged, too large, or pixels without an agreed range (32-bit integer, float).
    """
    from PIL import UnidentifiedImageError

    if not data:
        raise ItemError("the file is empty")
    try:
        if heic.is_heic(data):
            array, metadata, pages = heic.decode(data)
            return _photo(array, metadata, "HEIF", pages=pages, source=data)
        picture = tiff.find(data)
        if picture is not None:
            return _tiff_photo(data, picture)
        is_png = data.startswith(b"\x89PNG")
        image = opener.open_image(png_chunks.only_pixels(data, animation=True) if is_png else data)
        opener.check_size(*image.size)
        # Pillow's decoder detects truncated files and OpenCV's does not: it runs even where OpenCV's array is used.
        is_16_bit = _is_16_bit(image, data)
        image.load()
        with opener.quiet():
            metadata = read_metadata(image, data)
        array, metadata = _pixels(image, data, is_16_bit, metadata)
        return _photo(
            array,
            metadata,
            _format(image, data),
            palette=image.mode in ("P", "PA"),
            lossless=image.format != "WEBP" or _webp_is_lossless(data),
            progressive=bool(image.info.get("progressive")),
            pages=_pages(image, data),
            source=data,
        )
    except UnidentifiedImageError:
        raise ItemError("not an image, or of a kind that cannot be read") from None
    except (ItemError, MemoryError):
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ... on bad data
        raise ItemError(f"damaged image: {one_line(error)}") from error


def _tiff_photo(data: bytes, picture: tiff.Picture) -> Photo:
    tiff.check(picture, len(data))
    metadata = tiff_metadata(picture.head, picture.described, data)
    mask = tiff.mask(data, picture)
    if mask is not None:
        metadata = replace(metadata, mask=_packed(mask))
    elif picture.mask is not None:
        metadata = replace(metadata, dropped=(*metadata.dropped, "internal mask"))
    array = tiff.samples(data, picture)
    palette = False
    if array is None:
        image = opener.open_image(tiff.plain_file(data, picture))
        image.load()
        array, metadata = _pixels(image, data, False, metadata)
        palette = image.mode in ("P", "PA")
    return _photo(array, metadata, "TIFF", palette=palette, pages=picture.pages, source=data)


def _packed(mask: np.ndarray) -> bytes:
    import numpy as np

    return zlib.compress(np.packbits(mask, axis=1).tobytes())


def check_single(photo: Photo, name: object) -> None:
    """Refuse a file of several pictures.

    Raises:
        ItemError: it holds more than one; `name` is its path.
    """
    check_pages(photo.pages, name)


def check_pages(pages: int, name: object | None = None) -> None:
    """Refuse several pictures, the number of those in the file `name`.

    Raises:
        ItemError: there is more than one.
    """
    if pages > 1:
        raise ItemError(f"holds {pages} pictures, and only single ones are taken", path=name, hint="split it first")


def from_pillow(image: Image.Image) -> Photo:
    """A photograph from a Pillow image, as `decode` would read it from its file, without its metadata.

    Of the EXIF block the orientation is read. Pillow keeps 8 bits per channel of 16-bit colour files. It turns a TIFF
    upright when it decodes it: this is undone, unless it has been decoded before.

    Raises:
        ItemError: its file is damaged, it has no pixels, or they have no agreed range (32-bit integer, float).
    """
    import numpy as np

    if 0 in image.size:
        raise ItemError(f"an image of {image.width}x{image.height} pixels is empty")
    is_tiff = image.format == "TIFF"
    turned = 1
    try:
        with opener.quiet():  # decoding removes the tags of a TIFF, and closes the file
            orientation, shown = _pillow_orientation(image) if is_tiff else (1, 1)
            data = _file_behind(image)
            picture = tiff.find(data) if is_tiff else None
            pages = _pages(image, data) if picture is None else picture.pages
        image.load()
        with opener.quiet():
            if not is_tiff:
                orientation, _ = _pillow_orientation(image)
            elif image.getexif().get(directories.ORIENTATION, 1) != shown:
                turned = shown
            is_16_bit = image.mode.startswith("I;16")
            array = np.asarray(image if is_16_bit else _to_plain(image))
    except (ItemError, MemoryError):
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, ... on bad data
        raise ItemError(f"damaged image: {one_line(error)}") from error
    if is_16_bit:
        array = array.astype(np.uint16)  # in this machine's byte order
    array = np.ascontiguousarray(undo_orientation(array, turned))
    palette = image.mode in ("P", "PA")
    channels = array[:, :, None] if array.ndim == 2 else array
    lossless = image.format != "WEBP" or not data or _webp_is_lossless(data)
    name = image.format or "PNG"
    return _photo(channels, Metadata(), name, palette=palette, lossless=lossless, pages=pages, orientation=orientation)


def _pillow_orientation(image: Image.Image) -> tuple[int, int]:
    """The orientation that EXIF has, and the one that Pillow sees: that of XMP if EXIF has none. Both 1..8."""
    shown = image.getexif().get(directories.ORIENTATION, 1)
    if shown not in range(1, 9):
        return 1, 1
    xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    if not re.search(rf'tiff:Orientation(="|>){shown}', xmp if isinstance(xmp, str) else xmp.decode("latin-1")):
        return int(shown), int(shown)
    tags = getattr(image, "tag_v2", {})
    exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    return int(shown if shown in (tags.get(directories.ORIENTATION), directories.orientation(exif)) else 1), int(shown)


def _file_behind(image: Image.Image) -> bytes:
    """The file of a WebP, or of a TIFF of several pictures, that is not decoded yet; else b""."""
    if image.format != "WEBP" and not (image.format == "TIFF" and getattr(image, "n_frames", 1) > 1):
        return b""
    try:
        file = image.fp  # type: ignore[attr-defined]
        place = file.tell()
        file.seek(0)
        data = bytes(file.read())
        file.seek(place)
    except (AttributeError, OSError, ValueError):  # closed
        return b""
    return data if data[:4] == b"RIFF" or directories.header(data) is not None else b""


def from_array(array: np.ndarray) -> Photo:
    """A photograph from an array.

    Args:
        array: (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB or (H, W, 4) RGB and alpha; uint8, uint16, or float
            in [0, 1]. A float array's colours are used as they are, its alpha with 16 bits.

    Raises:
        ItemError: another shape or type, no pixels, or values outside [0, 1].
    """
    import numpy as np

    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise ItemError(
            f"an array of shape {array.shape} is no image", hint="give (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)"
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    channels = array[:, :, None] if array.ndim == 2 else array
    if array.dtype in (np.uint8, np.uint16):
        return _photo(channels, Metadata(), "PNG")
    if not np.issubdtype(array.dtype, np.floating):
        raise ItemError(f"pixels of type {array.dtype} have no agreed range", hint="give uint8, uint16 or float")
    if not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
        raise ItemError("an array of floats has values outside [0, 1]", hint="divide it by its range, such as 255")
    with_alpha = channels.shape[2] in (2, 4)
    colour = channels[:, :, :-1] if with_alpha else channels
    grey = colour.shape[2] == 1
    rgb = np.repeat(colour, 3, axis=2) if grey else colour
    # Only a pixel of alpha 0 is fully transparent.
    alpha = np.ceil(channels[:, :, -1].astype(np.float64) * 65535).astype(np.uint16) if with_alpha else None
    return Photo(np.array(rgb, np.float32, order="C"), alpha, grey=grey, bits=16)


def encode(photo: Photo, rgb: np.ndarray, format: str | None = None, quality: int = JPEG_QUALITY) -> bytes:
    """Encode new pixels with the depth, transparency and metadata of the photograph they came from.

    Unchanged pixels in the photograph's own format give the bytes of its file, whatever the quality. Colours under
    full transparency stay as they were.

    Args:
        photo: the photograph as read; its depth, transparency and metadata are kept.
        rgb: (H, W, 3) float32 in [0, 1], same size as `photo.rgb`.
        format: one of the values of `folders.SUFFIX_FORMATS`; None = as read.
        quality: 1..100 for JPEG (always 4:4:4), lossy WebP, AVIF and HEIC.

    Raises:
        ItemError: the format cannot hold the picture.
    """
    import numpy as np

    if rgb.shape != photo.rgb.shape:
        raise ValueError(f"rgb is {rgb.shape}, the photograph {photo.rgb.shape}")
    format = format or photo.format
    rgb = keep_hidden(photo, rgb)
    if photo.source and format == photo.format and np.array_equal(rgb, photo.rgb):
        return photo.source

    encoder, name = encoder_for(photo, format)
    metadata, _ = _fitted(photo, format)
    try:
        return encoder.encode(
            stored_pixels(photo, rgb, photo.bits == 16 and bool(encoder.sixteen_bit)),
            metadata,
            Settings(
                quality,
                lossless=photo.format == "WEBP" and photo.lossless,
                progressive=photo.progressive,
                codestream=format == "J2K",
            ),
        )
    except (OSError, ValueError) as error:
        raise ItemError(f"cannot be written as {name}: {one_line(error)}") from error


def dropped(photo: Photo, data: bytes, format: str | None = None) -> tuple[str, ...]:
    """Kinds of what the photograph's file holds and a file that `encode` made of it does not, sorted.

    "CMYK colours", "colour profile", "colour space", "comment", "EXIF", "extended XMP", "further pictures", "gain map",
    "internal mask", "IPTC", "JPEG 2000 boxes", "maker's notes", "motion video", "Photoshop data", "resolution", "texts"
    or "XMP".

    Args:
        photo: as given to `encode`.
        data: what `encode` returned.
        format: as given to `encode`.
    """
    if photo.source and data == photo.source:
        return ()
    lost = set(photo.metadata.dropped) | _fitted(photo, format or photo.format)[1]
    return tuple(sorted(lost, key=str.casefold))


def _fitted(photo: Photo, format: str) -> tuple[Metadata, set[str]]:
    """The metadata to write in a format, and the kinds that have no place in it."""
    metadata = photo.metadata
    if not metadata.exif and photo.orientation != 1:
        metadata = replace(metadata, exif=directories.orientation_only(photo.orientation))
    encoder, _ = encoder_for(photo, format)
    grey = photo.grey and not photo.grey_as_rgb and format != "WEBP"
    return fitted(metadata, encoder, grey, codestream=format == "J2K")


def keep_hidden(photo: Photo, rgb: np.ndarray) -> np.ndarray:
    """New pixels, with the photograph's own colours where it is fully transparent; (H, W, 3) float32."""
    import numpy as np

    hidden = photo.hidden
    return rgb if hidden is None else np.where(hidden[:, :, None], photo.rgb, rgb)


def encoder_for(photo: Photo, format: str) -> tuple[Encoder, str]:
    """The encoder that writes a photograph in a format, and the format's name for messages.

    Raises:
        ItemError: the format cannot hold the picture.
    """
    encoder = ENCODERS.get("JPEG2000" if format == "J2K" else format)
    name = {"HEIF": "HEIC", "JPEG2000": "JPEG 2000", "J2K": "JPEG 2000"}.get(format, format)
    if encoder is None:
        raise ItemError(f"{name} cannot be written", hint="choose another with `--format png`")
    if photo.alpha is not None and not encoder.alpha:
        raise ItemError(f"{name} cannot hold transparency", hint="choose another with `--format png`")
    if photo.alpha is not None and photo.metadata.extra_sample != 2 and format != "TIFF":
        raise ItemError(f"{name} cannot hold the fourth channel", hint="choose another with `--format tif`")
    grey = photo.grey and not photo.grey_as_rgb and photo.alpha is None
    if photo.bits == 16 and encoder.sixteen_bit == "grey" and not grey:
        raise ItemError(f"16-bit colour cannot be written as {name}", hint="choose another with `--format tif`")
    return encoder, name


def stored_pixels(photo: Photo, rgb: np.ndarray, is_16_bit: bool) -> np.ndarray:
    """(H, W) or (H, W, C) pixels as they go into the file: uint16 if `is_16_bit`, else uint8.

    Grey stays grey (one channel, or three equal ones if the photograph has them), and alpha is the last channel.
    """
    import numpy as np

    if photo.grey:
        rgb = grey_of(rgb)
    peak = np.float32(65535 if is_16_bit else 255)
    pixels: np.ndarray = np.clip(rgb * peak + np.float32(0.5), 0, peak).astype(np.uint16 if is_16_bit else np.uint8)
    if photo.grey_as_rgb:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if photo.alpha is None:
        return pixels
    alpha = photo.alpha
    if photo.bits == 16 and not is_16_bit:
        alpha = ((alpha.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.dstack([pixels, alpha])


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W), as grey photographs are written."""
    import numpy as np

    return rgb @ np.array([0.299, 0.587, 0.114], np.float32)


# --- decoding --------------------------------------------------------------------------------------------------------


def _photo(
    array: np.ndarray,
    metadata: Metadata,
    format: str,
    *,
    palette: bool = False,
    lossless: bool = True,
    progressive: bool = False,
    pages: int = 1,
    orientation: int | None = None,
    source: bytes = b"",
) -> Photo:
    """From (H, W, C) uint8 or uint16 pixels; the orientation is that of the metadata if none is given."""
    import numpy as np

    bits = 8 * array.dtype.itemsize
    channels = array.shape[2]
    with_alpha = channels in (2, 4)
    colour = array[:, :, : channels - 1] if with_alpha else array
    single = colour.shape[2] == 1
    # A lossy WebP of a grey picture decodes to channels one level apart.
    grey = single or _is_grey(colour, 1 if format == "WEBP" and not lossless else 0)
    unit = np.divide(colour, np.float32(2**bits - 1), dtype=np.float32)
    return Photo(
        rgb=np.repeat(unit, 3, axis=2) if single else unit,
        alpha=array[:, :, -1].copy() if with_alpha else None,
        grey=grey,
        grey_as_rgb=grey and not single and not palette,
        bits=bits,
        format=format,
        lossless=lossless,
        progressive=progressive,
        pages=pages,
        metadata=metadata,
        orientation=directories.orientation(metadata.exif) if orientation is None else orientation,
        source=source,
    )


def _is_grey(colour: np.ndarray, tolerance: int) -> bool:
    import cv2
    import numpy as np

    first = np.ascontiguousarray(colour[:, :, 0])
    return all(
        int(cv2.absdiff(first, np.ascontiguousarray(colour[:, :, other])).max()) <= tolerance for other in (1, 2)
    )


def _is_16_bit(image: Image.Image, data: bytes) -> bool:
    """True if the file has more than 8 bits per channel; Pillow's mode does not show it ("RGB" in both cases)."""
    if image.format == "PNG":
        return data[24] == 16
    if image.format == "JPEG2000":
        depth, signed = jp2_boxes.depth(data)
        if depth > 16 or signed:
            raise ItemError(
                f"{depth}-bit {'signed' if signed else 'integer'} pixels have no agreed range", hint=tiff.NO_RANGE
            )
        return depth > 8
    if image.format == "PPM":
        return image.mode.startswith("I") or any(
            isinstance(arg, int) and arg > 255 for tile in getattr(image, "tile", []) for arg in (tile[3] or ())
        )
    return image.mode.startswith("I;16")


def _pixels(image: Image.Image, data: bytes, is_16_bit: bool, metadata: Metadata) -> tuple[np.ndarray, Metadata]:
    """(H, W, C) uint8 or uint16, and the metadata that still apply to them."""
    import numpy as np

    if is_16_bit:
        array = {"PNG": sixteen_bit.png, "PPM": sixteen_bit.ppm, "JPEG2000": sixteen_bit.jp2}[str(image.format)](data)
        if array.shape[:2] != (image.height, image.width):
            raise ItemError("its header and its pixels differ in size")
        return array, metadata
    if image.format == "PNG" and image.mode in ("L", "RGB") and "transparency" in image.info:
        _scale_colour_key(image, data)
    with opener.quiet():
        array = np.asarray(_to_plain(image))
    if image.mode == "CMYK":
        metadata = replace(metadata, dropped=(*metadata.dropped, "CMYK colours"))
    if image.mode in ("CMYK", "LAB") or (image.mode == "YCbCr" and icc_space(metadata.icc) != "RGB"):
        metadata = replace(metadata, icc=b"")  # the profile describes the stored colours, not the RGB made from them
    return (array[:, :, None] if array.ndim == 2 else array), metadata


def _scale_colour_key(image: Image.Image, data: bytes) -> None:
    """Put a PNG's transparent colour, which has the depth of the file, in the range of the pixels, which is 8 bits."""
    depth = data[24]
    top = 2**depth - 1
    key = png_chunks.colour_key(data)
    values = [int.from_bytes(key[i : i + 2], "big") & top for i in range(0, len(key), 2)]
    if image.mode == "L" and values:
        image.info["transparency"] = values[0] * (255 // top)
    elif len(values) == 3:
        image.info["transparency"] = tuple(values)


def _to_plain(image: Image.Image) -> Image.Image:
    """The image in one of the modes L, LA, RGB, RGBA."""
    mode = image.mode
    see_through = "transparency" in image.info
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
    if mode == "LAB":
        raise ItemError("LAB colours are not supported", hint="convert the image to RGB first")
    raise ItemError(f"pixels of kind {mode} have no agreed range", hint=tiff.NO_RANGE)


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
            pass  # profiles that do not fit their picture are common; fall back to the plain formula
    return image.convert("RGB")


def _format(image: Image.Image, data: bytes) -> str:
    if image.format == "MPO":
        return "JPEG"
    if image.format == "JPEG2000" and jp2_boxes.is_codestream(data):
        return "J2K"
    return image.format or "PNG"


def _pages(image: Image.Image, data: bytes) -> int:
    """Pictures in the file, previews not counted."""
    if image.format in ("MPO", "JPEG"):  # the other pictures are previews, gain maps or a stereo partner
        return 1
    if image.format == "AVIF":
        return max(heif_items.read(data).pictures, int(getattr(image, "n_frames", 1)))
    return int(getattr(image, "n_frames", 1))


def _webp_is_lossless(data: bytes) -> bool:
    at = 12
    while at + 8 <= len(data):
        name = data[at : at + 4]
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        at += at & 1
    return False
