"""Pixels of decoded frames: their format, and exact conversion to and from RGB."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av
    import numpy as np

# FFmpeg's constants.
FULL_RANGE = 2
BT709 = 1
_UNSPECIFIED = 2
_FLOAT_RGB = "gbrpf32le"


def rgb_of(picture: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) float32 RGB in [0, 1], on the stored grid."""
    import numpy as np

    converted = picture.reformat(
        format=_FLOAT_RGB,
        src_colorspace=matrix_of(picture),
        dst_color_range=FULL_RANGE,
        interpolation=exact(),
        threads=1,
    )
    rgb = np.multiply(converted.to_ndarray(), np.float32(1 / _white()), order="C")
    return np.minimum(rgb, np.float32(1), out=rgb)


def picture_of(rgb: np.ndarray) -> av.VideoFrame:
    """The inverse of `rgb_of`: a frame of full-range float RGB."""
    import av
    import numpy as np

    return av.VideoFrame.from_ndarray(rgb * np.float32(_white()), format=_FLOAT_RGB)


@functools.cache
def _white() -> float:
    """The value of white in FFmpeg's float RGB: 0xFF00 / 0xFFFF instead of 1, half a grey level too dark.

    It is measured, so the result stays right if a later FFmpeg fixes this.
    """
    import av
    import numpy as np

    white = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 255, np.uint8), format="rgb24")
    return float(
        white.reformat(format=_FLOAT_RGB, dst_color_range=FULL_RANGE, interpolation=exact()).to_ndarray().max()
    )


def exact() -> int:
    """Flags for exact conversion: off by hundredths of a grey level, against a whole one with the fast defaults."""
    from av.video.reformatter import Interpolation

    return int(
        Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
    )


def matrix_of(picture: av.VideoFrame) -> int:
    """The Y'CbCr matrix. If the clip has none, the one players assume: BT.709 from 720 rows up, else BT.601."""
    from av.video.reformatter import Colorspace

    known = {1: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}
    if picture.colorspace in (_UNSPECIFIED, 0):
        return int(Colorspace.ITU709 if picture.height >= 720 or picture.format.is_rgb else Colorspace.ITU601)
    return int(known.get(picture.colorspace, Colorspace.ITU601))


def is_full(picture: av.VideoFrame) -> bool:
    """True if black is 0 and white the largest number, instead of video's 16 and 235."""
    return picture.color_range == FULL_RANGE or picture.format.name.startswith("yuvj")


def pixel_format(picture: av.VideoFrame, ten_bit: bool, notes: list[str]) -> str:
    """The closest of FFmpeg's pixel formats that the encoders take; losses are added to `notes`.

    Args:
        picture: a frame of the clip.
        ten_bit: the encoder supports 10 bits.
        notes: one line is appended for each property that is not kept.
    """
    layout = picture.format
    bits = max(part.bits for part in layout.components)
    if bits > 8 and not ten_bit:
        notes.append(f"{bits} bits per colour become 8")
    across, down = 8 // max(1, layout.chroma_width(8)), 8 // max(1, layout.chroma_height(8))
    grey = len(layout.components) < 3 and not layout.has_palette
    if len(layout.components) in (2, 4):
        notes.append("transparency is left out")
    if layout.is_rgb or layout.has_palette or (across, down) in ((1, 1), (1, 2)):
        chroma = "444"
    else:
        chroma = "420" if down == 2 else "422"
    if grey:
        chroma = "420"
    if (picture.width % 2 and chroma != "444") or (picture.height % 2 and chroma == "420"):
        notes.append(f"{picture.width}x{picture.height} is odd, so colour is stored at full size (4:4:4)")
        chroma = "444"
    return f"yuv{chroma}p{'10le' if bits > 8 and ten_bit else ''}"


def display_matrix(picture: av.VideoFrame) -> list[int] | None:
    """The clip's rotation and mirroring tag as FFmpeg's nine numbers, or None."""
    import numpy as np
    from av.sidedata.sidedata import Type

    entries: Any = picture.side_data  # iterates over values, not keys; its type stub has that wrong
    for entry in entries:
        if entry.type == Type.DISPLAYMATRIX:
            return [int(number) for number in np.frombuffer(bytes(entry), "=i4")]
    return None
