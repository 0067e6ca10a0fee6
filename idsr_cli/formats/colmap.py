"""COLMAP's text format, one file per image, as `colmap feature_importer` reads it.

First line `N 128`; then per keypoint `x y scale orientation d1 ... d128`. COLMAP puts the origin at the *corner* of the
top-left pixel, so its centre is (0.5, 0.5). Scale is sigma in pixels; orientation is in radians, clockwise on screen.
Descriptors are OpenCV's (see `colmap_db`): match them among themselves, not with features COLMAP extracted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from idsr_cli.formats.plain_text import ascii_file, byte_columns, byte_texts, counted_rows, frame_texts
from idsr_cli.formats.stored import Stored, stored
from idsr_cli.keypoints import Keypoints

if TYPE_CHECKING:
    import numpy as np


def frames(keypoints: Keypoints) -> np.ndarray:
    """(N, 4) float64 in COLMAP's conventions: x, y from the corner, sigma in pixels, orientation in radians."""
    import numpy as np

    xy = keypoints.xy.astype(np.float64) + 0.5
    return np.column_stack([xy, keypoints.scale, np.deg2rad(keypoints.angle.astype(np.float64))])


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes, ASCII; `meta` is not written."""
    # Four decimals are as precise as COLMAP's float32 coordinates at 2000 pixels.
    starts = frame_texts("%.4f %.4f %.4f %.6f", *frames(keypoints).T)
    rows = zip(starts, byte_texts(keypoints.descriptors), strict=True)
    return ascii_file([f"{len(keypoints)} 128", *(f"{start} {' '.join(row)}" for start, row in rows)])


def decode(data: bytes) -> Stored:
    """The keypoints of a file; `ValueError` if it is not one."""
    import numpy as np

    rows = counted_rows(data)
    return stored(rows[:, :2] - 0.5, rows[:, 2], byte_columns(rows[:, 4:]), angle=np.rad2deg(rows[:, 3]))
