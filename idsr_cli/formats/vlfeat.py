"""The .sift text format of VLFeat's `sift` program.

No header; per keypoint a line `x y sigma theta d1 ... d128`. (0, 0) is the centre of the top-left pixel (VLFeat's
MATLAB functions count from 1). Theta is in radians, clockwise on screen. Within each of the 16 cells the directions of
the descriptor run the other way round than OpenCV's, from the same first one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from idsr_cli.formats.plain_text import ascii_file, byte_columns, byte_texts, frame_texts, number_rows
from idsr_cli.formats.stored import Stored, stored
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np


def _backwards() -> np.ndarray:
    """(128,) indices: the directions of each cell the other way round. Its own inverse."""
    import numpy as np

    return (8 * np.arange(16)[:, None] + -np.arange(8) % 8).ravel()


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes, ASCII; `meta` is not written."""
    import numpy as np

    x, y = keypoints.xy.T
    theta = np.deg2rad(keypoints.angle.astype(np.float64))
    starts = frame_texts("%.4f %.4f %.4f %.6f", x, y, keypoints.scale, theta)
    rows = byte_texts(keypoints.descriptors[:, _backwards()])
    return ascii_file([f"{start} {' '.join(row)}" for start, row in zip(starts, rows, strict=True)])


def decode(data: bytes) -> Stored:
    """The keypoints of a file; `ValueError` if it is not one."""
    import numpy as np

    rows = number_rows(data.decode("ascii"), 132)
    descriptors = byte_columns(rows[:, 4:])[:, _backwards()]
    return stored(rows[:, :2], rows[:, 2], descriptors, angle=np.rad2deg(rows[:, 3]))
