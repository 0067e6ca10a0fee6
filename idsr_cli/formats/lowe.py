"""The .key text of Lowe's SIFT demo, which Bundler and VLFeat's `vl_ubcread` read too.

First line `N 128`; then per keypoint a line `row column scale orientation`, and the descriptor, 20 numbers a line. Row
comes before column; (0, 0) is the centre of the top-left pixel. Scale is sigma in pixels. Orientation is in radians in
[-pi, pi] and *counter-clockwise* on screen, the opposite of OpenCV's. Descriptors are in OpenCV's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsr_cli.formats.plain_text import ascii_file, byte_columns, byte_texts, counted_rows, frame_texts
from idsr_cli.formats.stored import Stored, stored
from idsr_cli.keypoints import Keypoints

_NUMBERS_A_LINE = 20  # Bundler requires it


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes, ASCII; `meta` is not written."""
    import numpy as np

    x, y = keypoints.xy.T
    angle = keypoints.angle.astype(np.float64)
    turned = -np.deg2rad(np.where(angle > 180, angle - 360, angle))
    starts = frame_texts("%.4f %.4f %.4f %.6f", y, x, keypoints.scale, turned)
    lines = [f"{len(keypoints)} 128"]
    for start, numbers in zip(starts, byte_texts(keypoints.descriptors), strict=True):
        lines.append(start)
        for first in range(0, len(numbers), _NUMBERS_A_LINE):
            lines.append(f" {' '.join(numbers[first : first + _NUMBERS_A_LINE])}")
    return ascii_file(lines)


def decode(data: bytes) -> Stored:
    """The keypoints of a file; `ValueError` if it is not one."""
    import numpy as np

    rows = counted_rows(data)
    return stored(rows[:, 1::-1], rows[:, 2], byte_columns(rows[:, 4:]), angle=-np.rad2deg(rows[:, 3]))
