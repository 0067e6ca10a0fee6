"""HEIC (HEIF with HEVC), the format of many telephones, through pillow-heif where that is installed.

Decoding a HEIC file includes its rotation, so the pixels are already turned. The EXIF orientation, which repeats the
rotation, is set to 1.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from idsr_cli.errors import ItemError, extra_hint
from idsr_cli.images.metadata import Metadata, heif_items, tiff_directory, without_claims
from idsr_cli.images.opener import check_size

if TYPE_CHECKING:
    import numpy as np

_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"})
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def is_container(data: bytes) -> bool:
    """True for a file in the container of HEIC and AVIF."""
    return data[4:8] == b"ftyp"


def is_heic(data: bytes) -> bool:
    """True if a file is HEIC. AVIF has the same container and is read by Pillow."""
    if not is_container(data):
        return False
    brands = {data[8:12], *(data[i : i + 4] for i in range(16, int.from_bytes(data[:4], "big"), 4))}
    return not brands & {b"avif", b"avis"} and bool(brands & _BRANDS)


def _library() -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise ItemError("HEIC needs pillow-heif", hint=extra_hint("heic")) from None
    return pillow_heif


def decode(data: bytes) -> tuple[np.ndarray, Metadata, int]:
    """The primary image, (H, W, C) uint8, or uint16 where the file has 10 or 12 bits, metadata, number of pictures.

    Raises:
        ItemError: pillow-heif is missing, or the picture too large.
    """
    import numpy as np

    heif = _library()
    file = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    check_size(*file.size)
    array = np.array(file)
    info = dict(file.info)
    items = heif_items.read(data)
    exif = tiff_directory.without_thumbnail((info.get("exif") or b"").removeprefix(b"Exif\0\0"))
    info["exif"] = tiff_directory.with_orientation(exif, 1)
    heif.set_orientation(info)  # removes that of XMP
    metadata = without_claims(
        Metadata(
            exif=info["exif"],
            icc=info.get("icc_profile") or b"",
            xmp=info.get("xmp") or b"",
            cicp=None if info.get("icc_profile") else items.cicp,
            dropped=tuple(sorted(items.attachments)),
        )
    )
    return (array[:, :, None] if array.ndim == 2 else array), metadata, items.pictures


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
    exif = tiff_directory.with_orientation(metadata.exif, 1)
    options: dict[str, Any] = {"quality": quality, "chroma": 444}
    if exif:
        options["exif"] = b"Exif\0\0" + exif
    if metadata.xmp:
        options["xmp"] = metadata.xmp
    if metadata.icc:
        options["icc_profile"] = metadata.icc
    if metadata.cicp:
        primaries, transfer = metadata.cicp
        # BT.601's matrix, as without them: how the file keeps brightness and colour apart, which readers undo.
        options |= {"color_primaries": primaries, "transfer_characteristics": transfer, "matrix_coefficients": 6,
                    "full_range_flag": 1}  # fmt: skip
    stream = io.BytesIO()
    heif.from_bytes(mode, (width, height), samples.tobytes()).save(stream, **options)
    return stream.getvalue()
