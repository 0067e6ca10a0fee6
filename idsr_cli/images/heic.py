"""HEIC (HEIF with HEVC), the format of many telephones, through pillow-heif where that is installed.

Decoding a HEIC file includes its rotation, so the pixels are already turned. The EXIF orientation, which repeats the
rotation, is set to 1.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import ItemError, extra_hint
from idsr_cli.images.metadata import Metadata, tiff_directory
from idsr_cli.images.opener import check_size

if TYPE_CHECKING:
    import numpy as np

_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def is_heic(data: bytes) -> bool:
    """True if a file is HEIC. AVIF has the same container and is read by Pillow."""
    if data[4:8] != b"ftyp":
        return False
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, int.from_bytes(data[:4], "big"), 4))}
    return not brands & {b"avif", b"avis"} and bool(brands & _BRANDS)


def _library() -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise ItemError("HEIC needs pillow-heif", hint=extra_hint("heic")) from None
    return pillow_heif


def decode(data: bytes) -> tuple[np.ndarray, Metadata]:
    """The primary image, (H, W, C) uint8, or uint16 where the file has 10 or 12 bits, and the metadata.

    Raises:
        ItemError: pillow-heif is missing, or the picture too large.
    """
    import numpy as np

    heif = _library()
    file = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    check_size(*file.size)
    array = np.array(file)
    info = dict(file.info)
    heif.set_orientation(info)
    metadata = Metadata(
        exif=tiff_directory.without_thumbnail((info.get("exif") or b"").removeprefix(b"Exif\0\0")),
        icc=info.get("icc_profile") or b"",
        xmp=info.get("xmp") or b"",
    )
    return (array[:, :, None] if array.ndim == 2 else array), metadata


def encode(pixels: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """The bytes of a file without colour subsampling; 16 bits are written as 10.

    Raises:
        ItemError: pillow-heif is missing.
    """
    import numpy as np

    heif = _library()
    height, width = pixels.shape[:2]
    samples = np.ascontiguousarray(pixels.reshape(height, width, -1))
    mode = _MODES[samples.shape[2]] + (";16" if samples.dtype == np.uint16 else "")
    # pillow-heif turns an EXIF orientation into a rotation that readers apply.
    metadata = replace(metadata, exif=tiff_directory.reset_orientation(metadata.exif))
    options: dict[str, Any] = {"quality": quality, "chroma": 444}
    if metadata.exif:
        options["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    stream = io.BytesIO()
    heif.from_bytes(mode, (width, height), samples.tobytes()).save(stream, **options)
    return stream.getvalue()
