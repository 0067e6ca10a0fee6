"""The text format of the Oxford VGG affine region programs (`repeatability.m` and others).

First line 128, second line N; then per keypoint `x y a b c d1 ... d128`. (0, 0) is the centre of the top-left pixel.
The region is the ellipse a dx^2 + 2 b dx dy + c dy^2 = 1: for SIFT a circle, a = c = 1 / R^2 and b = 0, R = 3 sigma.
The format has no place for orientation. Descriptors are in OpenCV's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idsr_cli.formats.plain_text import ascii_file, byte_columns, byte_texts, frame_texts, number_rows
from idsr_cli.formats.stored import Stored, stored
from idsr_cli.keypoints import Keypoints

# The programs describe a region of three times the detected scale, and that region is what the file holds.
RADIUS = 3.0


def encode(keypoints: Keypoints, meta: Mapping[str, Any]) -> bytes:
    """The file's bytes, ASCII; `meta` is not written."""
    import numpy as np

    x, y = keypoints.xy.T
    a = 1 / (RADIUS * keypoints.scale.astype(np.float64)) ** 2
    starts = frame_texts("%.4f %.4f %.9g 0 %.9g", x, y, a, a)
    rows = zip(starts, byte_texts(keypoints.descriptors), strict=True)
    return ascii_file(["128", str(len(keypoints)), *(f"{start} {' '.join(row)}" for start, row in rows)])


def decode(data: bytes) -> Stored:
    """The keypoints of a file with circular regions; `ValueError` if it is not one."""
    import numpy as np

    dimension, count, body = (data.decode("ascii") + "\n").split("\n", 2)
    rows = number_rows(body, 133)
    if (int(dimension), int(count)) != (128, len(rows)):
        raise ValueError("not as many numbers as the first lines say")
    if (rows[:, 2] != rows[:, 4]).any() or rows[:, 3].any():
        raise ValueError("regions that are no circles")
    return stored(rows[:, :2], 1 / (RADIUS * np.sqrt(rows[:, 2])), byte_columns(rows[:, 5:]))
